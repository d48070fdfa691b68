"""Fine-tuning: which parameters of a trained model go where in another one."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import traverse_util

from flax_punkvae.config import Config, DataConfig, ModelConfig, TrainConfig
from flax_punkvae.errors import UserError
from flax_punkvae.training import description, transfer
from flax_punkvae.training.description import Description, digests
from flax_punkvae.training.state import TrainState, create_state
from helpers.descriptions import DESCRIPTION

MODEL = ModelConfig(
    *("categorical", 3, (), (), 5),
    pixel_hidden=4,
    latent=2,
    prior="autoregressive",
)
CONFIG = Config(DataConfig(render="indices"), MODEL, TrainConfig(batch_size=4))
OLD = np.array([[0, 0, 0], [90, 0, 0], [90, 90, 0], [200, 200, 200]], np.uint8)
NEW = np.array([[0, 0, 0], [90, 90, 0], [190, 200, 200], [200, 200, 200]], np.uint8)


def state(seed: int, palette: np.ndarray) -> tuple[TrainState, np.ndarray]:
    """A state with random biases, and the sprites it was created for."""
    sprites = np.random.default_rng(seed).integers(0, len(palette), (12, 4, 4, 1), np.uint8)
    created = create_state(CONFIG, jax.random.key(seed), sprites, len(palette))
    return created, sprites


def trained(palette: np.ndarray, made: TrainState, sprites: np.ndarray) -> transfer.Trained:
    described = dataclasses.replace(
        DESCRIPTION,
        model=MODEL,
        render="indices",
        image_shape=sprites.shape[1:],
        palette=palette,
        support=made.model.support,
        train_indices=np.arange(len(sprites)),
        train_digests=digests(palette[sprites[..., 0]]),
        step=7,
    )
    return transfer.Trained(jax.tree.map(np.asarray, made.params), described, "old")


def flat(params: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(leaf) for name, leaf in traverse_util.flatten_dict(params, sep=".").items()}


def test_the_same_images_give_the_same_parameters():
    source, sprites = state(0, OLD)
    source = source.replace(params=jax.tree.map(lambda leaf: leaf + 1.5, source.params))
    target, _ = state(0, OLD)
    found = flat(transfer.transferred(trained(OLD, source, sprites), target.params, OLD, target.model.support))
    for name, leaf in flat(source.params).items():
        np.testing.assert_array_equal(found[name], leaf, name)


def test_colours_keep_their_parameters_and_new_ones_begin_as_their_nearest():
    """Oracle: by hand. Black, 90 90 0 and 200 200 200 are known; 190 200 200 is nearest to the last one."""
    source, sprites = state(0, OLD)
    target, _ = state(1, NEW)
    found = flat(transfer.transferred(trained(OLD, source, sprites), target.params, NEW, target.model.support))
    theirs, ours = flat(source.params), flat(target.params)
    nearest = [0, 2, 3, 3]
    for name in ("encoder.colours", "palette.kernel", "pixels.palette.kernel"):
        np.testing.assert_array_equal(found[name], theirs[name][nearest])
    np.testing.assert_array_equal(found["pixels.embedding"], theirs["pixels.embedding"][[*nearest, 4]])
    np.testing.assert_array_equal(found["encoder.dense.kernel"], theirs["encoder.dense.kernel"])
    old, new = source.model.support, target.model.support
    assert old and new
    same = 0
    for row, (position, colours) in enumerate(zip(new.open, new.open_lists, strict=True)):
        for column, colour in enumerate(colours):
            expected = ours["palette.bias"][row, column]
            if colour in (0, 1, 3) and position in old.open:
                at = np.flatnonzero(old.open == position)[0]
                places = np.flatnonzero(old.open_lists[at] == nearest[colour])
                if len(places):
                    expected = theirs["palette.bias"][at, places[0]]
                    same += 1
            assert found["palette.bias"][row, column] == expected
    assert same > 20


def test_positions_that_the_trained_model_saw_keep_their_weights():
    """Oracle: by hand, position by position."""
    source, sprites = state(0, OLD)
    # To the trained model, the first row is closed; to the new one, the last row.
    sprites[:, 0], other = 1, state(1, OLD)[1]
    other[:, -1] = 2
    source = create_state(CONFIG, jax.random.key(0), sprites, len(OLD))
    target = create_state(CONFIG, jax.random.key(1), other, len(OLD))
    found = flat(transfer.transferred(trained(OLD, source, sprites), target.params, OLD, target.model.support))
    theirs, ours = flat(source.params), flat(target.params)
    old, new = source.model.support, target.model.support
    assert old and new and set(old.open) == set(range(4, 16)) and set(new.open) == set(range(12))
    for name, axis in (("encoder.dense.kernel", 0), ("decoder.dense_1.kernel", 1), ("decoder.dense_1.bias", 0)):
        for row, position in enumerate(new.open):
            numbers = range(3 * row, 3 * row + 3)
            if position in old.open:
                at = 3 * int(np.flatnonzero(old.open == position)[0])
                expected = theirs[name].take(range(at, at + 3), axis)
            else:
                expected = ours[name].take(numbers, axis)
            np.testing.assert_array_equal(found[name].take(numbers, axis), expected, f"{name} {position}")


def test_a_transparent_colour_begins_as_the_background_of_a_model_without_alpha():
    """Oracle: by hand. The model had its sprites over 200 200 200; half-transparent 0 0 0 on it is 100 100 100."""
    source, sprites = state(0, OLD)
    given = trained(OLD, source, sprites)
    given = given._replace(description=dataclasses.replace(given.description, background="#c8c8c8"))
    palette = np.array([[0, 0, 0, 0], [0, 0, 0, 128], [0, 0, 0, 255], [90, 0, 0, 255]], np.uint8)
    target, _ = state(1, palette)
    found = flat(transfer.transferred(given, target.params, palette, target.model.support))
    np.testing.assert_array_equal(found["encoder.colours"], flat(source.params)["encoder.colours"][[3, 2, 0, 1]])
    transparent = np.where(OLD[sprites[:2, ..., :1]][..., 0, :] == 200, 0, 255)
    held_out = np.concatenate([OLD[sprites[:2, ..., 0]], transparent[..., :1]], axis=-1).astype(np.uint8)
    line = transfer.describe(given, palette, held_out)
    assert "it knows 3 of the 4 colours" in line and "it was trained on 2 of the 2 test images" in line


def test_a_colour_without_alpha_is_opaque_to_a_model_with_it():
    old = np.array([[0, 0, 0, 0], [90, 90, 0, 255], [200, 200, 200, 100], [200, 200, 200, 255]], np.uint8)
    source, sprites = state(0, old)
    target, _ = state(1, NEW)
    given = trained(old, source, sprites)
    found = flat(transfer.transferred(given, target.params, NEW, target.model.support))
    np.testing.assert_array_equal(found["encoder.colours"][[1, 3]], flat(source.params)["encoder.colours"][[1, 3]])
    assert "it knows 2 of the 4 colours" in transfer.describe(given, NEW, NEW[sprites[:2, ..., 0]])


def test_another_architecture_or_size_is_refused():
    source, sprites = state(0, OLD)
    given = trained(OLD, source, sprites)
    transfer.check(given, dataclasses.replace(MODEL, encoder_dropout=0.0), "indices", (4, 4))
    with pytest.raises(
        UserError, match=r"model.latent \(3, was 2\), data.render \(sprite, was indices\): use the model's"
    ):
        transfer.check(given, dataclasses.replace(MODEL, latent=3), "sprite", (4, 4))
    with pytest.raises(
        UserError, match=r"^--init old: it was trained on images of 4x4, these are 8x3: use images of its"
    ):
        transfer.check(given, MODEL, "indices", (3, 8))


def test_what_it_says_of_colours_and_of_images_that_are_no_longer_held_out():
    source, sprites = state(0, OLD)
    line = transfer.describe(trained(OLD, source, sprites), NEW, OLD[sprites[:2, ..., 0]])
    assert "old, step 7" in line and "it knows 3 of the 4 colours" in line
    assert "it was trained on 2 of the 2 test images, whose losses are too low" in line
    unseen: Description = dataclasses.replace(DESCRIPTION, model=MODEL)
    assert "test images" not in transfer.describe(transfer.Trained({}, unseen, "x"), None, OLD[sprites[:2, ..., 0]])


def test_a_description_of_before_has_dense_layers_that_see_all_positions():
    """So checkpoints and published models of versions without `model.positions` keep their shapes."""
    source, sprites = state(0, OLD)
    described = trained(OLD, source, sprites).description
    facts, arrays = description.pack(described)
    # As they are in a file.
    facts = json.loads(json.dumps(facts))
    assert description.unpack(facts, arrays, Path("model.json")).model.positions == "open"
    del facts["config"]["model"]["positions"]
    assert description.unpack(facts, arrays, Path("model.json")).model.positions == "all"
