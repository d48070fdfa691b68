"""What is computed from a model's parameters, dropout off: pure functions of (module, parameters, ...), jitted here.

The module is static: equal modules share what was compiled.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Shaped, UInt8

from flax_punkvae.model import losses
from flax_punkvae.model.vae import PunkVAE


def apply(module: PunkVAE, params: Any, *arguments: Any, **options: Any) -> Any:
    """`module.apply` without collections that change, which PunkVAE has none of, so that the result is typed."""
    return module.apply({"params": params}, *arguments, **options)


@partial(jax.jit, static_argnames="module")
def encode(
    module: PunkVAE, params: Any, images: UInt8[Array, "b h w c"]
) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
    """(mean, logvar) of the posteriors of images."""
    return apply(module, params, module.likelihood.pixels(images), method="encode")


@partial(jax.jit, static_argnames="module")
def decode(module: PunkVAE, params: Any, z: Float[Array, "b d"]) -> Shaped[Array, "b h w c"]:
    """The images of latents: floats in [0, 1] or, in uint8, the most probable indices."""
    return module.likelihood.image(apply(module, params, z, method="decode"))


@partial(jax.jit, static_argnames="module")
def reconstruct(module: PunkVAE, params: Any, images: UInt8[Array, "b h w c"]) -> Shaped[Array, "b h w c"]:
    """Images decoded from the mean of their posterior: no noise."""
    mean, _ = encode(module, params, images)
    return decode(module, params, mean)


@partial(jax.jit, static_argnames="module")
def log_prior(module: PunkVAE, params: Any, z: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """log p(z), latent by latent, in nats."""
    return apply(module, params, z, method="log_prior")


@partial(jax.jit, static_argnames="module")
def from_prior(
    module: PunkVAE, params: Any, noise: Float[Array, "b d"], uniform: Float[Array, "b d"]
) -> Float[Array, "b d"]:
    """Latents of the prior, from as many draws of N(0, 1) and of [0, 1)."""
    return apply(module, params, noise, uniform, method="from_prior")


@partial(jax.jit, static_argnames="module")
def kl(
    module: PunkVAE, params: Any, mean: Float[Array, "b d"], logvar: Float[Array, "b d"], z: Float[Array, "b d"]
) -> Float[Array, "b d"]:
    """What each latent adds to the KL of q = N(mean, exp(logvar)) from the prior, at a z from q, in nats."""
    return apply(module, params, mean, logvar, z, method="kl")


@partial(jax.jit, static_argnames=("module", "count"))
def importance_samples(
    module: PunkVAE, params: Any, image: UInt8[Array, "h w c"], key: Key[Array, ""], count: int
) -> tuple[Float[Array, "k"], Float[Array, "k"]]:
    """k = count draws z of an image's posterior: (distortion of the image decoded from each, log p(z) - log q(z))."""
    mean, logvar = encode(module, params, image[None])
    z = mean + jnp.exp(0.5 * logvar) * jax.random.normal(key, (count, mean.shape[1]), mean.dtype)
    copies = module.likelihood.pixels(jnp.broadcast_to(image, (count, *image.shape)))
    distortion = apply(module, params, copies, z, method="distortion")
    q = losses.gaussian_log_density(z, jnp.broadcast_to(mean, z.shape), jnp.broadcast_to(logvar, z.shape))
    return distortion, jnp.sum(log_prior(module, params, z) - q, axis=-1)
