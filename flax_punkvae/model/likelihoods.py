"""The likelihoods p(image | z): each is one value, listed by name in LIKELIHOODS.

To add one, define a value here, list it in the table, and add its name and renders to `config`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Shaped

from flax_punkvae.model import losses

# Below this beta, the Gaussian's log-likelihood overflows or sigma is 0.
_LEAST_BETA = 1e-100


@dataclass(frozen=True)
class Likelihood:
    """A likelihood: how dataset pixels enter the model, and what the decoder's output means.

    distortion_name: its name in metrics. described: the distortion and its unit, in words. palette: whether pixels are
    indices, which the encoder embeds and whose distribution is in `palette`. squashed: whether the decoder ends in a
    sigmoid. bits: whether distortion + KL is the -ELBO in nats at any beta, so that bits are reported.

    pixels: a dataset's [b h w c], uint8 RGB or indices, to model input. distortion: (pixels, decoded) to [b], summed
    over an image. image: decoded [b h w c] to floats in [0, 1]. Both are None for a palette.

    noise: the decoder's noise parameters implied by beta, by name; None if there is no density at that beta.
    log_likelihood: (distortion [n], beta, values per image) to log p(image | z) [n], in nats, in float64.
    negative_elbo: (distortion, KL, beta, values per image) to the -ELBO and the values it depends on, by name.
    """

    distortion_name: str
    described: str
    palette: bool
    squashed: bool
    bits: bool
    pixels: Callable[[Integer[Array, "b h w c"]], Shaped[Array, "b h w c"]]
    distortion: Callable[[Float[Array, "b h w c"], Float[Array, "b h w c"]], Float[Array, "b"]] | None
    image: Callable[[Float[Array, "b h w c"]], Float[Array, "b h w c"]] | None
    noise: Callable[[float], dict[str, float] | None]
    log_likelihood: Callable[[Float[np.ndarray, "n"], float, int], Float[np.ndarray, "n"]]
    negative_elbo: Callable[[float, float, float, int], dict[str, float]]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of a step's metrics, in recording order."""
        return ("loss", self.distortion_name, "kl", *(("bits",) if self.bits else ()))


def implied_sigma(beta: float) -> float:
    """sqrt(beta / 2): the standard deviation of the Gaussian decoder with -beta ELBO = mse + beta kl + const.

    For pixels in [0, 1]. Follows from -log N(x; m, sigma^2) = (x - m)^2 / (2 sigma^2) + const.
    """
    return math.sqrt(beta / 2)


def pythae_beta(beta: float) -> float:
    """beta / 2: the beta of the same objective in Pythae, which uses half the squared error."""
    return beta / 2


def gaussian_log_likelihood(
    squared_error: Float[np.ndarray, "*n"], sigma: float, elements: int
) -> Float[np.ndarray, "*n"]:
    """log N(x; m, sigma^2 I) = -|x - m|^2 / (2 sigma^2) - elements / 2 log(2 pi sigma^2), in nats."""
    return -squared_error.astype(float) / (2 * sigma**2) - elements / 2 * math.log(2 * math.pi * sigma**2)


def _unit_floats(images: Integer[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    return images.astype(jnp.float32) / 255.0


def _sigma(beta: float) -> dict[str, float] | None:
    return {"sigma": implied_sigma(beta)} if beta >= _LEAST_BETA else None


def _gaussian_elbo(distortion: float, kl: float, beta: float, elements: int) -> dict[str, float]:
    found = {"pythae_beta": pythae_beta(beta)}
    if (noise := _sigma(beta)) is None:
        return found
    likelihood = gaussian_log_likelihood(np.array([distortion]), noise["sigma"], elements)
    return {**found, **noise, "negative_elbo_nats_at_sigma": kl - float(likelihood[0])}


# A decoded value is the mean of a Gaussian; beta sets its standard deviation. Images are in [0, 1].
GAUSSIAN = Likelihood(
    distortion_name="mse",
    described="squared error per image",
    palette=False,
    squashed=True,
    bits=False,
    pixels=_unit_floats,
    distortion=losses.squared_error,
    image=lambda decoded: decoded,
    noise=_sigma,
    log_likelihood=lambda distortion, beta, elements: gaussian_log_likelihood(
        distortion, implied_sigma(beta), elements
    ),
    negative_elbo=_gaussian_elbo,
)

# Each pixel has a distribution over the palette. Images are indices, in one channel.
CATEGORICAL = Likelihood(
    distortion_name="cross_entropy",
    described="cross-entropy, nats per image",
    palette=True,
    squashed=False,
    bits=True,
    pixels=lambda images: images,
    distortion=None,
    image=None,
    noise=lambda beta: {},
    log_likelihood=lambda distortion, beta, elements: -distortion.astype(float),
    negative_elbo=lambda distortion, kl, beta, elements: {"negative_elbo_bits": (distortion + kl) / math.log(2)},
)

LIKELIHOODS = {"gaussian": GAUSSIAN, "categorical": CATEGORICAL}
