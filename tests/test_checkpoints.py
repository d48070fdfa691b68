"""Checkpoints: an exact round trip, what is kept, damage found."""

import contextlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_punkvae import train_state, training
from flax_punkvae.checkpoints import digest, open_manager, restore, save
from flax_punkvae.config import Config
from flax_punkvae.errors import UserError


@pytest.fixture(scope="module")
def trained(small: Config, photos: np.ndarray) -> train_state.TrainState:
    state = train_state.create_state(small, jax.random.key(0))
    indices = jnp.zeros((1, 8), jnp.int32)
    return training.train_steps(state, jnp.array(photos), indices, jax.random.key(1))[0]


@pytest.fixture(scope="module")
def fresh(small: Config) -> train_state.TrainState:
    return train_state.create_state(small, jax.random.key(9))


@pytest.fixture
def manager(tmp_path: Path):
    with contextlib.closing(open_manager(tmp_path / "checkpoints")) as manager:
        yield manager


def at_step(state: train_state.TrainState, step: int) -> train_state.TrainState:
    return state.replace(step=jnp.full((), step, jnp.int32))


def test_digest_sees_every_bit_type_shape_and_name():
    tree = {"a": np.zeros(4, np.float32), "b": np.ones(2, np.int32)}
    flipped = tree["a"].copy()
    flipped.view(np.uint32)[3] ^= 1
    others = [
        {**tree, "a": flipped},
        {**tree, "a": tree["a"].reshape(2, 2)},
        {**tree, "a": tree["a"].view(np.int32)},
        {"c": tree["a"], "b": tree["b"]},
        {"a": tree["a"]},
    ]
    assert len({digest(other) for other in [tree, *others]}) == 6
    assert digest({"b": tree["b"].copy(), "a": jnp.zeros(4)}) == digest(tree)


def test_what_was_saved_comes_back_bit_for_bit(tmp_path: Path, manager, trained, fresh):
    save(manager, trained, {"totals": {"loss": 0.1 + 0.2}}, None)
    with contextlib.closing(open_manager(tmp_path / "checkpoints")) as another:
        restored = restore(another, fresh)
    assert restored is not None
    assert digest((restored.state.step, restored.state.params, restored.state.opt_state)) == digest(
        (trained.step, trained.params, trained.opt_state)
    )
    assert restored.meta["totals"] == {"loss": 0.1 + 0.2}
    assert restored.damaged == []


def test_no_checkpoint_restores_nothing(manager, fresh):
    assert restore(manager, fresh) is None


def test_the_last_two_and_the_best_are_kept(manager, trained):
    for step, loss in enumerate([5.0, 1.0, 3.0, None, 4.0, 2.0], start=1):
        save(manager, at_step(trained, step), {"totals": {}}, loss)
    assert sorted(manager.all_steps()) == [2, 5, 6]


def test_a_step_saved_twice_is_saved_once(manager, trained):
    save(manager, trained, {"totals": {}}, 1.0)
    save(manager, trained, {"totals": {}}, None)
    assert list(manager.all_steps()) == [1]


def damage(folder: Path) -> None:
    """Flip a bit in the middle of the largest data file."""
    path = max((file for file in folder.rglob("d/*") if file.is_file()), key=lambda file: file.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(tmp_path: Path, manager, trained, fresh):
    save(manager, trained, {"totals": {}}, 2.0)
    save(manager, at_step(trained, 7), {"totals": {}}, 1.0)
    damage(tmp_path / "checkpoints" / "7")
    restored = restore(manager, fresh)
    assert restored is not None
    assert int(restored.state.step) == 1
    assert len(restored.damaged) == 1 and restored.damaged[0].startswith("7 ")


def test_none_but_damaged_checkpoints_stop_the_run(tmp_path: Path, manager, trained, fresh):
    save(manager, trained, {"totals": {}}, 2.0)
    damage(tmp_path / "checkpoints" / "1")
    with pytest.raises(UserError, match=r"expected a whole checkpoint, got only damaged ones: 1 "):
        restore(manager, fresh)
