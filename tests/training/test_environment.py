"""What a run records of the machine it runs on."""

import json

from flax_punkvae.training import environment


def test_the_environment_is_json():
    facts = json.loads(json.dumps(environment.describe()))
    assert facts["backend"] == "cpu"
    assert set(facts["libraries"]) >= {"jax", "flax", "optax", "orbax-checkpoint"}
