"""The state of a run and the steps that change it: pure functions, jitted here and nowhere else."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from flax_punkvae import losses, parallel
from flax_punkvae.config import Config, ModelConfig
from flax_punkvae.data import shuffled
from flax_punkvae.metrics import active_units
from flax_punkvae.models import PunkVAE

Metrics = dict[str, Array]


class TrainState(struct.PyTreeNode):
    """What a step changes: its number, the parameters, Adam's moments; whole on every device.

    The rest is static: the model, the optimiser, beta, and the mesh of devices (None for one).
    """

    step: Any
    params: Any
    opt_state: Any
    apply_fn: Callable[..., Any] = struct.field(pytree_node=False)
    tx: optax.GradientTransformation = struct.field(pytree_node=False)
    beta: float = struct.field(pytree_node=False)
    mesh: Mesh | None = struct.field(pytree_node=False)


@cache
def build(model: ModelConfig, learning_rate: float, precision: str) -> tuple[PunkVAE, optax.GradientTransformation]:
    """The module and its optimiser; cached, since jit compares such static arguments by identity."""
    dtype = {"f32": jnp.float32, "bf16": jnp.bfloat16}[precision]
    return PunkVAE(**vars(model), dtype=dtype), optax.adam(learning_rate)


@partial(jax.jit, static_argnames="model")
def init(model: PunkVAE, key: Key[Array, ""]) -> Any:
    """Initial parameters."""
    images = jnp.zeros((1, model.image_size, model.image_size, model.channels), jnp.float32)
    # The second key is for noise, which leaves no trace in the parameters.
    return model.init(key, images, key[None], train=False)["params"]


def create_state(config: Config, key: Key[Array, ""], mesh: Mesh | None = None) -> TrainState:
    """The state before the first step: parameters drawn from `key`, Adam's moments zero."""
    model, tx = build(config.model, config.train.learning_rate, config.train.precision)
    params = init(model, key)
    step, params, opt_state = parallel.replicated(mesh, (jnp.zeros((), jnp.int32), params, tx.init(params)))
    return TrainState(step, params, opt_state, apply_fn=model.apply, tx=tx, beta=config.train.beta, mesh=mesh)


def _to_float(images: UInt8[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    return images.astype(jnp.float32) / 255.0


def _step(state: TrainState, images: Float[Array, "b h w c"], key: Key[Array, ""]) -> tuple[TrainState, Metrics]:
    def total_loss(params: Any, images: Array, keys: Array) -> tuple[Array, Metrics]:
        reconstructions, mean, logvar = state.apply_fn({"params": params}, images, keys, train=True)
        mse = losses.squared_error(images, reconstructions)
        kl = losses.gaussian_kl(mean, logvar)
        loss = losses.negative_elbo(mse, kl, state.beta)
        return jnp.sum(loss), {"loss": jnp.sum(loss), "mse": jnp.sum(mse), "kl": jnp.sum(kl)}

    keys = jax.random.split(key, len(images))
    # The reference takes the gradient of the sum over the batch, and logs averages.
    gradients, sums = parallel.summed(state.mesh, jax.grad(total_loss, has_aux=True), state.params, images, keys)
    updates, opt_state = state.tx.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    averages = {name: total / len(images) for name, total in sums.items()}
    return state.replace(step=state.step + 1, params=params, opt_state=opt_state), averages


@jax.jit
def train_step(state: TrainState, images: Float[Array, "b h w c"], key: Key[Array, ""]) -> tuple[TrainState, Metrics]:
    """One Adam step on one batch, dropout on; images in [0, 1].

    Returns the new state and loss, mse and kl, averaged over the batch, before the step.
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
        pixels = _to_float(parallel.rows(state.mesh, images, batch))
        return _step(state, pixels, jax.random.fold_in(key, state.step))

    return jax.lax.scan(body, state, indices)


@jax.jit
def eval_step(
    state: TrainState, images: UInt8[Array, "n h w c"], indices: Int[Array, "b"], key: Key[Array, ""]
) -> Metrics:
    """Loss, mse, kl [b] and posterior mean [b, d] of `images[indices]`, with dropout off and one sample of z."""

    def values(params: Any, pixels: Array, keys: Array) -> Metrics:
        reconstructions, mean, logvar = state.apply_fn({"params": params}, pixels, keys, train=False)
        mse = losses.squared_error(pixels, reconstructions)
        kl = losses.gaussian_kl(mean, logvar)
        return {"loss": losses.negative_elbo(mse, kl, state.beta), "mse": mse, "kl": kl, "mean": mean}

    pixels = _to_float(parallel.rows(state.mesh, images, indices))
    return parallel.mapped(state.mesh, values, state.params, pixels, jax.random.split(key, len(indices)))


def evaluate(
    state: TrainState,
    images: UInt8[Array, "n h w c"],
    indices: Int[np.ndarray, "m"],
    key: Key[Array, ""],
    batch_size: int,
) -> dict[str, float]:
    """Loss, mse and kl averaged over `images[indices]`, each counted exactly once, and active_units, their number."""
    parts: list[dict[str, np.ndarray]] = []
    for number, start in enumerate(range(0, len(indices), batch_size)):
        batch = indices[start : start + batch_size]
        # One shape compiles once: the last batch is filled up, and what fills it is cut from the result.
        full = np.resize(batch, batch_size).astype(np.int32)
        metrics = eval_step(state, images, full, jax.random.fold_in(key, number))
        parts.append({name: np.asarray(value, np.float64)[: len(batch)] for name, value in metrics.items()})
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    averages = {name: float(values[name].mean()) for name in ("loss", "mse", "kl")}
    return {**averages, "active_units": int(active_units(values["mean"]).sum())}


@jax.jit
def is_finite(state: TrainState) -> Bool[Array, ""]:
    """Whether every parameter and every moment is a finite number."""
    leaves = jax.tree.leaves((state.params, state.opt_state))
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]).all()


@partial(jax.jit, static_argnames="count")
def importance_samples(
    state: TrainState, image: UInt8[Array, "h w c"], key: Key[Array, ""], count: int
) -> tuple[Float[Array, "k d"], Float[Array, "k"], Float[Array, "d"], Float[Array, "d"]]:
    """k = count draws z of an image's posterior: (z, squared error of the image decoded from each, mean, logvar)."""
    mean, logvar = encode(state, image[None])
    z = mean + jnp.exp(0.5 * logvar) * jax.random.normal(key, (count, mean.shape[1]), mean.dtype)
    copies = jnp.broadcast_to(image, (count, *image.shape))
    errors = losses.squared_error(_to_float(copies), decode(state, z))
    return z, errors, mean[0], logvar[0]


@jax.jit
def reconstruct(state: TrainState, images: UInt8[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Images decoded from the mean of their posterior: no dropout, no noise."""
    mean, _ = encode(state, images)
    return decode(state, mean)


@jax.jit
def encode(state: TrainState, images: UInt8[Array, "b h w c"]) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
    """(mean, logvar) of the posteriors of images, dropout off."""
    return state.apply_fn({"params": state.params}, _to_float(images), method="encode")


@jax.jit
def decode(state: TrainState, z: Float[Array, "b d"]) -> Float[Array, "b h w c"]:
    """The images of latents, dropout off."""
    return state.apply_fn({"params": state.params}, z, method="decode")


def epoch_order(key: Key[Array, ""], epoch: int, count: int, batch_size: int) -> Int[np.ndarray, "s b"]:
    """The batches of an epoch: positions 0..count-1 in an order given by (key, epoch), each at most once.

    The last, smaller batch of the order is left out. Shuffled on the host: some backends cannot sort.
    """
    seed = np.asarray(jax.random.key_data(jax.random.fold_in(key, epoch))).tolist()
    steps = count // batch_size
    return shuffled(count, seed)[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)
