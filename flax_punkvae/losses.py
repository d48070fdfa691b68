"""The beta-VAE's loss, per example: each function is one equation; only the training steps reduce over examples."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def gaussian_kl(mean: Float[Array, "b d"], logvar: Float[Array, "b d"]) -> Float[Array, "b"]:
    """KL(N(mean, exp(logvar)) || N(0, 1)) = -1/2 sum(1 + logvar - mean^2 - exp(logvar)), in nats.

    Summed over the d latent dimensions, not averaged. Source: Kingma & Welling 2014, appendix B.
    """
    return -0.5 * jnp.sum(1.0 + logvar - jnp.square(mean) - jnp.exp(logvar), axis=-1)


def squared_error(images: Float[Array, "b h w c"], reconstructions: Float[Array, "b h w c"]) -> Float[Array, "b"]:
    """sum((images - reconstructions)^2) over every pixel and channel of an image, not averaged; pixels in [0, 1]."""
    return jnp.sum(jnp.square(images - reconstructions), axis=(1, 2, 3))


def negative_elbo(mse: Float[Array, "b"], kl: Float[Array, "b"], beta: float) -> Float[Array, "b"]:
    """mse + beta * kl: the beta-VAE objective (Higgins et al. 2017, eq. 4) of a Gaussian decoder.

    As a negative log-likelihood, up to a constant and a factor beta, its decoder has variance beta / 2.
    """
    return mse + beta * kl
