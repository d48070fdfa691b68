"""Importance samples, against the model's own parts, one image per latent."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from flax_punkvae.config import ModelConfig
from flax_punkvae.model import inference
from flax_punkvae.model.palette import Support
from flax_punkvae.model.vae import PunkVAE

COLOURS = 5
SPRITES = np.random.default_rng(0).integers(0, COLOURS, (6, 4, 4, 1), np.uint8)
PICTURES = np.random.default_rng(1).integers(0, 256, (1, 16, 16, 3), np.uint8)
GAUSSIAN = PunkVAE(ModelConfig(encoder_widths=(4,), decoder_widths=(), hidden=16, latent=3), image_shape=(16, 16, 3))


def categorical(pixel_hidden: int) -> PunkVAE:
    widths = {"encoder_widths": (), "decoder_widths": (), "hidden": 16, "latent": 3}
    config = ModelConfig(likelihood="categorical", pixel_hidden=pixel_hidden, **widths)
    return PunkVAE(config, image_shape=(4, 4, 1), support=Support.of(SPRITES, COLOURS))


@pytest.mark.parametrize(
    ("module", "image"), [(GAUSSIAN, PICTURES[0]), (categorical(0), SPRITES[0]), (categorical(7), SPRITES[0])]
)
def test_importance_samples_are_those_of_copies_of_the_image(module: PunkVAE, image: np.ndarray):
    """Oracles: the distortion of as many copies of the image as there are latents; SciPy's log densities. Two keys,
    and 30 latents of each, which a CPU decodes in three pieces."""
    copies = module.likelihood.pixels(jnp.asarray(np.repeat(image[None], 60, axis=0)))
    keys = jax.random.split(jax.random.key(0), 60)
    params = jax.jit(partial(module.init, train=False))(jax.random.key(1), copies, keys)["params"]
    keys = jax.random.split(jax.random.key(2), 2)
    distortion, log_ratio = inference.importance_samples(module, params, image, keys, 30)
    mean, logvar = (np.asarray(part) for part in inference.encode(module, params, image[None]))
    noise = np.concatenate([np.asarray(jax.random.normal(key, (30, 3))) for key in keys])
    z = mean + np.exp(logvar / 2) * noise
    expected = jax.jit(partial(module.apply, method="distortion"))({"params": params}, copies, jnp.asarray(z))
    np.testing.assert_allclose(distortion, np.asarray(expected), rtol=1e-5)
    prior, posterior = stats.norm.logpdf(z), stats.norm.logpdf(z, mean, np.exp(logvar / 2))
    np.testing.assert_allclose(log_ratio, (prior - posterior).sum(1), rtol=1e-4, atol=1e-4)
