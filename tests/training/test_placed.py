"""Images on the devices: sprites that are rendered within a step."""

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flax_punkvae import images as im
from flax_punkvae.config import Config
from flax_punkvae.data import LazyImages
from flax_punkvae.training import placed, steps
from flax_punkvae.training import state as train_state
from flax_punkvae.training.checkpoints import digest
from helpers import all_punks
from helpers.compiling import optimised
from helpers.metal import unsupported

RENDERED = pytest.mark.parametrize("how", ["reference", "crisp"])
rows = jax.jit(placed.rows, static_argnums=0)


def on_device(sprites: np.ndarray, how: im.Render, indices: np.ndarray) -> np.ndarray:
    return np.asarray(rows(None, placed.placed(None, LazyImages(sprites, how)), indices))


@RENDERED
@given(hnp.arrays(np.uint8, (2, 24, 24, 3), elements=st.sampled_from((0, 1, 127, 128, 254, 255)) | st.integers(0, 255)))
def test_sprites_are_rendered_as_on_the_host(how: im.Render, sprites: np.ndarray):
    """Oracle: `images.render`, which is Pillow's resize."""
    indices = np.array([1, 0, 1])
    np.testing.assert_array_equal(on_device(sprites, how, indices), im.render(sprites, how)[indices])


@RENDERED
def test_all_punks_are_rendered_as_on_the_host(how: im.Render):
    """Oracle: `images.render`."""
    sprites = im.over_background(all_punks.load().pixels, im.parse_colour("#638596"))
    placed_sprites = placed.placed(None, LazyImages(sprites, how))
    for start in range(0, len(sprites), 1000):
        indices = np.arange(start, start + 1000)
        with optimised():
            found = np.asarray(rows(None, placed_sprites, indices))
        # In a third of the time that NumPy's own assertion takes, which is more than the rendering.
        assert np.array_equal(found, im.render(sprites[indices], how))


@RENDERED
def test_rendering_within_steps_changes_no_bit_of_them(small: Config, how: im.Render):
    """Oracle: the same steps, and the same evaluation, on images that the host rendered."""
    sprites = np.random.default_rng(7).integers(0, 256, (20, 24, 24, 3), np.uint8)
    indices, key = jnp.array(steps.epoch_order(jax.random.key(4), 0, 20, (4, 5))), jax.random.key(5)
    found = []
    for images in (placed.placed(None, LazyImages(sprites, how)), jnp.array(im.render(sprites, how))):
        state = train_state.create_state(small, jax.random.key(0))
        state, metrics = steps.train_steps(state, images, indices, key, 0, 4)
        tested = steps.evaluate(state.model, state.params, 3.4, images, np.arange(7), key, 4)
        found.append((digest(state.params), metrics["loss"].tolist(), tested))
    assert found[0] == found[1]


@RENDERED
def test_rendering_is_supported_by_metal(how: im.Render):
    images = placed.placed(None, LazyImages(np.zeros((8, 24, 24, 3), np.uint8), how))
    assert (
        unsupported(lambda images, indices: placed.rows(None, images, indices), images, np.zeros(4, np.int32)) == set()
    )
