"""The priors p(z): each is one module, listed by name in PRIORS.

A prior has `log_prob`, `sample`, `kl`, and `is_standard`: whether each latent has mean 0 and standard deviation 1. To
add one, define a class here, list it in the table, and add its name to `config`.
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from flax_punkvae.model import losses

# Clip standard deviations to [exp(-6), exp(3)]: a component that collapses onto one image gets no gradient.
LOG_SCALES = (-6.0, 3.0)


class NormalPrior(nn.Module):
    """N(0, I); no parameters."""

    is_standard: ClassVar[bool] = True
    latent: int

    def log_prob(self, z: Float[Array, "b d"]) -> Float[Array, "b d"]:
        """log N(z_i; 0, 1) per latent, in nats; the sum is log p(z)."""
        return losses.gaussian_log_density(z, jnp.zeros_like(z), jnp.zeros_like(z))

    def sample(self, noise: Float[Array, "b d"], uniform: Float[Array, "b d"]) -> Float[Array, "b d"]:
        """Return `noise`, drawn from N(0, 1); `uniform` is not used."""
        return noise

    def kl(self, mean: Float[Array, "b d"], logvar: Float[Array, "b d"], z: Float[Array, "b d"]) -> Float[Array, "b d"]:
        """KL(N(mean, exp(logvar)) || p) per latent, in nats, in closed form; `z` is not used."""
        return losses.gaussian_kl_per_latent(mean, logvar)


class AutoregressivePrior(nn.Module):
    """p(z) = prod_i p(z_i | z_1..z_{i-1}), each factor a mixture of Gaussians; always in float32.

    There are max(hidden, latent) hidden units: with fewer than `latent`, the last latents could not depend on all
    earlier ones. The posteriors of sprites form clusters, one per combination of traits; N(0, I) has no clusters, so
    its samples fall between them. Sources: Germain et al. 2015 (MADE) for the masks; Chen et al. 2017 ("Variational
    Lossy Autoencoder") for an autoregressive prior of a VAE.
    """

    is_standard: ClassVar[bool] = False
    latent: int
    hidden: int = 256
    components: int = 8

    def setup(self) -> None:
        d, width, outputs = self.latent, max(self.hidden, self.latent), 3 * self.components
        # A hidden unit of degree g sees the first g latents; the outputs for latent i see units of degree up to i.
        degrees = np.arange(width) % d
        position = np.arange(d)
        self._masks = (
            position[:, None] < degrees,
            degrees[:, None] <= degrees,
            np.repeat(degrees[:, None] <= position, outputs, axis=1),
        )
        init = nn.initializers.lecun_normal()
        self._kernels = (
            self.param("kernel_0", init, (d, width)),
            self.param("kernel_1", init, (width, width)),
            # Small, so that initially every latent has the same mixture, with components spread by `_spread`.
            self.param("kernel_2", nn.initializers.normal(0.05 / math.sqrt(width)), (width, d * outputs)),
        )
        self._biases = (
            self.param("bias_0", nn.initializers.zeros, (width,)),
            self.param("bias_1", nn.initializers.zeros, (width,)),
            self.param("bias_2", self._spread, (d * outputs,)),
        )

    def _spread(self, _key: Array, shape: tuple[int, ...]) -> Array:
        bias = np.zeros((self.latent, 3, self.components), np.float32)
        bias[:, 1] = np.linspace(-1.5, 1.5, self.components)
        return jnp.array(bias.reshape(shape))

    def layers(self) -> list[tuple[Float[Array, "i o"], Float[Array, "o"]]]:
        """(kernel, bias) of each layer; a kernel is 0 where a value must not depend on an input."""
        kernels = [jnp.where(mask, kernel, 0.0) for mask, kernel in zip(self._masks, self._kernels, strict=True)]
        return list(zip(kernels, self._biases, strict=True))

    def mixtures(
        self, z: Float[Array, "b d"]
    ) -> tuple[Float[Array, "b d m"], Float[Array, "b d m"], Float[Array, "b d m"]]:
        """(log weights, means, log standard deviations) of each latent's mixture, given the earlier latents."""
        (k0, b0), (k1, b1), (k2, b2) = self.layers()
        x = nn.relu(z @ k0 + b0)
        x = x + nn.relu(x @ k1 + b1)
        logits, means, log_scales = jnp.moveaxis((x @ k2 + b2).reshape(*z.shape, 3, self.components), 2, 0)
        return nn.log_softmax(logits), means, jnp.clip(log_scales, *LOG_SCALES)

    def log_prob(self, z: Float[Array, "b d"]) -> Float[Array, "b d"]:
        """log p(z_i | z_1..z_{i-1}) per latent, in nats; the sum is log p(z)."""
        log_weights, means, log_scales = self.mixtures(z)
        deviations = (z[..., None] - means) * jnp.exp(-log_scales)
        log_densities = -0.5 * jnp.square(deviations) - log_scales - 0.5 * math.log(2 * math.pi)
        return nn.logsumexp(log_weights + log_densities, axis=-1)

    def sample(self, noise: Float[Array, "b d"], uniform: Float[Array, "b d"]) -> Float[Array, "b d"]:
        """Sample latents one by one: `uniform` in [0, 1) selects a component, `noise` from N(0, 1) the value in it."""

        def draw(i: Array, z: Array) -> Array:
            log_weights, means, log_scales = self.mixtures(z)
            # Inverse transform sampling; the last component if rounding leaves the sum of weights below `uniform`.
            # The matrix product replaces a cumulative sum, which some backends lack.
            ends = jnp.exp(log_weights) @ jnp.triu(jnp.ones((self.components, self.components)))
            passed = (ends <= uniform[..., None]).sum(-1, keepdims=True)
            chosen = jnp.arange(self.components) == jnp.minimum(passed, self.components - 1)
            mean, log_scale = (jnp.sum(jnp.where(chosen, part, 0.0), axis=-1) for part in (means, log_scales))
            return jnp.where(jnp.arange(self.latent) == i, mean + jnp.exp(log_scale) * noise, z)

        return jax.lax.fori_loop(0, self.latent, draw, jnp.zeros_like(noise))

    def kl(self, mean: Float[Array, "b d"], logvar: Float[Array, "b d"], z: Float[Array, "b d"]) -> Float[Array, "b d"]:
        """log q(z_i) - log p(z_i | z_1..z_{i-1}) at one z from q = N(mean, exp(logvar)), in nats.

        Its mean over draws of z is the latent's term of KL(q || p), which has no closed form.
        """
        return losses.gaussian_log_density(z, mean, logvar) - self.log_prob(z)


Prior = type[NormalPrior] | type[AutoregressivePrior]

PRIORS: dict[str, Prior] = {"normal": NormalPrior, "autoregressive": AutoregressivePrior}
