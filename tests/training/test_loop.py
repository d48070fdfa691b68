"""The loop: steps per call, keys, signals."""

import dataclasses
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flax_punkvae.config import Config, TrainConfig
from flax_punkvae.errors import UserError
from flax_punkvae.training import checkpoints, loop, retention, steps
from flax_punkvae.training import state as train_state
from helpers.descriptions import DESCRIPTION


@given(st.floats(1e-6, 100))
def test_a_call_lasts_at_most_four_seconds_or_is_one_step(seconds: float):
    size = loop.steps_per_call(seconds)
    assert size == 1 or size * seconds <= 4.0 < (size + 1.001) * seconds


def test_keys_differ_by_name_and_seed():
    keys = [tuple(jax.random.key_data(key).tolist()) for seed in (0, 1) for key in loop.make_keys(seed).values()]
    assert len(set(keys)) == len(keys) == 12


def run(directory: Path, config: TrainConfig, photos: np.ndarray, *received: int, validation: int = 0) -> loop.Run:
    """Sixteen images to train on, less those for validation, and four to test on."""
    return loop.Run(
        directory=directory,
        config=config,
        images=jax.device_put(photos),
        grid_images=photos[:2],
        palette=None,
        description=DESCRIPTION,
        train_indices=np.arange(16 - validation),
        validation_indices=np.arange(16 - validation, 16),
        test_indices=np.arange(16, 20),
        keys=loop.make_keys(0),
        report=None,
        signals=list(received),
    )


def restored(run: loop.Run, target: train_state.TrainState, which: retention.Which = "last"):
    found = checkpoints.restore(run.checkpoints, target, which)
    assert found is not None
    return found.state, loop.Progress.of(found.meta)


def test_no_stream_moved_when_a_purpose_was_added():
    """Oracle: the split of five keys that runs were made with before there was a sixth purpose."""
    before = jax.random.split(jax.random.key(3), 5)
    keys = loop.make_keys(3)
    for name, key in zip(("init", "run", "order", "test", "samples"), before, strict=True):
        assert (jax.random.key_data(keys[name]) == jax.random.key_data(key)).all()


def test_a_signal_between_two_epochs_saves_and_stops(tmp_path: Path, small: Config, photos: np.ndarray):
    state = train_state.create_state(small, jax.random.key(0))
    stopped = run(tmp_path, small.train, photos, signal.SIGTERM)
    state = loop.train(stopped, state, loop.Progress())
    assert int(state.step) == 0 and retention.steps(stopped.checkpoints) == [0]
    resumed = run(tmp_path, small.train, photos)
    assert int(loop.train(resumed, *restored(resumed, state)).step) == 4


class Losses:
    """In place of `steps.evaluate`: these losses on the validation images, one an epoch."""

    def __init__(self, *losses: float) -> None:
        self.left = list(losses)

    def __call__(self, module, params, beta, images, indices, *_):
        loss = self.left.pop(0) if len(indices) == 8 else 9.0
        return {"loss": loss, "mse": loss, "kl": 0.0, "active_units": 1}


@pytest.mark.parametrize("stops", [(), (1, 2, 3, 4), (4,)])
def test_patience_stops_at_the_same_epoch_however_often_it_is_resumed(
    tmp_path: Path, small: Config, photos: np.ndarray, monkeypatch: pytest.MonkeyPatch, stops: tuple[int, ...]
):
    """Oracle: by hand. Losses 3 2 4 2 5, patience 3: the best is epoch 2, epochs 3 to 5 are not better."""
    monkeypatch.setattr(steps, "evaluate", Losses(3.0, 2.0, 4.0, 2.0, 5.0, 0.0))
    config = dataclasses.replace(small.train, epochs=6, patience=3, checkpoint_every=100)
    target = train_state.create_state(small, jax.random.key(0))
    # One step an epoch.
    for epoch in stops:
        part = run(tmp_path, dataclasses.replace(config, epochs=epoch), photos, validation=8)
        begun = retention.steps(part.checkpoints)
        loop.train(part, *(restored(part, target) if begun else (target, loop.Progress())))
    last = run(tmp_path, config, photos, validation=8)
    start = restored(last, target) if stops else (target, loop.Progress())
    progress = start[1]
    target = train_state.create_state(small, jax.random.key(0))
    state = loop.train(last, start[0], progress)
    assert int(state.step) == 5 and progress.best == loop.Best(2.0, 2)
    assert loop.is_finished(last, state, progress)
    assert int(restored(last, target, "best")[0].step) == 2
    # What has stopped early stays stopped.
    assert int(loop.train(last, *restored(last, target)).step) == 5


@pytest.mark.parametrize("bad", ["loss", "parameters"])
def test_what_is_not_finite_is_not_saved(
    tmp_path: Path, small: Config, photos: np.ndarray, monkeypatch: pytest.MonkeyPatch, bad: str
):
    """The third of four steps gives a loss, or the last leaves a parameter, that is not a number."""
    real = steps.train_steps

    def poisoned(state, *arguments):
        state, metrics = real(state, *arguments)
        if bad == "loss" and int(state.step) == 3:
            metrics["kl"] = metrics["kl"] * float("nan")
        if bad == "parameters" and int(state.step) == 4:
            state = state.replace(
                params=jax.tree.map(lambda leaf: leaf.at[(0,) * leaf.ndim].set(jax.numpy.inf), state.params)
            )
        return state, metrics

    state = train_state.create_state(small, jax.random.key(0))
    good = run(tmp_path, small.train, photos)
    monkeypatch.setattr(loop, "steps_per_call", lambda *_: 1)
    monkeypatch.setattr(steps, "train_steps", poisoned)
    with pytest.raises(UserError) as caught:
        loop.train(good, state, loop.Progress())
    message = str(caught.value)
    assert retention.steps(good.checkpoints) == [2]
    if bad == "loss":
        assert "in epoch 2 at step 1 of 2; " in message and "kl nan), previous step: loss " in message
    else:
        assert "in epoch 2 at step 2 of 2; the checkpoint of step 2 is unchanged" in message
