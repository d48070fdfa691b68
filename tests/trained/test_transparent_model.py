"""A model of sprites with transparent pixels: RGBA in, RGBA out, by every function that takes or gives sprites."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flax_punkvae import images, transparency
from flax_punkvae.data import punks
from flax_punkvae.errors import UserError
from flax_punkvae.measures import features
from flax_punkvae.trained import certificates, evaluation, recipes, runs, sheets, traits
from flax_punkvae.trained.model import Model
from flax_punkvae.trained.recipes import Recipe
from flax_punkvae.trained.runs import OpenedRun
from flax_punkvae.training import description
from helpers import pages, transparent

SHAPE = (transparent.SIZE, transparent.SIZE, 4)
GREY = np.full((1, *SHAPE[:2], 3), 90, np.uint8)


@pytest.fixture(scope="module")
def run() -> OpenedRun:
    return runs.open_run(pages.trained("transparent"))


@pytest.fixture(scope="module")
def model(run: OpenedRun) -> Model:
    return run.model


@pytest.fixture(scope="module")
def sprites() -> np.ndarray:
    """Those of the run."""
    return transparent.sprites(pages.COUNT)


def colours(sprites: np.ndarray) -> set[bytes]:
    return set(map(bytes, sprites.reshape(-1, 4)))


def test_samples_are_rgba_in_colours_of_the_training_sprites(run: OpenedRun, sprites: np.ndarray):
    drawn = run.model.sample(6, seed=1)
    assert drawn.dtype == np.uint8 and drawn.shape == (6, *SHAPE)
    assert colours(drawn) <= colours(sprites[run.train_indices])
    # The corners of all sprites are transparent, and so the model has learned.
    assert (drawn[:, 0, 0] == 0).all() and (drawn[..., 3] == 255).any()


def test_encoding_takes_sprites_as_they_are_and_decoding_gives_such(run: OpenedRun, sprites: np.ndarray):
    """Oracle: the dataset's indices."""
    model, test = run.model, run.test_indices
    for ours, theirs in zip(model.encode(sprites[test]), run.encode(test), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert model.decode(model.encode(sprites[:3])[0]).shape == (3, *SHAPE)
    assert model.is_new(sprites[run.train_indices]).sum() == 0
    # What colour a pixel has that does not show makes no difference.
    other = sprites.copy()
    other[other[..., 3] == 0] = (1, 2, 3, 0)
    assert not model.is_new(other[run.train_indices]).any()


def test_opaque_sprites_may_come_without_alpha(model: Model):
    opaque = np.concatenate([GREY, np.full_like(GREY[..., :1], 255)], axis=-1)
    np.testing.assert_array_equal(model.encode(GREY)[0], model.encode(opaque)[0])
    np.testing.assert_array_equal(model.to_sprites(GREY), model.to_sprites(opaque))
    assert model.to_sprites(GREY).shape == (1, *SHAPE)
    with pytest.raises(UserError, match=r"encode: expected uint8 RGBA \[n, 16, 16, 4\], got uint8 \[1, 8, 8, 4\]"):
        model.encode(opaque[:, :8, :8])


@pytest.mark.parametrize("kind", ["sprites", "pictures"])
def test_a_model_of_rgb_takes_transparent_sprites_over_its_background(kind: str):
    model = runs.load(pages.trained(kind))
    rgba = transparent.sprites(3, size=24)
    rgb = images.over_background(rgba, images.parse_colour(model.description.background))
    np.testing.assert_array_equal(model.encode(rgba)[0], model.encode(rgb)[0])
    np.testing.assert_array_equal(model.to_sprites(rgba), model.to_sprites(rgb))


def test_completions_hold_transparent_pixels_that_a_mask_keeps(model: Model, sprites: np.ndarray, tmp_path: Path):
    size = SHAPE[:2]
    known = np.arange(size[0])[:, None] < np.full(size[1], 8)
    Image.fromarray(sprites[0]).save(tmp_path / "sprite.png")
    Image.fromarray(np.where(known, 255, 0).astype(np.uint8)).save(tmp_path / "keep.png")
    sprite, held = sheets.read_incomplete(model, tmp_path / "sprite.png", tmp_path / "keep.png")
    np.testing.assert_array_equal(sprite, sprites[0])
    np.testing.assert_array_equal(held, known)
    found = sheets.complete(model, sprite, held, count=3, seed=0, steps=2).tiles
    assert found.shape == (4, *SHAPE) and (found[0][~known] == 255).all()
    np.testing.assert_array_equal(found[1:, :8], np.broadcast_to(model.to_sprites(sprites[:1])[0, :8], (3, 8, 16, 4)))
    # Without a mask, what is transparent is unknown.
    sprite, held = sheets.read_incomplete(model, tmp_path / "sprite.png", None)
    np.testing.assert_array_equal(held, sprites[0, ..., 3] > 0)
    with pytest.raises(
        UserError, match=r"complete: expected a uint8 RGBA sprite \[16, 16, 4\], got uint8 \[8, 16, 4\]"
    ):
        model.complete(sprite[:8], held[:8])


def test_recipes_hold_paint_with_alpha_and_png_files_are_transparent(model: Model, sprites: np.ndarray):
    described = model.description
    recipe = recipes.of_sprite(model, sprites[5], exactly=True)
    assert len(recipe.positions) and recipe.colours.shape[1] == 4
    again = recipes.parse(recipes.to_text(recipe, described), described)
    np.testing.assert_array_equal(recipes.sprite(model, again), sprites[5])
    file = recipes.png(model, recipe, scale=3)
    read, how = recipes.read(model, file)
    assert "restored" in how and recipes.to_text(read, described) == recipes.to_text(recipe, described)
    plain = images.to_png(images.enlarge(sprites[5:6], 3)[0])
    read, how = recipes.read(model, plain)
    assert "encoded" in how
    np.testing.assert_array_equal(read.z, recipe.z)
    # It has no background to take away.
    assert not recipes.has_background(described)
    with pytest.raises(UserError, match="no background"):
        recipes.png(model, Recipe(recipe.z), transparent=True)


def test_certificates_compare_all_four_channels(run: OpenedRun, sprites: np.ndarray):
    """Oracle: by hand, one training sprite with the alpha of one pixel changed."""
    known = runs.TrainingSprites(sprites[run.train_indices], run.train_indices)
    changed = sprites[run.train_indices[[2]]].copy()
    place = tuple(np.argwhere(changed[0, ..., 3] == 255)[0])
    changed[0][place] = (40, 20, 60, 60)
    (facts,) = certificates.certify(run.model, known, None, changed, changed)
    assert facts["nearest"] == run.train_indices[2] and facts["pixels_differ"] == 1 and facts["new"]


def test_the_description_is_read_back(model: Model, tmp_path: Path):
    description.write(tmp_path / "model", model.description)
    again = description.read(tmp_path / "model")
    assert again.channels == 4 and again.palette is not None and again.support == model.description.support
    np.testing.assert_array_equal(again.palette, model.description.palette)
    np.testing.assert_array_equal(again.train_digests, model.description.train_digests)


def test_it_is_published_and_opened_again(model: Model, tmp_path: Path):
    library = pages.library(pages.trained("transparent"))
    for name, content in pages.published(library).items():
        (tmp_path / name).write_bytes(content)
    again = runs.load(tmp_path)
    np.testing.assert_array_equal(again.sample(4, seed=2), model.sample(4, seed=2))


def test_other_codes_and_reconstructions_are_measured(run: OpenedRun, sprites: np.ndarray):
    found = evaluation.other_codes(run)
    assert found and "PNG, each the smaller of RGBA and palette" in found["bits"]
    assert all(bits > 0 for bits in found["bits"].values())
    right = evaluation.reconstruction(run, evaluation.Posteriors(run))
    # Oracle: by hand; the palette is that of the training sprites.
    decoded = run.model.decode(run.encode(run.test_indices)[0])
    assert right["pixels_right"] == (decoded == sprites[run.test_indices]).all(-1).mean()
    assert right["palette"] == len(colours(sprites[run.train_indices]))


def test_the_network_of_the_punks_reads_no_transparent_sprites():
    """Though they are the punks themselves: it knows them over their background."""
    raw = punks.load()
    described = runs.load(pages.trained("sprites")).description
    rgba = np.array([[0, 0, 0, 0], [1, 2, 3, 255]], np.uint8)
    shown = replace(described, label_names=raw.label_names, palette=rgba)
    network, why = traits.load_network(shown)
    assert network is None and "without transparency only" in why
    assert traits.load_network(replace(shown, palette=rgba[:, :3]))[0] is not None


def test_features_of_transparent_sprites_do_not_depend_on_what_hardly_shows():
    """Oracle: premultiplied by hand, the sprites are equal up to a level or two of 255."""
    network = features.random(0, shape=SHAPE)
    one = transparent.sprites(6)
    other = one.copy()
    faint = other[..., 3] == transparent.SOFT[0]
    assert faint.any()
    other[faint, :3] = 255 - other[faint, :3]
    a, b, c = (features.extract(network, each) for each in (one, other, transparency.to_channels(GREY, 4, (0, 0, 0))))
    assert a.shape == (6, 128) and np.abs(a - b).max() < 0.1 < np.abs(a - c).max()
