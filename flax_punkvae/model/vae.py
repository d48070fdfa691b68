"""PunkVAE, the variational autoencoder: encoder, decoder, likelihood and prior, assembled from a ModelConfig.

The likelihood defines the distribution of a pixel, the prior that of the latents. `networks` describes the layout of
the parameters.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key, Shaped

from flax_punkvae.model.likelihoods import LIKELIHOODS, Likelihood
from flax_punkvae.model.networks import Decoder, Encoder
from flax_punkvae.model.palette import Palette, Support
from flax_punkvae.model.pixels import PixelDecoder
from flax_punkvae.model.priors import PRIORS, Prior


class PunkVAE(nn.Module):
    """The variational autoencoder. Images are NHWC, as returned by the likelihood's `pixels`: float32 in [0, 1], or
    indices of a palette in one channel, whose colours at each position are `support`.

    `config` is a ModelConfig, which documents the options; its defaults are the reference. Call all methods through
    `model.apply(variables, ..., method="encode")`. Noise is always explicit: one key per image, so that it depends
    neither on the other images of a batch nor on how a batch is split over devices.
    """

    config: Any
    image_shape: tuple[int, int, int] = (128, 128, 3)
    support: Support | None = None
    dtype: Any = jnp.float32

    @property
    def likelihood(self) -> Likelihood:
        """p(image | z)."""
        return LIKELIHOODS[self.config.likelihood]

    @property
    def prior(self) -> Prior:
        """The class of p(z)."""
        return PRIORS[self.config.prior]

    @property
    def dense_support(self) -> Support | None:
        """The support if encoder and decoder, without convolutions, see its open positions only."""
        return None if self.config.positions == "all" or self.config.encoder_widths else self.support

    def setup(self) -> None:
        config, (height, width, channels) = self.config, self.image_shape
        stages = len(config.encoder_widths)
        if self.support:
            channels = config.embedding
            self.palette = Palette(self.support, channels)
        if dense := self.dense_support:
            # To the dense layers, the open positions are an image of one column.
            height, width = len(dense.open), 1
        self.encoder = Encoder(
            self.support.colours if self.support else 0,
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
        if self.support and config.pixel_hidden:
            self.pixels = PixelDecoder(self.support, channels, config.pixel_hidden, self.dtype)
        # This name determines the parameters' names in checkpoints and their initial values.
        self.learned_prior = self.prior(config.latent)

    def encode(
        self, images: Shaped[Array, "b h w c"], dropout_keys: Key[Array, "b"] | None = None
    ) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
        """(mean, logvar) of q(z | image); with keys, dropout is on."""
        if dense := self.dense_support:
            images = images.reshape(len(images), -1, 1, 1)[:, dense.open]
        return self.encoder(images, dropout_keys)

    def decode(self, z: Float[Array, "b d"], keys: Key[Array, "b"] | None = None) -> Shaped[Array, "b h w c"]:
        """Decode latents to images: floats in [0, 1], or indices of the most probable colours.

        With keys, an autoregressive decoder draws the colours of the pixels from their distributions.
        """
        if not self.support:
            assert self.likelihood.image
            return self.likelihood.image(self.decoder(z, None))
        x = self.features(z)
        if not self.config.pixel_hidden:
            return self.support.image(self.palette.most_probable(x))
        shape = (len(self.support.open),)
        uniform = None if keys is None else jax.vmap(lambda key: jax.random.uniform(key, shape), out_axes=1)(keys)
        return self.support.image(self.pixels.decode(x, uniform))

    def distortion(
        self, images: Shaped[Array, "#b h w c"], z: Float[Array, "b d"], dropout_keys: Key[Array, "b"] | None = None
    ) -> Float[Array, "b"]:
        """The likelihood's distortion between images, or one image, and decoded latents; with keys, dropout is on."""
        return self.distortions(images, z, dropout_keys)[0]

    def distortions(
        self, images: Shaped[Array, "#b h w c"], z: Float[Array, "b d"], dropout_keys: Key[Array, "b"] | None = None
    ) -> tuple[Float[Array, "b"], Float[Array, "b"]]:
        """(distortion, auxiliary loss); they are equal unless the decoder is autoregressive.

        The auxiliary loss is the distortion with each pixel given the latents alone. An autoregressive decoder can do
        without latents; trained on both losses, it uses them (Lucas & Verbeek 2018, "Auxiliary Guided Autoregressive
        Variational Autoencoders").
        """
        if not self.support:
            assert self.likelihood.distortion
            distortion = self.likelihood.distortion(images, self.decoder(z, dropout_keys))
            return distortion, distortion
        x = self.features(z, dropout_keys)
        chosen = jnp.broadcast_to(self.support.at_open(images.transpose(1, 2, 0, 3))[..., 0], x.shape[:2])
        independent = self.support.negative_log_likelihood(self.palette.log_probabilities(x, chosen), images)
        if not self.config.pixel_hidden:
            return independent, independent
        return self.pixel_distortion(images, x), independent

    def pixel_distortion(self, images: Shaped[Array, "#b h w c"], features: Float[Array, "o b f"]) -> Float[Array, "b"]:
        """The distortion between images, or one image, and the `features` of latents; the decoder is autoregressive."""
        assert self.support
        log_probabilities = self.pixels.log_probabilities(images, features)
        return self.support.negative_log_likelihood(log_probabilities, images)

    def features(self, z: Float[Array, "b d"], dropout_keys: Key[Array, "b"] | None = None) -> Float[Array, "o b f"]:
        """The decoder's output at the open positions of sprites; with keys, dropout is on."""
        assert self.support
        x = self.decoder(z, dropout_keys)
        return x[:, :, 0].swapaxes(0, 1) if self.dense_support else self.support.at_open(x.transpose(1, 2, 0, 3))

    def log_prior(self, z: Float[Array, "b d"]) -> Float[Array, "b d"]:
        """log p(z) per latent, in nats; for a learned prior, given the earlier latents."""
        return self.learned_prior.log_prob(z)

    def from_prior(self, noise: Float[Array, "b d"], uniform: Float[Array, "b d"]) -> Float[Array, "b d"]:
        """Sample latents from the prior, given draws from N(0, 1) and from the uniform distribution on [0, 1)."""
        return self.learned_prior.sample(noise, uniform)

    def kl(self, mean: Float[Array, "b d"], logvar: Float[Array, "b d"], z: Float[Array, "b d"]) -> Float[Array, "b d"]:
        """KL(q || prior) per latent for q = N(mean, exp(logvar)), or its estimate at a z from q, in nats."""
        return self.learned_prior.kl(mean, logvar, z)

    def __call__(
        self, images: Shaped[Array, "b h w c"], keys: Key[Array, "b"], *, train: bool
    ) -> tuple[Float[Array, "b"], Float[Array, "b"], Float[Array, "b"], Float[Array, "b d"]]:
        """(distortion, auxiliary loss, KL, mean of q(z | image)) at one z = mean + exp(logvar / 2) * eps.

        `train` turns dropout on. The KL is in closed form or estimated at that z, depending on the prior; summed over
        latents, in nats.
        """
        keys_z, keys_encoder, keys_decoder = jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(keys)
        mean, logvar = self.encode(images, keys_encoder if train else None)
        noise = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:], mean.dtype))(keys_z)
        z = mean + jnp.exp(0.5 * logvar) * noise
        distortion, auxiliary = self.distortions(images, z, keys_decoder if train else None)
        return distortion, auxiliary, jnp.sum(self.kl(mean, logvar, z), axis=-1), mean
