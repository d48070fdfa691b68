"""PunkVAE, the variational autoencoder: what a ModelConfig makes of encoder, decoder, likelihood and prior.

The likelihood defines the distribution of a pixel, the prior that of the latents. `networks` describes the layout of
the parameters.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key, Shaped

from flax_punkvae.model.likelihoods import LIKELIHOODS, Likelihood
from flax_punkvae.model.networks import Decoder, Encoder, Palette, logits
from flax_punkvae.model.priors import PRIORS, Prior


class PunkVAE(nn.Module):
    """The variational autoencoder. Images are NHWC, as the likelihood's `pixels` gives them: float32 in [0, 1], or
    indices of `colours` colours in one channel.

    `config` is a ModelConfig, which declares and documents the choices; its defaults are the reference. All methods by
    `model.apply(variables, ..., method="encode")`. Noise is always explicit: a key for every image, so that it depends
    neither on the other images of a batch nor on how a batch is spread over devices.
    """

    config: Any
    image_shape: tuple[int, int, int] = (128, 128, 3)
    colours: int = 0
    dtype: Any = jnp.float32

    @property
    def likelihood(self) -> Likelihood:
        """p(image | z)."""
        return LIKELIHOODS[self.config.likelihood]

    @property
    def prior(self) -> Prior:
        """The class of p(z)."""
        return PRIORS[self.config.prior]

    def setup(self) -> None:
        config, (height, width, channels) = self.config, self.image_shape
        stages = len(config.encoder_widths)
        if self.likelihood.palette:
            channels = config.embedding
            self.palette = Palette(self.colours)
        self.encoder = Encoder(
            self.colours if self.likelihood.palette else 0,
            config.embedding,
            config.encoder_widths,
            config.hidden,
            config.residual_blocks,
            config.latent,
            config.encoder_dropout,
            self.dtype,
        )
        self.decoder = Decoder(
            config.decoder_widths,
            config.hidden,
            config.residual_blocks,
            config.decoder_dropout,
            start=(height >> stages, width >> stages, config.encoder_widths[-1] if stages else channels),
            stages=stages,
            channels=channels,
            squashed=self.likelihood.squashed,
            dtype=self.dtype,
        )
        # The name that its parameters have in checkpoints, and that their first values are drawn by.
        self.learned_prior = self.prior(config.latent)

    def encode(
        self, images: Shaped[Array, "b h w c"], dropout_keys: Key[Array, "b"] | None = None
    ) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
        """(mean, logvar) of q(z | image); with keys, dropout is on."""
        return self.encoder(images, dropout_keys)

    def decode(self, z: Float[Array, "b d"], dropout_keys: Key[Array, "b"] | None = None) -> Float[Array, "b h w c"]:
        """What the decoder makes of latents: images, or logits over a palette; with keys, dropout is on."""
        x = self.decoder(z, dropout_keys)
        return logits(x, *self.palette(x)) if self.likelihood.palette else x

    def distortion(
        self, images: Shaped[Array, "b h w c"], z: Float[Array, "b d"], dropout_keys: Key[Array, "b"] | None = None
    ) -> Float[Array, "b"]:
        """The likelihood's distortion of images decoded from latents; with keys, dropout is on."""
        likelihood, x = self.likelihood, self.decoder(z, dropout_keys)
        if not likelihood.palette:
            return likelihood.distortion(images, x)

        # One image at a time, and once more in the gradient: the logits of a batch, p numbers a pixel, would go
        # through memory several times over. Five times as fast on a CPU, where they are most of a step.
        @jax.checkpoint
        def one(parts: tuple[Array, Array]) -> Array:
            image, decoded = parts
            return likelihood.distortion(image[None], logits(decoded[None], kernel, bias))[0]

        kernel, bias = self.palette(x)
        return jax.lax.map(one, (images, x))

    def log_prior(self, z: Float[Array, "b d"]) -> Float[Array, "b d"]:
        """log p(z), latent by latent; of a learned prior, given the latents before each. In nats."""
        return self.learned_prior.log_prob(z)

    def from_prior(self, noise: Float[Array, "b d"], uniform: Float[Array, "b d"]) -> Float[Array, "b d"]:
        """Latents of the prior, from draws of N(0, 1) and of [0, 1)."""
        return self.learned_prior.sample(noise, uniform)

    def kl(self, mean: Float[Array, "b d"], logvar: Float[Array, "b d"], z: Float[Array, "b d"]) -> Float[Array, "b d"]:
        """What each latent adds to the KL of q = N(mean, exp(logvar)) from the prior, at a z from q, in nats."""
        return self.learned_prior.kl(mean, logvar, z)

    def __call__(
        self, images: Shaped[Array, "b h w c"], keys: Key[Array, "b"], *, train: bool
    ) -> tuple[Float[Array, "b"], Float[Array, "b"], Float[Array, "b d"]]:
        """(distortion, KL, mean of q(z | image)) at one z = mean + exp(logvar / 2) * eps; dropout is on if `train` is.

        The KL in closed form, or at that z, as the prior gives it; summed over latents, in nats.
        """
        keys_z, keys_encoder, keys_decoder = jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(keys)
        mean, logvar = self.encode(images, keys_encoder if train else None)
        noise = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:], mean.dtype))(keys_z)
        z = mean + jnp.exp(0.5 * logvar) * noise
        distortion = self.distortion(images, z, keys_decoder if train else None)
        return distortion, jnp.sum(self.kl(mean, logvar, z), axis=-1), mean
