"""Augmentation: shifted and mirrored images, by keys of their own, for as long as it lasts."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flax_punkvae.config import Config, DataConfig, ModelConfig, TrainConfig
from flax_punkvae.errors import UserError
from flax_punkvae.training import checkpoints, loop, steps
from flax_punkvae.training import state as train_state
from flax_punkvae.training.augmentation import Augmentation, augment, moved
from flax_punkvae.training.checkpoints import digest
from helpers.descriptions import DESCRIPTION

# Three of 4x6, in RGB.
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), np.uint8)
_augment = jax.jit(augment, static_argnames="augmentation")
_moved = jax.jit(moved)
seeds = st.integers(0, 2**31 - 1)


def shifted(image: np.ndarray, down: int, right: int, mirrored: bool) -> np.ndarray:
    """Oracle: cut out of NumPy's padding with the edge."""
    height, width, _ = image.shape
    room = max(abs(down), abs(right))
    padded = np.pad(image[:, ::-1] if mirrored else image, ((room, room), (room, room), (0, 0)), mode="edge")
    return padded[room - down : room - down + height, room - right : room - right + width]


def augmented(images: np.ndarray, seed: int, step: int = 0, **settings: int) -> np.ndarray:
    augmentation = Augmentation(**{"shift": 2, "flip": True, "steps": 10, **settings})
    return np.asarray(_augment(jnp.array(images), augmentation, jnp.array(step), jax.random.key(seed)))


@given(
    st.lists(st.tuples(st.integers(-7, 7), st.integers(-7, 7)), min_size=3, max_size=3),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.sampled_from([np.uint8, np.int32, np.float32]),
)
def test_moved_images_are_mirrored_shifted_and_continue_their_edge(shifts, flips, dtype):
    """Oracle: `shifted`."""
    images = IMAGES.astype(dtype)
    found = _moved(images, np.array(shifts, np.int32), np.array(flips))
    assert found.dtype == dtype
    expected = [shifted(image, y, x, flip) for image, (y, x), flip in zip(images, shifts, flips, strict=True)]
    np.testing.assert_array_equal(found, expected)


@given(seeds, st.sampled_from((0, 2)), st.booleans())
def test_augmented_images_are_among_the_shifted_and_mirrored(seed: int, shift: int, flip: bool):
    """Oracle: all images that `shifted` makes. The same key gives the same."""
    found = augmented(IMAGES, seed, shift=shift, flip=flip)
    offsets = range(-shift, shift + 1)
    for image, before in zip(found, IMAGES, strict=True):
        possible = [shifted(before, y, x, m) for y in offsets for x in offsets for m in ({False, flip})]
        assert any((image == other).all() for other in possible)
    np.testing.assert_array_equal(found, augmented(IMAGES, seed, shift=shift, flip=flip))
    # Whatever is beside it.
    np.testing.assert_array_equal(found[1], augmented(IMAGES[[2, 1, 0]], seed, shift=shift, flip=flip)[1])


@given(seeds)
def test_without_shift_and_flip_or_at_the_end_images_stay(seed: int):
    np.testing.assert_array_equal(augmented(IMAGES, seed, shift=0, flip=False), IMAGES)
    np.testing.assert_array_equal(augmented(IMAGES, seed, step=10), IMAGES)


def test_every_shift_is_equally_likely():
    """Oracle: 18 cells of 500 expected draws each, within four standard deviations (binomial)."""
    image = np.arange(9, dtype=np.uint8).reshape(3, 3, 1)
    found = augmented(np.broadcast_to(image, (9000, 3, 3, 1)), 0, shift=1)
    _, counts = np.unique(found.reshape(9000, 9), axis=0, return_counts=True)
    assert len(counts) == 18
    assert (abs(counts - 500) < 4 * np.sqrt(9000 / 18 * 17 / 18)).all()


@pytest.fixture(scope="module")
def sprites() -> np.ndarray:
    """Twenty sprites of 6x6 in eight colours."""
    return np.random.default_rng(1).integers(0, 8, (20, 6, 6, 1), np.uint8)


def config(**data: float | bool) -> Config:
    """Two epochs of the 18 sprites of `run`, in fitted batches: three steps of six, of which four are augmented."""
    return Config(
        DataConfig(render="indices", **{"shift": 1, "flip": True, "augment_until": 0.6, **data}),
        ModelConfig("categorical", 4, (), (), hidden=8, latent=3),
        TrainConfig(epochs=2, batch_size=8, fit_batches=True, learning_rate=0.01),
    )


def create(sprites: np.ndarray, **data: float | bool) -> train_state.TrainState:
    return train_state.create_state(config(**data), jax.random.key(0), sprites[:18], 8)


def run(directory: Path, sprites: np.ndarray, epochs: int) -> loop.Run:
    return loop.Run(
        directory=directory,
        config=dataclasses.replace(config().train, epochs=epochs),
        images=jax.device_put(sprites),
        grid_images=sprites[:2],
        palette=np.arange(24, dtype=np.uint8).reshape(8, 3),
        description=DESCRIPTION,
        train_indices=np.arange(18),
        validation_indices=np.arange(0),
        test_indices=np.arange(18, 20),
        keys=loop.make_keys(0),
        report=None,
        signals=[],
    )


def test_steps_in_one_call_equal_steps_in_many_and_it_ends_in_time(sprites: np.ndarray):
    """Oracle of the end: what the same step does to a state that augments nothing."""
    indices = jnp.array(np.concatenate([steps.epoch_order(jax.random.key(4), epoch, 18, (3, 6)) for epoch in (0, 1)]))
    key, images = jax.random.key(5), jnp.array(sprites)
    together, _ = steps.train_steps(create(sprites), images, indices, key, 0, len(indices))
    looped, as_plain = create(sprites), []
    for step in range(len(indices)):
        plain = jax.tree.map(jnp.copy, looped.replace(augmentation=Augmentation()))
        looped, _ = steps.train_steps(looped, images, indices, key, step, step + 1)
        alone, _ = steps.train_steps(plain, images, indices, key, step, step + 1)
        # Programs with and without augmentation may round differently.
        pairs = zip(jax.tree.leaves(alone.params), jax.tree.leaves(looped.params), strict=True)
        as_plain.append(all(np.allclose(*pair, atol=1e-5) for pair in pairs))
    assert digest(together.params) == digest(looped.params)
    assert as_plain == [False] * 4 + [True] * 2


def test_a_resumed_run_is_the_same(tmp_path: Path, sprites: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    """Oracle: the run that was never stopped. Stopped after one epoch of three steps; four are augmented."""
    monkeypatch.setattr(loop, "steps_per_call", lambda *_: 1)
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = loop.train(run(tmp_path / "whole", sprites, 2), create(sprites), loop.Progress())
    assert int(whole.step) == 6
    first = run(tmp_path / "parts", sprites, 1)
    assert int(loop.train(first, create(sprites), loop.Progress()).step) == 3
    found = checkpoints.restore(first.checkpoints, create(sprites))
    assert found is not None
    resumed = loop.train(run(tmp_path / "parts", sprites, 2), found.state, loop.Progress.of(found.meta))
    assert digest(resumed.params) == digest(whole.params)


def test_a_shift_out_of_the_image_is_refused(sprites: np.ndarray):
    create(sprites, shift=5)
    with pytest.raises(UserError, match=r"data\.shift: 6 pixels move images of 6x6 out of sight: choose less than 6"):
        create(sprites, shift=6)
