"""PunkVAE, the variational autoencoder: with no arguments the reference, and what else a config makes of it.

What a decoded pixel is, the likelihood says: the mean of a colour (`gaussian`, an image in [0, 1]), or logits over a
palette (`categorical`, an image of palette indices). What latents are held to is the prior. How parameters are laid out
is told in `networks`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key, Shaped

from flax_punkvae.model import losses
from flax_punkvae.model.networks import Decoder, Encoder, Palette, logits
from flax_punkvae.model.priors import AutoregressivePrior


class PunkVAE(nn.Module):
    """The variational autoencoder; with no arguments, the reference. Images are NHWC: float32 in [0, 1], or, of the
    likelihood `categorical`, indices of `colours` colours in one channel.

    All methods by `model.apply(variables, ..., method="encode")`. Noise is always explicit: a key for every image, so
    that it depends neither on the other images of a batch nor on how a batch is spread over devices.
    """

    likelihood: str = "gaussian"
    embedding: int = 8
    encoder_widths: tuple[int, ...] = (32, 64, 128, 256)
    decoder_widths: tuple[int, ...] = (128, 64, 32)
    hidden: int = 512
    residual_blocks: int = 0
    latent: int = 256
    prior: str = "normal"
    encoder_dropout: float = 0.38
    decoder_dropout: float = 0.36
    image_shape: tuple[int, int, int] = (128, 128, 3)
    colours: int = 0
    dtype: Any = jnp.float32

    def setup(self) -> None:
        stages, (height, width, channels) = len(self.encoder_widths), self.image_shape
        categorical = self.likelihood == "categorical"
        if categorical:
            channels = self.embedding
            self.palette = Palette(self.colours)
        self.encoder = Encoder(
            self.colours,
            self.embedding,
            self.encoder_widths,
            self.hidden,
            self.residual_blocks,
            self.latent,
            self.encoder_dropout,
            self.dtype,
        )
        self.decoder = Decoder(
            self.decoder_widths,
            self.hidden,
            self.residual_blocks,
            self.decoder_dropout,
            start=(height >> stages, width >> stages, self.encoder_widths[-1] if stages else channels),
            stages=stages,
            channels=channels,
            squashed=not categorical,
            dtype=self.dtype,
        )
        if self.prior == "autoregressive":
            self.learned_prior = AutoregressivePrior(self.latent)

    def encode(
        self, images: Shaped[Array, "b h w c"], dropout_keys: Key[Array, "b"] | None = None
    ) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
        """(mean, logvar) of q(z | image); with keys, dropout is on."""
        return self.encoder(images, dropout_keys)

    def decode(self, z: Float[Array, "b d"], dropout_keys: Key[Array, "b"] | None = None) -> Float[Array, "b h w c"]:
        """The images of latents or, of the likelihood `categorical`, their logits; with keys, dropout is on."""
        x = self.decoder(z, dropout_keys)
        return logits(x, *self.palette(x)) if self.likelihood == "categorical" else x

    def distortion(
        self, images: Shaped[Array, "b h w c"], z: Float[Array, "b d"], dropout_keys: Key[Array, "b"] | None = None
    ) -> Float[Array, "b"]:
        """What the likelihood makes of images decoded from latents: squared error, or cross-entropy in nats."""
        x = self.decoder(z, dropout_keys)
        if self.likelihood == "gaussian":
            return losses.squared_error(images, x)

        # One image at a time, and once more in the gradient: the logits of a batch, p numbers a pixel, would go
        # through memory several times over. Five times as fast on a CPU, where they are most of a step.
        @jax.checkpoint
        def one(parts: tuple[Array, Array]) -> Array:
            image, decoded = parts
            return losses.cross_entropy(image[None], logits(decoded[None], kernel, bias))[0]

        kernel, bias = self.palette(x)
        return jax.lax.map(one, (images, x))

    def log_prior(self, z: Float[Array, "b d"]) -> Float[Array, "b d"]:
        """log p(z), latent by latent; of a learned prior, given the latents before each. In nats."""
        if self.prior == "normal":
            return losses.gaussian_log_density(z, jnp.zeros_like(z), jnp.zeros_like(z))
        return self.learned_prior.log_prob(z)

    def from_prior(self, noise: Float[Array, "b d"], uniform: Float[Array, "b d"]) -> Float[Array, "b d"]:
        """Latents of the prior from draws of N(0, 1) and of [0, 1); the normal prior's are the former."""
        return noise if self.prior == "normal" else self.learned_prior.sample(noise, uniform)

    def __call__(
        self, images: Shaped[Array, "b h w c"], keys: Key[Array, "b"], *, train: bool
    ) -> tuple[Float[Array, "b"], Float[Array, "b"], Float[Array, "b d"]]:
        """(distortion, KL, mean of q(z | image)) at one z = mean + exp(logvar / 2) * eps; dropout is on if `train` is.

        The KL from a learned prior has no closed form: it is then log q(z | image) - log p(z) at that z.
        """
        keys_z, keys_encoder, keys_decoder = jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(keys)
        mean, logvar = self.encode(images, keys_encoder if train else None)
        noise = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:], mean.dtype))(keys_z)
        z = mean + jnp.exp(0.5 * logvar) * noise
        distortion = self.distortion(images, z, keys_decoder if train else None)
        if self.prior == "normal":
            return distortion, losses.gaussian_kl(mean, logvar), mean
        kl = losses.gaussian_log_density(z, mean, logvar) - self.log_prior(z)
        return distortion, jnp.sum(kl, axis=-1), mean
