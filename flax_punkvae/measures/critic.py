"""A critic: a small convolutional network trained to tell samples from real sprites (a classifier two-sample test).

Source: Lopez-Paz & Oquab 2017, with the AUC instead of the accuracy, which needs no threshold.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, UInt8

from flax_punkvae.measures.critic_network import Critic

EPOCHS = 16
# Small sets are seen more often than EPOCHS times, or the critic would hardly learn.
LEAST_STEPS = 300
# At most so many sprites of each set are compared, which bounds the time.
MOST = 2000
_BATCH = 50
_RATE = 2e-3
# Steps in one call.
_STEPS = 20


def compare(real: UInt8[np.ndarray, "n h w c"], samples: UInt8[np.ndarray, "m h w c"], seed: int) -> float:
    """The AUC of a critic on one half of both sets, after training on the other; the seed chooses the halves.

    The AUC is the probability that the critic finds a real sprite more real than a sample; ties count 1/2. 0.5: it
    cannot tell them; 1: it always can. The sets are cut to one size, at most MOST. Needs at least 4 sprites of each.
    """
    count = min(len(real), len(samples), MOST)
    if count < 4:
        raise ValueError(f"expected at least 4 sprites in both sets, got {len(real)} and {len(samples)}")
    random = np.random.default_rng(seed)
    sets = [each[random.permutation(len(each))[:count]] for each in (real, samples)]
    half = count // 2
    sprites = np.concatenate([each[:half] for each in sets])
    targets = np.repeat(np.array([1, 0], np.float32), half)
    params = _fit(jax.random.key(seed), sprites, targets, _batches(random, len(sprites)))
    scores = [_scores(params, each[half:]) for each in sets]
    return auc(*scores)


def chance(count: int) -> float:
    """Standard error of `compare` for two sets of `count` sprites that do not differ: that of Mann-Whitney's U."""
    tested = count - count // 2
    return math.sqrt((2 * tested + 1) / (12 * tested**2))


def auc(positive: Float[np.ndarray, "n"], negative: Float[np.ndarray, "m"]) -> float:
    """P(a positive score exceeds a negative one), ties counting 1/2: Mann-Whitney's U / (n m)."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(below.sum() / 2 / (len(positive) * len(negative)))


def _batches(random: np.random.Generator, count: int) -> Int[np.ndarray, "s b"]:
    """The sprites of each step: a new order in each epoch, whose incomplete batch is dropped."""
    size = min(_BATCH, count)
    per_epoch = count // size
    epochs = max(EPOCHS, math.ceil(LEAST_STEPS / per_epoch))
    orders = [random.permutation(count)[: per_epoch * size] for _ in range(epochs)]
    return np.concatenate(orders).reshape(-1, size)


_TX = optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(1e-2))


def _fit(
    key: Key[Array, ""],
    sprites: UInt8[np.ndarray, "n h w c"],
    targets: Float[np.ndarray, "n"],
    batches: Int[np.ndarray, "s b"],
) -> Any:
    """Parameters trained with AdamW on these batches. The rate falls to 0 along a cosine, which averages the last
    steps: the AUC does not depend on where training ends."""
    state = _start(key, sprites[:1])
    rates = (_RATE * 0.5 * (1 + np.cos(np.pi * np.arange(len(batches)) / len(batches)))).astype(np.float32)
    for start in range(0, len(batches), _STEPS):
        count = min(_STEPS, len(batches) - start)
        # Padded to one shape, which compiles once.
        numbers = start + np.resize(np.arange(count), _STEPS)
        chosen = batches[numbers]
        state = _steps(state, sprites[chosen], targets[chosen], rates[numbers], np.int32(count))
    return state[0]


@jax.jit
def _start(key: Key[Array, ""], sprites: UInt8[Array, "1 h w c"]) -> tuple[Any, Any]:
    params = Critic().init(key, sprites)
    return params, _TX.init(params)


# Compiled once for each size of sprites, however many there are.
@jax.jit
def _steps(
    state: tuple[Any, Any],
    sprites: UInt8[Array, "s b h w c"],
    targets: Float[Array, "s b"],
    rates: Float[Array, "s"],
    count: Int[Array, ""],
) -> tuple[Any, Any]:
    """The first `count` of s steps. One call of many takes less processor time than many calls of one."""

    def step(number: Array, state: tuple[Any, Any]) -> tuple[Any, Any]:
        return _step(state, sprites[number], targets[number], rates[number])

    return jax.lax.fori_loop(0, count, step, state)


def _step(
    state: tuple[Any, Any], sprites: UInt8[Array, "b h w c"], targets: Float[Array, "b"], rate: Float[Array, ""]
) -> tuple[Any, Any]:
    params, opt_state = state

    def loss(params: Any) -> Float[Array, ""]:
        return optax.sigmoid_binary_cross_entropy(Critic().apply(params, sprites), targets).mean()

    updates, opt_state = _TX.update(jax.grad(loss)(params), opt_state, params)
    return optax.apply_updates(params, jax.tree.map(lambda update: -rate * update, updates)), opt_state


def _scores(params: Any, sprites: UInt8[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n"]:
    """The logits of sprites; above 0, the critic takes a sprite for real."""
    size = min(5 * _BATCH, len(sprites))
    parts = []
    for start in range(0, len(sprites), size):
        batch = sprites[start : start + size]
        # Padded to one shape, which compiles once.
        parts.append(np.asarray(_apply(params, batch[np.resize(np.arange(len(batch)), size)]))[: len(batch)])
    return np.concatenate(parts)


@jax.jit
def _apply(params: Any, sprites: UInt8[Array, "b h w c"]) -> Float[Array, "b"]:
    return jnp.asarray(Critic().apply(params, sprites))
