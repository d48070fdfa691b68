"""The reference in Flax's own layers: `nn.Conv`, `nn.max_pool`, `nn.ConvTranspose` and `nn.Dropout`."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.training.train_state import TrainState
from jaxtyping import Array, Float, Key

from flax_punkvae.model.losses import gaussian_kl, squared_error


class PlainVAE(nn.Module):
    """The reference network: images [b, 128, 128, 3] to (reconstructions, mean, logvar), with dropout on."""

    widths: tuple[int, ...] = (32, 64, 128, 256)
    hidden: int = 512
    latent: int = 256

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"]) -> tuple[Array, Array, Array]:
        x = images
        for width in self.widths:
            x = nn.max_pool(nn.relu(nn.Conv(width, (3, 3))(x)), (2, 2), (2, 2))
            x = nn.Dropout(0.38, deterministic=False)(x)
        pooled = x.shape[1:]
        x = nn.relu(nn.Dense(self.hidden)(x.reshape(x.shape[0], -1)))
        mean, logvar = nn.Dense(self.latent)(x), nn.Dense(self.latent)(x)
        z = mean + jnp.exp(0.5 * logvar) * jax.random.normal(self.make_rng("dropout"), mean.shape)
        x = nn.relu(nn.Dense(math.prod(pooled))(nn.relu(nn.Dense(self.hidden)(z)))).reshape(-1, *pooled)
        for width in reversed(self.widths[:-1]):
            x = nn.relu(nn.ConvTranspose(width, (3, 3), (2, 2), ((1, 2), (1, 2)))(x))
            x = nn.Dropout(0.36, deterministic=False)(x)
        return nn.sigmoid(nn.ConvTranspose(3, (3, 3), (2, 2), ((1, 2), (1, 2)))(x)), mean, logvar


def create_state(key: Key[Array, ""]) -> TrainState:
    """Create a state with Flax's default initialisation and Adam at learning rate 0.0008."""
    model = PlainVAE()
    images = jnp.zeros((1, 128, 128, 3))
    params = jax.jit(lambda key: model.init({"params": key, "dropout": key}, images))(key)["params"]
    return TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(0.0008))


@jax.jit
def train_step(state: TrainState, images: Float[Array, "b h w c"], key: Key[Array, ""]) -> tuple[TrainState, Array]:
    """Take one step on the summed loss; return the new state and the loss averaged over the batch."""

    def total_loss(params: Any) -> Array:
        reconstructions, mean, logvar = state.apply_fn({"params": params}, images, rngs={"dropout": key})
        return jnp.sum(squared_error(images, reconstructions) + 3.4 * gaussian_kl(mean, logvar))

    loss, gradients = jax.value_and_grad(total_loss)(state.params)
    return state.apply_gradients(grads=gradients), loss / len(images)
