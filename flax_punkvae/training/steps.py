"""Training and evaluation steps: pure functions, jitted here."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int, Integer, Key, Shaped

from flax_punkvae.data import shuffled
from flax_punkvae.devices import parallel
from flax_punkvae.measures.metrics import active_units
from flax_punkvae.model import inference, losses
from flax_punkvae.model.likelihoods import Likelihood
from flax_punkvae.model.vae import PunkVAE
from flax_punkvae.training import placed
from flax_punkvae.training.augmentation import augment
from flax_punkvae.training.placed import Placed
from flax_punkvae.training.state import TrainState

Metrics = dict[str, Array]

_NATS_PER_BIT = math.log(2.0)


def _metrics(likelihood: Likelihood, distortion: Array, kl: Array, beta: Array | float) -> Metrics:
    """Metrics of each image: loss, distortion, kl and, if the likelihood has bits, the -ELBO in bits."""
    loss = losses.negative_elbo(distortion, kl, beta)
    metrics = {"loss": loss, likelihood.distortion_name: distortion, "kl": kl}
    return metrics | ({"bits": (distortion + kl) / _NATS_PER_BIT} if likelihood.bits else {})


@jax.jit
def train_step(state: TrainState, images: Shaped[Array, "b h w c"], key: Key[Array, ""]) -> tuple[TrainState, Metrics]:
    """One Adam step on one batch, with dropout and augmentation; images are in [0, 1], or indices.

    Returns the new state and the loss, mse (or cross_entropy and bits) and kl before the step, averaged over the batch.
    """
    beta = state.beta
    if state.beta_warmup:
        beta = beta * jnp.minimum((state.step + 1).astype(jnp.float32) / state.beta_warmup, 1.0)

    fallen = jnp.minimum(state.step.astype(jnp.float32) / state.auxiliary_steps, 1.0)
    weight = 1.0 + (state.auxiliary - 1.0) * fallen

    def total_loss(params: Any, images: Array, keys: Array) -> tuple[Array, Metrics]:
        distortion, auxiliary, kl, _ = inference.apply(state.model, params, images, keys, train=True)
        sums = jax.tree.map(jnp.sum, _metrics(state.model.likelihood, distortion, kl, beta))
        # Only an autoregressive decoder has an auxiliary loss. It is not part of the loss that is reported.
        optimised = sums["loss"] + weight * jnp.sum(auxiliary) if state.model.config.pixel_hidden else sums["loss"]
        return optimised, sums

    images = augment(images, state.augmentation, state.step, key)
    keys = jax.random.split(key, len(images))
    # As in the reference, the gradient is of the sum over the batch, and the metrics are averages.
    gradients, sums = parallel.summed(state.mesh, jax.grad(total_loss, has_aux=True), state.params, images, keys)
    updates, opt_state = state.tx.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    averages = {name: total / len(images) for name, total in sums.items()}
    return state.replace(step=state.step + 1, params=params, opt_state=opt_state), averages


@partial(jax.jit, donate_argnames="state")
def train_steps(
    state: TrainState,
    images: Placed | Integer[Array, "n h w c"],
    indices: Int[Array, "s b"],
    key: Key[Array, ""],
    begin: Int[Array, ""] | int,
    end: Int[Array, ""] | int,
) -> tuple[TrainState, Metrics]:
    """Steps begin..end-1 in one call: step i on `images[indices[i]]`, with the key fold_in(key, state.step).

    Returns the new state and each metric of each step, [s], which is 0 for the other steps. The input state is donated
    and cannot be used again. The bounds are not static: it is compiled once, whatever the number of steps per call.
    """

    def step(state: TrainState, batch: Int[Array, "b"]) -> tuple[TrainState, Metrics]:
        pixels = state.model.likelihood.pixels(placed.rows(state.mesh, images, batch))
        return train_step(state, pixels, jax.random.fold_in(key, state.step))

    def body(number: Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
        state, metrics = carry
        state, values = step(state, jax.lax.dynamic_index_in_dim(indices, number, keepdims=False))
        update = jax.lax.dynamic_update_index_in_dim
        return state, {name: update(metrics[name], value, number, 0) for name, value in values.items()}

    _, shapes = jax.eval_shape(step, state, indices[0])
    metrics = {name: jnp.zeros(len(indices), shape.dtype) for name, shape in shapes.items()}
    return jax.lax.fori_loop(begin, end, body, (state, metrics))


@partial(jax.jit, static_argnames=("module", "beta", "mesh"))
def eval_step(
    module: PunkVAE,
    params: Any,
    beta: float,
    images: Placed | Integer[Array, "n h w c"],
    indices: Int[Array, "b"],
    key: Key[Array, ""],
    mesh: Mesh | None = None,
) -> Metrics:
    """Each metric [b] and the posterior mean [b, d] of `images[indices]`, with dropout off and one sample of z."""

    def values(params: Any, pixels: Array, keys: Array) -> Metrics:
        distortion, _, kl, mean = inference.apply(module, params, pixels, keys, train=False)
        return {**_metrics(module.likelihood, distortion, kl, beta), "mean": mean}

    pixels = module.likelihood.pixels(placed.rows(mesh, images, indices))
    return parallel.mapped(mesh, values, params, pixels, jax.random.split(key, len(indices)))


def evaluate(
    module: PunkVAE,
    params: Any,
    beta: float,
    images: Placed | Integer[Array, "n h w c"],
    indices: Int[np.ndarray, "m"],
    key: Key[Array, ""],
    batch_size: int,
    mesh: Mesh | None = None,
) -> dict[str, float]:
    """The metrics averaged over `images[indices]`, each image counted once, and the number of active units.

    `images` are placed on the mesh, and the parameters are replicated on it.
    """
    parts: list[dict[str, np.ndarray]] = []
    for number, start in enumerate(range(0, len(indices), batch_size)):
        batch = indices[start : start + batch_size]
        # The last batch is padded, so that one shape is compiled; padding is cut from the result.
        padded = np.resize(batch, batch_size).astype(np.int32)
        metrics = eval_step(module, params, beta, images, padded, jax.random.fold_in(key, number), mesh)
        parts.append({name: np.asarray(value)[: len(batch)] for name, value in metrics.items()})
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    means = values.pop("mean")
    averages = {name: float(value.astype(np.float64).mean()) for name, value in values.items()}
    return {**averages, "active_units": int(active_units(means).sum())}


@jax.jit
def is_finite(state: TrainState) -> Bool[Array, ""]:
    """Whether every parameter and every moment is a finite number."""
    leaves = jax.tree.leaves((state.params, state.opt_state))
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]).all()


def epoch_order(key: Key[Array, ""], epoch: int, count: int, shape: tuple[int, int]) -> Int[np.ndarray, "s b"]:
    """The batches of an epoch, of `shape` (steps, images per step): positions 0..count-1, shuffled by (key, epoch).

    If they are more than the batches hold, the last ones are left out; if they are fewer, the first ones are repeated.
    Shuffled on the host, since some backends cannot sort.
    """
    seed = np.asarray(jax.random.key_data(jax.random.fold_in(key, epoch))).tolist()
    return np.resize(shuffled(count, seed), shape).astype(np.int32)
