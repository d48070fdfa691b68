"""Checkpoints: an exact round trip, what is kept, damage found."""

import gc
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_punkvae.config import Config
from flax_punkvae.errors import UserError
from flax_punkvae.training import checkpoints, retention, sums
from flax_punkvae.training import state as train_state
from flax_punkvae.training.checkpoints import digest, restore
from flax_punkvae.training.retention import steps
from flax_punkvae.training.steps import train_steps
from helpers.descriptions import DESCRIPTION


@pytest.fixture(scope="module")
def trained(small: Config, photos: np.ndarray) -> train_state.TrainState:
    state = train_state.create_state(small, jax.random.key(0))
    indices = jnp.zeros((1, 8), jnp.int32)
    return train_steps(state, jnp.array(photos), indices, jax.random.key(1), 0, 1)[0]


@pytest.fixture(scope="module")
def fresh(small: Config) -> train_state.TrainState:
    return train_state.create_state(small, jax.random.key(9))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def meta(validation_loss: float | None = None, **totals: float) -> dict:
    return {"totals": totals, "best": None, "validation_loss": validation_loss}


def save(directory: Path, state: train_state.TrainState, meta: dict) -> None:
    checkpoints.save(directory, state, meta, DESCRIPTION)


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


def test_what_was_saved_comes_back_bit_for_bit(directory: Path, trained, fresh):
    save(directory, trained, meta(loss=0.1 + 0.2))
    restored = restore(directory, fresh)
    assert restored is not None
    assert digest((restored.state.step, restored.state.params, restored.state.opt_state)) == digest(
        (trained.step, trained.params, trained.opt_state)
    )
    assert restored.meta["totals"] == {"loss": 0.1 + 0.2}
    assert restored.damaged == []


def test_no_checkpoint_restores_nothing_and_makes_nothing(directory: Path, fresh):
    assert restore(directory, fresh) is None
    assert not directory.exists()


def test_the_last_two_and_the_best_are_kept(directory: Path, trained, fresh):
    for step, loss in enumerate([5.0, 1.0, 3.0, None, 4.0, 1.0], start=1):
        save(directory, at_step(trained, step), meta(loss))
    # Of equal ones the first.
    assert steps(directory) == [2, 5, 6]
    found = [restore(directory, fresh, which) for which in ("last", "best", 5)]
    assert [int(restored.state.step) for restored in found if restored] == [6, 2, 5]
    with pytest.raises(UserError, match=r"has no checkpoint of step 4: choose one of 2, 5, 6"):
        restore(directory, fresh, 4)


def test_without_validation_losses_the_last_two_are_kept_and_best_is_the_last(directory: Path, trained, fresh):
    for step in (1, 2, 3):
        save(directory, at_step(trained, step), meta())
    assert steps(directory) == [2, 3]
    restored = restore(directory, fresh, "best")
    assert restored is not None and int(restored.state.step) == 3


def test_a_step_saved_twice_is_saved_once(directory: Path, trained):
    save(directory, trained, meta(1.0))
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    save(directory, trained, meta())
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before


def damage(folder: Path) -> None:
    """Flip a bit in the middle of the largest data file."""
    path = max((file for file in folder.rglob("d/*") if file.is_file()), key=lambda file: file.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(directory: Path, trained, fresh):
    save(directory, trained, meta())
    save(directory, at_step(trained, 7), meta())
    damage(directory / "7")
    restored = restore(directory, fresh)
    assert restored is not None
    assert int(restored.state.step) == 1
    assert len(restored.damaged) == 1 and restored.damaged[0].startswith("7 (damaged: ")


def test_none_but_damaged_checkpoints_stop_the_run(directory: Path, trained, fresh):
    save(directory, trained, meta())
    damage(directory / "1")
    with pytest.raises(UserError, match=r"no intact checkpoint, only 1 \(damaged: "):
        restore(directory, fresh)


# A restore that fails half-way leaves tasks of the libraries' own to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_sums_made_over_damaged_files_are_no_certificate(directory: Path, trained, fresh):
    """Every file agrees with its sum, and still the leaves are not those that were saved, or cannot be read."""
    save(directory, trained, meta())
    save(directory, at_step(trained, 7), meta())
    manifest = directory / "7" / "state" / "manifest.ocdbt"
    manifest.write_bytes(manifest.read_bytes()[:-3])
    sums.write(directory / "7", ())
    restored = restore(directory, fresh)
    assert restored is not None
    assert int(restored.state.step) == 1 and "\n" not in restored.damaged[0]
    gc.collect()


def test_a_checkpoint_that_goes_while_it_is_read_is_not_called_damaged(
    directory: Path, trained, fresh, monkeypatch: pytest.MonkeyPatch
):
    """As beside a training that saves two more in the meantime."""
    save(directory, trained, meta())
    real = checkpoints._read_state

    def late(checkpoint: Path, target):
        if checkpoint.name == "1":
            for step in (2, 3):
                save(directory, at_step(trained, step), meta())
        return real(checkpoint, target)

    monkeypatch.setattr(checkpoints, "_read_state", late)
    restored = restore(directory, fresh)
    assert restored is not None
    assert int(restored.state.step) == 3 and restored.damaged == []


def test_a_link_is_never_followed_to_delete(directory: Path, trained, tmp_path: Path):
    """What tidying removes may be a link that somebody put there."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.tex").touch()
    save(directory, trained, meta())
    for name in ("8.saving", "9.deleting", "9"):
        (directory / name).symlink_to(elsewhere)
    retention.tidy(directory, 1)
    save(directory, at_step(trained, 9), meta())
    assert (elsewhere / "thesis.tex").exists()
    assert sorted(path.name for path in directory.iterdir()) == ["1", "9"]
