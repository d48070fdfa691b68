"""A critic: a small convolutional network trained to tell samples from real sprites (a classifier two-sample test).

Source: Lopez-Paz & Oquab 2017, with the AUC instead of the accuracy, which needs no threshold.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key, Shaped, UInt8

EPOCHS = 16
# Small sets are seen more often than EPOCHS times, or the critic would hardly learn.
LEAST_STEPS = 300
# At most so many sprites of each set are compared, which bounds the time.
MOST = 2000
_BATCH = 50
_RATE = 2e-3
# Steps in one call.
_STEPS = 20
# Larger sprites are folded: blocks of pixels become channels.
_SIDE = 32
# A pixel is compared with so many.
_NEIGHBOURS = 4


class Critic(nn.Module):
    """Three 3x3 convolutions, the last two with stride 2, and a dense layer, each with ReLU, then a dense layer to the
    logit that a sprite is real.

    Besides the colour, in [-2, 2] and with alpha if sprites have it, a pixel has its position and whether it equals
    each of its neighbours, which is how outlines and stray pixels show.
    """

    widths: tuple[int, ...] = (16, 32, 32)
    hidden: int = 64

    @nn.compact
    def __call__(self, sprites: UInt8[Array, "b h w c"]) -> Float[Array, "b"]:
        init = nn.initializers.he_normal()
        shared = _shared(sprites.shape)
        kernel, bias = _Layer((9 * len(shared), self.widths[0]), init, name="conv_0")()
        x = nn.relu(_first_convolution(sprites, shared, kernel) + bias[:, None, None, None])
        for index, width in enumerate(self.widths[1:], 1):
            kernel, bias = _Layer((9 * len(x), width), init, name=f"conv_{index}")()
            x = nn.relu(_convolution(x, kernel, 2) + bias[:, None, None, None])
        channels, height, width, batch = x.shape
        kernel, bias = _Layer((height * width * channels, self.hidden), init, name="dense")()
        kernel = kernel.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
        x = nn.relu(_product(kernel, x.reshape(-1, batch)) + bias[:, None])
        kernel, bias = _Layer((self.hidden, 1), nn.initializers.lecun_normal(), name="logit")()
        return (_product(kernel, x) + bias[:, None])[0]


class _Layer(nn.Module):
    """The parameters of a dense layer: calling it returns (kernel, bias)."""

    shape: tuple[int, int]
    init: Any

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "i o"], Float[Array, "o"]]:
        bias = nn.initializers.zeros
        return self.param("kernel", self.init, self.shape), self.param("bias", bias, self.shape[1:])


def _first_convolution(
    sprites: UInt8[Array, "b h w c"], shared: Float[Array, "f h2 w2 1"], kernel: Float[Array, "f9 o"]
) -> Float[Array, "o h2 w2 b"]:
    """The convolution of all features of the pixels: `shared`, the same in all sprites, and those in bytes.

    The first are convolved once, and of the second a quarter is copied of what floats would take.
    """
    # Sprites last: shifting whole sets of them copies long runs, which makes a step 1.6 times as fast on a CPU.
    patches = _patches(_folded(_bytes(sprites)).transpose(3, 1, 2, 0), 1)
    # Without the barrier, XLA would make them floats before it copies them.
    patches = jax.lax.optimization_barrier(patches).astype(jnp.float32)
    channels = sprites.shape[-1]
    units = jnp.array([4 / 255] * channels + [1.0] * _NEIGHBOURS)
    of_bytes = kernel.reshape(-1, channels + _NEIGHBOURS + 2, kernel.shape[1])[:, : len(units)] * units[:, None]
    return _weighted(patches, of_bytes.reshape(-1, kernel.shape[1])) + _convolution(shared, kernel, 1)


def _bytes(sprites: UInt8[Array, "b h w c"]) -> UInt8[Array, "b h w f"]:
    """Colour, and whether the pixels above, on the left, on the right and below are equal."""
    _, height, width, _ = sprites.shape
    padded = jnp.pad(sprites, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    shifts = [(0, 1), (1, 0), (1, 2), (2, 1)]
    equal = [(padded[:, y : y + height, x : x + width] == sprites).all(-1) for y, x in shifts]
    return jnp.concatenate([sprites, jnp.stack(equal, -1).astype(jnp.uint8)], -1)


def _shared(shape: tuple[int, ...]) -> Float[Array, "f h2 w2 1"]:
    """The part of a pixel's features that is the same in all sprites: the least colour, -2, nothing for each of the
    neighbours, and the position, in [-1, 1]."""
    _, height, width, channels = shape
    where = jnp.meshgrid(jnp.linspace(-1, 1, height), jnp.linspace(-1, 1, width), indexing="ij")
    rest = jnp.array([-2.0] * channels + [0.0] * _NEIGHBOURS)
    features = jnp.concatenate([jnp.broadcast_to(rest, (height, width, len(rest))), jnp.stack(where, -1)], -1)
    return _folded(features[None]).transpose(3, 1, 2, 0)


def _folded(x: Shaped[Array, "b h w c"]) -> Shaped[Array, "b h2 w2 c2"]:
    """Blocks of pixels as channels, so that no side exceeds _SIDE; no pixel is lost."""
    batch, height, width, channels = x.shape
    side = math.ceil(max(height, width) / _SIDE)
    x = jnp.pad(x, ((0, 0), (0, -height % side), (0, -width % side), (0, 0)))
    rows, columns = x.shape[1] // side, x.shape[2] // side
    blocks = x.reshape(batch, rows, side, columns, side, channels).swapaxes(2, 3)
    return blocks.reshape(batch, rows, columns, side * side * channels)


def _patches(x: Shaped[Array, "c h w b"], stride: int) -> Shaped[Array, "c9 h2 w2 b"]:
    """The 3x3 neighbourhood of every pixel, or of every second one, zero outside the sprite."""
    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return jnp.concatenate(
        [padded[:, i : i + height : stride, j : j + width : stride] for i in range(3) for j in range(3)]
    )


@jax.custom_vjp
def _product(kernel: Float[Array, "i o"], x: Float[Array, "i n"]) -> Float[Array, "o n"]:
    """kernel' x, whose gradients are products in the order that is fast on a CPU."""
    return kernel.T @ x


def _product_backward(
    residuals: tuple[Float[Array, "i o"], Float[Array, "i n"]], dy: Float[Array, "o n"]
) -> tuple[Float[Array, "i o"], Float[Array, "i n"]]:
    kernel, x = residuals
    return x @ dy.T, kernel @ dy


_product.defvjp(lambda kernel, x: (kernel.T @ x, (kernel, x)), _product_backward)


def _convolution(x: Float[Array, "c h w b"], kernel: Float[Array, "c9 o"], stride: int) -> Float[Array, "o h2 w2 b"]:
    """A 3x3 convolution, as a product with patches: lax's gradients of convolutions are many times slower on a CPU."""
    return _weighted(_patches(x, stride), kernel)


def _weighted(patches: Float[Array, "i h w b"], kernel: Float[Array, "i o"]) -> Float[Array, "o h w b"]:
    return _product(kernel, patches.reshape(len(patches), -1)).reshape(-1, *patches.shape[1:])


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
