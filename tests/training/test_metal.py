"""What a run compiles lowers for Apple's METAL plugin with ops and types that the plugin has patterns for.

`metal_ops.txt` is the list, read from jax-metal 0.1.1. A lowering proves names and types, not numbers.
"""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from flax_punkvae.config import Config
from flax_punkvae.model import inference
from flax_punkvae.training import state as train_state
from flax_punkvae.training import steps
from helpers.metal import unsupported


@pytest.fixture(scope="module")
def state(small: Config) -> train_state.TrainState:
    return train_state.state_shapes(small)


def test_everything_a_run_compiles_is_supported(small: Config, state: train_state.TrainState):
    key = jax.random.key(0)
    images = jnp.zeros((8, 128, 128, 3), jnp.uint8)
    model = state.model
    assert unsupported(lambda key: train_state.init(model, key), key) == set()
    assert unsupported(steps.train_step, state, jnp.zeros(images.shape), key) == set()
    assert unsupported(steps.train_steps, state, images, jnp.zeros((3, 4), jnp.int32), key, 0, 3) == set()
    assert (
        unsupported(
            partial(steps.eval_step, model, beta=1.0),
            state.params,
            images=images,
            indices=jnp.zeros(4, jnp.int32),
            key=key,
        )
        == set()
    )
    assert unsupported(steps.is_finite, state) == set()
    assert unsupported(partial(inference.reconstruct, model), state.params, images) == set()
    assert unsupported(partial(inference.decode, model), state.params, jnp.zeros((2, 4))) == set()


def test_unsupported_ops_and_types_are_found():
    assert unsupported(jnp.cbrt, jnp.ones(3)) == {"stablehlo.cbrt"}
    assert "stablehlo.fft" in unsupported(lambda x: jnp.fft.rfft(x).real, jnp.ones(4))
    assert unsupported(lambda x: x.astype(jnp.bfloat16), jnp.ones(3)) == {"bf16"}
