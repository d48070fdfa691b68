"""Recipes: text that gives the same picture again, and what is refused."""

import dataclasses
import io
import re
import shlex

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from flax_punkvae import images
from flax_punkvae.config import ModelConfig
from flax_punkvae.errors import UserError
from flax_punkvae.trained import recipes, runs
from flax_punkvae.trained.model import Model
from flax_punkvae.trained.recipes import Recipe
from helpers.descriptions import DESCRIPTION
from helpers.pages import trained

DESCRIBED = dataclasses.replace(DESCRIPTION, model=ModelConfig(latent=3), params_sha256="0123456789ab" + "f" * 52)
Z = np.array([0.5, -1.0, 2.0], np.float32)
FLOATS = st.floats(-1e6, 1e6, width=32)


@st.composite
def made(draw: st.DrawFn) -> Recipe:
    z = draw(arrays.arrays(np.float32, 3, elements=FLOATS))
    seed = draw(st.none() | st.integers(0, 2**32 - 1))
    positions = np.array(draw(st.lists(st.integers(0, 575), unique=True, max_size=9)), np.int64)
    colours = draw(arrays.arrays(np.uint8, (len(positions), 3)))
    return Recipe(z, seed, positions, colours)


@pytest.fixture(scope="module", params=["drawn", "pictures"])
def model(request: pytest.FixtureRequest) -> Model:
    return runs.load(trained(request.param))


def latent(model: Model, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(model.description.model.latent).astype(np.float32)


@given(made())
def test_a_recipe_survives_as_text(recipe: Recipe):
    text = recipes.to_text(recipe, DESCRIBED)
    # In a shell and in a link, it needs no quotes.
    assert shlex.quote(text) == text and re.fullmatch(r"[\w.-]+", text, re.ASCII)
    again = recipes.parse(text, DESCRIBED)
    assert again.z.tobytes() == recipe.z.tobytes() and again.seed == recipe.seed
    np.testing.assert_array_equal(again.positions, recipe.positions)
    np.testing.assert_array_equal(again.colours, recipe.colours)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a recipe"),
        ("0123456789ab.AAAA.1", "not a recipe"),
        (
            recipes.to_text(Recipe(Z), dataclasses.replace(DESCRIBED, params_sha256="f" * 64)),
            "is for model ffffffffffff",
        ),
        (recipes.to_text(Recipe(Z), DESCRIBED)[:-3] + "..", "damaged"),
        (recipes.to_text(Recipe(Z[:2]), DESCRIBED), "has 2 latents, and the model has 3"),
        (recipes.to_text(Recipe(Z * np.float32("nan")), DESCRIBED), "not a number from"),
        (recipes.to_text(Recipe(Z * np.float32("inf")), DESCRIBED), "not a number from"),
        (recipes.to_text(Recipe(Z * np.float32(1e30)), DESCRIBED), "not a number from"),
        (recipes.to_text(Recipe(Z, 2**32), DESCRIBED), "seed 4294967296 is out of range"),
        (recipes.to_text(Recipe(Z, 1, np.array([576]), np.zeros((1, 3), np.uint8)), DESCRIBED), "painted pixels"),
        (recipes.to_text(Recipe(Z, 1, np.array([5, 5]), np.zeros((2, 3), np.uint8)), DESCRIBED), "painted pixels"),
    ],
)
def test_what_is_not_a_recipe_of_the_model_is_refused(text: str, says: str):
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        recipes.parse(text, DESCRIBED)
    assert "\n" not in str(caught.value)


def test_its_picture_is_the_decoded_one(model: Model):
    """Oracle: `Model.decode`, whose batches are padded and may sum in another order."""
    z = latent(model)
    for seed in (None, 7):
        shown = recipes.picture(model, Recipe(z, seed)).astype(int)
        expected = model.decode(z[None], None if seed is None else np.array([seed], np.uint32))[0].astype(int)
        # An RGB level may be rounded the other way.
        assert np.abs(shown - expected).max() <= (0 if model.index_palette is not None else 1)


def test_paint_shows_on_the_sprite(model: Model):
    recipe = Recipe(latent(model), 3, np.array([0, 575, 30]), np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], np.uint8))
    shown = recipes.picture(model, recipe)
    plain = recipes.sprite(model, Recipe(recipe.z, 3))
    assert shown.shape == plain.shape == (24, 24, 3)
    differs = (shown != plain).any(-1)
    assert sorted(np.flatnonzero(differs)) == [0, 30, 575]
    np.testing.assert_array_equal(shown[[0, 23, 1], [0, 23, 6]], recipe.colours)
    assert not recipe.moved(recipe.z).positions.size and recipe.moved(recipe.z).seed == 3


def test_any_sprite_has_an_exact_recipe(model: Model):
    wanted = np.random.default_rng(1).integers(0, 256, (24, 24, 3), np.uint8)
    exact = recipes.of_sprite(model, wanted, exactly=True)
    np.testing.assert_array_equal(recipes.picture(model, exact), wanted)
    np.testing.assert_array_equal(exact.z, model.encode(wanted[None])[0][0])
    assert not recipes.of_sprite(model, wanted, exactly=False).positions.size


def test_a_png_file_holds_its_recipe(model: Model):
    recipe = Recipe(latent(model), 5)
    content = recipes.png(model, recipe, scale=3)
    shown = recipes.picture(model, recipe)
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), images.enlarge(shown[None], 3)[0])
    again, how = recipes.read(model, content)
    assert recipes.to_text(again, model.description) == recipes.to_text(recipe, model.description)
    assert "restored" in how


def test_another_image_is_encoded(model: Model):
    sprite = model.to_sprites(model.decode(latent(model)[None]))[0]
    for scale in (1, 7):
        file = images.to_png(images.enlarge(sprite[None], scale)[0])
        recipe, how = recipes.read(model, file)
        np.testing.assert_array_equal(recipe.z, model.encode(sprite[None])[0][0])
        assert recipe.seed is None and "encoded" in how


def test_the_background_can_be_transparent(model: Model):
    described = model.description
    assert recipes.has_background(described)
    with Image.open(io.BytesIO(recipes.png(model, Recipe(latent(model)), 2, transparent=True))) as image:
        rgba = np.asarray(image)
    assert rgba.shape == (48, 48, 4)
    background = (rgba[..., :3] == images.parse_colour(described.background)).all(-1)
    np.testing.assert_array_equal(rgba[..., 3], np.where(background, 0, 255))
    without = dataclasses.replace(described, background="#010203")
    with pytest.raises(UserError, match="no background"):
        recipes.png(dataclasses.replace(model, description=without), Recipe(latent(model)), transparent=True)


@pytest.mark.parametrize("scale", [0, -1, 33])
def test_a_scale_out_of_range_is_refused(model: Model, scale: int):
    with pytest.raises(UserError, match="scale"):
        recipes.png(model, Recipe(latent(model)), scale)


@pytest.mark.parametrize("file", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n\xff\xff\xff\xfftEXt"])
def test_a_file_that_is_no_image_is_refused(model: Model, file: bytes):
    with pytest.raises(UserError, match="cannot be read"):
        recipes.read(model, file)


def test_an_image_of_another_size_is_refused(model: Model):
    with pytest.raises(UserError, match=r"expected an image of 24x24 pixels.*got 25x24"):
        recipes.read(model, images.to_png(np.zeros((24, 25, 3), np.uint8)))
