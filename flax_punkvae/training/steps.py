"""The steps that change the state of a run, and what is computed from it: pure functions, jitted here."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key, Shaped, UInt8

from flax_punkvae.data import shuffled
from flax_punkvae.devices import parallel
from flax_punkvae.measures.metrics import active_units
from flax_punkvae.model import losses
from flax_punkvae.training.state import TrainState

Metrics = dict[str, Array]

# What the likelihoods call their distortion.
DISTORTIONS = {"gaussian": "mse", "categorical": "cross_entropy"}
_NATS_PER_BIT = math.log(2.0)


def _pixels(state: TrainState, images: UInt8[Array, "b h w c"]) -> Shaped[Array, "b h w c"]:
    """As the model takes them: floats in [0, 1], or indices."""
    return images.astype(jnp.float32) / 255.0 if state.likelihood == "gaussian" else images


def _metrics(state: TrainState, distortion: Array, kl: Array, beta: Array | float) -> Metrics:
    """Of each image: loss, distortion, kl and, of a categorical likelihood, -ELBO in bits."""
    loss = losses.negative_elbo(distortion, kl, beta)
    metrics = {"loss": loss, DISTORTIONS[state.likelihood]: distortion, "kl": kl}
    return metrics | ({"bits": (distortion + kl) / _NATS_PER_BIT} if state.likelihood == "categorical" else {})


def _step(state: TrainState, images: Shaped[Array, "b h w c"], key: Key[Array, ""]) -> tuple[TrainState, Metrics]:
    beta = state.beta
    if state.beta_warmup:
        beta = beta * jnp.minimum((state.step + 1).astype(jnp.float32) / state.beta_warmup, 1.0)

    def total_loss(params: Any, images: Array, keys: Array) -> tuple[Array, Metrics]:
        distortion, kl, _ = state.apply_fn({"params": params}, images, keys, train=True)
        sums = jax.tree.map(jnp.sum, _metrics(state, distortion, kl, beta))
        return sums["loss"], sums

    keys = jax.random.split(key, len(images))
    # The reference takes the gradient of the sum over the batch, and logs averages.
    gradients, sums = parallel.summed(state.mesh, jax.grad(total_loss, has_aux=True), state.params, images, keys)
    updates, opt_state = state.tx.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    averages = {name: total / len(images) for name, total in sums.items()}
    return state.replace(step=state.step + 1, params=params, opt_state=opt_state), averages


@jax.jit
def train_step(state: TrainState, images: Shaped[Array, "b h w c"], key: Key[Array, ""]) -> tuple[TrainState, Metrics]:
    """One Adam step on one batch, dropout on; images in [0, 1], or indices.

    Returns the new state and loss, mse (or cross_entropy, and bits) and kl, averaged over the batch, before the step.
    """
    return _step(state, images, key)


@partial(jax.jit, donate_argnames="state")
def train_steps(
    state: TrainState, images: UInt8[Array, "n h w c"], indices: Int[Array, "s b"], key: Key[Array, ""]
) -> tuple[TrainState, Metrics]:
    """s steps in one call: step i on `images[indices[i]]`, with the key fold_in(key, state.step).

    Returns the new state and each metric of each step, [s]. The state that was passed is used up (donated).
    """

    def body(state: TrainState, batch: Int[Array, "b"]) -> tuple[TrainState, Metrics]:
        pixels = _pixels(state, parallel.rows(state.mesh, images, batch))
        return _step(state, pixels, jax.random.fold_in(key, state.step))

    return jax.lax.scan(body, state, indices)


@jax.jit
def eval_step(
    state: TrainState, images: UInt8[Array, "n h w c"], indices: Int[Array, "b"], key: Key[Array, ""]
) -> Metrics:
    """Each metric [b] and the posterior mean [b, d] of `images[indices]`, with dropout off and one sample of z."""

    def values(params: Any, pixels: Array, keys: Array) -> Metrics:
        distortion, kl, mean = state.apply_fn({"params": params}, pixels, keys, train=False)
        return {**_metrics(state, distortion, kl, state.beta), "mean": mean}

    pixels = _pixels(state, parallel.rows(state.mesh, images, indices))
    return parallel.mapped(state.mesh, values, state.params, pixels, jax.random.split(key, len(indices)))


def evaluate(
    state: TrainState,
    images: UInt8[Array, "n h w c"],
    indices: Int[np.ndarray, "m"],
    key: Key[Array, ""],
    batch_size: int,
) -> dict[str, float]:
    """The metrics of a step averaged over `images[indices]`, each counted exactly once, and active_units, a number."""
    parts: list[dict[str, np.ndarray]] = []
    for number, start in enumerate(range(0, len(indices), batch_size)):
        batch = indices[start : start + batch_size]
        # One shape compiles once: the last batch is filled up, and what fills it is cut from the result.
        full = np.resize(batch, batch_size).astype(np.int32)
        metrics = eval_step(state, images, full, jax.random.fold_in(key, number))
        parts.append({name: np.asarray(value, np.float64)[: len(batch)] for name, value in metrics.items()})
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    means = values.pop("mean")
    averages = {name: float(value.mean()) for name, value in values.items()}
    return {**averages, "active_units": int(active_units(means).sum())}


@jax.jit
def is_finite(state: TrainState) -> Bool[Array, ""]:
    """Whether every parameter and every moment is a finite number."""
    leaves = jax.tree.leaves((state.params, state.opt_state))
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]).all()


@partial(jax.jit, static_argnames="count")
def importance_samples(
    state: TrainState, image: UInt8[Array, "h w c"], key: Key[Array, ""], count: int
) -> tuple[Float[Array, "k"], Float[Array, "k"]]:
    """k = count draws z of an image's posterior: (distortion of the image decoded from each, log p(z) - log q(z))."""
    mean, logvar = encode(state, image[None])
    z = mean + jnp.exp(0.5 * logvar) * jax.random.normal(key, (count, mean.shape[1]), mean.dtype)
    copies = _pixels(state, jnp.broadcast_to(image, (count, *image.shape)))
    distortion = state.apply_fn({"params": state.params}, copies, z, method="distortion")
    q = losses.gaussian_log_density(z, jnp.broadcast_to(mean, z.shape), jnp.broadcast_to(logvar, z.shape))
    return distortion, jnp.sum(log_prior(state, z) - q, axis=-1)


@jax.jit
def reconstruct(state: TrainState, images: UInt8[Array, "b h w c"]) -> Shaped[Array, "b h w c"]:
    """Images decoded from the mean of their posterior: no dropout, no noise."""
    mean, _ = encode(state, images)
    return decode(state, mean)


@jax.jit
def encode(state: TrainState, images: UInt8[Array, "b h w c"]) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
    """(mean, logvar) of the posteriors of images, dropout off."""
    return state.apply_fn({"params": state.params}, _pixels(state, images), method="encode")


@jax.jit
def decode(state: TrainState, z: Float[Array, "b d"]) -> Shaped[Array, "b h w c"]:
    """The images of latents, dropout off: floats in [0, 1] or, in uint8, the most probable indices."""
    decoded = state.apply_fn({"params": state.params}, z, method="decode")
    return decoded if state.likelihood == "gaussian" else decoded.argmax(-1, keepdims=True).astype(jnp.uint8)


@jax.jit
def log_prior(state: TrainState, z: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """log p(z), latent by latent, in nats."""
    return state.apply_fn({"params": state.params}, z, method="log_prior")


@jax.jit
def from_prior(state: TrainState, noise: Float[Array, "b d"], uniform: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """Latents of the prior, from as many draws of N(0, 1) and of [0, 1)."""
    return state.apply_fn({"params": state.params}, noise, uniform, method="from_prior")


def epoch_order(key: Key[Array, ""], epoch: int, count: int, batch_size: int) -> Int[np.ndarray, "s b"]:
    """The batches of an epoch: positions 0..count-1 in an order given by (key, epoch), each at most once.

    The last, smaller batch of the order is left out. Shuffled on the host: some backends cannot sort.
    """
    seed = np.asarray(jax.random.key_data(jax.random.fold_in(key, epoch))).tolist()
    steps = count // batch_size
    return shuffled(count, seed)[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)
