"""The beta-VAE loss, per example: each function is one equation; only the training steps reduce over examples."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def gaussian_kl(mean: Float[Array, "b d"], logvar: Float[Array, "b d"]) -> Float[Array, "b"]:
    """KL(N(mean, exp(logvar)) || N(0, 1)) = -1/2 sum(1 + logvar - mean^2 - exp(logvar)), in nats.

    Summed over the d latent dimensions, not averaged. Source: Kingma & Welling 2014, appendix B.
    """
    return jnp.sum(gaussian_kl_per_latent(mean, logvar), axis=-1)


def gaussian_kl_per_latent(mean: Float[Array, "b d"], logvar: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """-1/2 (1 + logvar - mean^2 - exp(logvar)): the terms of `gaussian_kl`, per latent, in nats."""
    return -0.5 * (1.0 + logvar - jnp.square(mean) - jnp.exp(logvar))


def gaussian_log_density(
    z: Float[Array, "b d"], mean: Float[Array, "b d"], logvar: Float[Array, "b d"]
) -> Float[Array, "b d"]:
    """log N(z; mean, exp(logvar)) per latent, in nats."""
    return -0.5 * (jnp.square(z - mean) * jnp.exp(-logvar) + logvar + jnp.log(2.0 * jnp.pi))


def squared_error(images: Float[Array, "#b h w c"], reconstructions: Float[Array, "b h w c"]) -> Float[Array, "b"]:
    """sum((images - reconstructions)^2) over all pixels and channels of an image, not averaged; pixels in [0, 1].

    The distortion of the `gaussian` likelihood.
    """
    return jnp.sum(jnp.square(images - reconstructions), axis=(1, 2, 3))


def negative_elbo(
    distortion: Float[Array, "b"], kl: Float[Array, "b"], beta: Float[Array, ""] | float
) -> Float[Array, "b"]:
    """distortion + beta * kl: the beta-VAE objective (Higgins et al. 2017, eq. 4).

    With the squared error, this is beta times the negative ELBO of a Gaussian decoder of variance beta / 2, up to a
    constant.
    """
    return distortion + beta * kl
