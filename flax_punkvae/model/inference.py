"""Inference, with dropout off: pure jitted functions of (module, parameters, ...).

The module is a static argument: equal modules share compiled code.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Key, Shaped, UInt32

from flax_punkvae.model import losses
from flax_punkvae.model.vae import PunkVAE

# On a CPU, the pixels of so many sprites are computed at a time, whose data stays in its cache.
_PIECE = 20


def apply(module: PunkVAE, params: Any, *arguments: Any, **options: Any) -> Any:
    """`module.apply` without mutable collections, of which PunkVAE has none, so that the result is typed."""
    return module.apply({"params": params}, *arguments, **options)


@partial(jax.jit, static_argnames="module")
def encode(
    module: PunkVAE, params: Any, images: Integer[Array, "b h w c"]
) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
    """(mean, logvar) of the posterior of each image."""
    return apply(module, params, module.likelihood.pixels(images), method="encode")


@partial(jax.jit, static_argnames="module")
def decode(
    module: PunkVAE, params: Any, z: Float[Array, "b d"], seeds: UInt32[Array, "b"] | None = None
) -> Shaped[Array, "b h w c"]:
    """Decode latents to images: floats in [0, 1], or the indices of the most probable palette colours.

    With seeds, an autoregressive decoder draws the colours of the pixels from their distributions.
    """
    keys = None if seeds is None else jax.vmap(jax.random.key)(seeds)
    return apply(module, params, z, keys, method="decode")


@partial(jax.jit, static_argnames="module")
def reconstruct(module: PunkVAE, params: Any, images: Integer[Array, "b h w c"]) -> Shaped[Array, "b h w c"]:
    """Encode images and decode their posterior means, without noise."""
    mean, _ = encode(module, params, images)
    return decode(module, params, mean)


@partial(jax.jit, static_argnames="module")
def log_prior(module: PunkVAE, params: Any, z: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """log p(z) per latent, in nats."""
    return apply(module, params, z, method="log_prior")


@partial(jax.jit, static_argnames="module")
def from_prior(
    module: PunkVAE, params: Any, noise: Float[Array, "b d"], uniform: Float[Array, "b d"]
) -> Float[Array, "b d"]:
    """Sample latents from the prior, given draws from N(0, 1) and from the uniform distribution on [0, 1)."""
    return apply(module, params, noise, uniform, method="from_prior")


@partial(jax.jit, static_argnames="module")
def kl(
    module: PunkVAE, params: Any, mean: Float[Array, "b d"], logvar: Float[Array, "b d"], z: Float[Array, "b d"]
) -> Float[Array, "b d"]:
    """KL(q || prior) per latent for q = N(mean, exp(logvar)), or its estimate at a z from q, in nats."""
    return apply(module, params, mean, logvar, z, method="kl")


@partial(jax.jit, static_argnames=("module", "count"))
def importance_samples(
    module: PunkVAE, params: Any, image: Integer[Array, "h w c"], keys: Key[Array, "n"], count: int
) -> tuple[Float[Array, "k"], Float[Array, "k"]]:
    """(distortion, log p(z) - log q(z)) for k = n * count draws z from the posterior of one image, `count` per key.

    The image is encoded once; only `count` draws at a time are held in memory.
    """
    mean, logvar = encode(module, params, image[None])
    pixels = module.likelihood.pixels(image[None])

    def draws(key: Key[Array, ""]) -> tuple[Array, Array]:
        z = mean + jnp.exp(0.5 * logvar) * jax.random.normal(key, (count, mean.shape[1]), mean.dtype)
        q = losses.gaussian_log_density(z, jnp.broadcast_to(mean, z.shape), jnp.broadcast_to(logvar, z.shape))
        return _distortion(module, params, pixels, z), jnp.sum(log_prior(module, params, z) - q, axis=-1)

    distortion, log_ratio = jax.lax.map(draws, keys)
    return distortion.ravel(), log_ratio.ravel()


def _distortion(
    module: PunkVAE, params: Any, pixels: Shaped[Array, "1 h w c"], z: Float[Array, "b d"]
) -> Float[Array, "b"]:
    """The distortion between one image and decoded latents."""
    if module.support is None or not module.config.pixel_hidden:
        return apply(module, params, pixels, z, method="distortion")

    def whole(features: Array) -> Array:
        return apply(module, params, pixels, features, method="pixel_distortion")

    def in_pieces(features: Array) -> Array:
        piece = math.gcd(len(z), _PIECE)
        pieces = features.reshape(len(features), -1, piece, features.shape[2]).swapaxes(0, 1)
        return jax.lax.map(whole, pieces).ravel()

    features = apply(module, params, z, method="features")
    return jax.lax.platform_dependent(features, cpu=in_pieces, default=whole)
