"""Which elements dropout keeps: random bits for whole batches, the same on every platform."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Key, UInt8, UInt32

# Rotations of the rounds of Threefry-2x32 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def kept(keys: Key[Array, "b"], shape: tuple[int, ...], rate: float) -> Bool[Array, "b *rest"]:
    """Which elements of each image, of `shape`, dropout keeps: each with probability 1 - rate.

    Each image has its own key, so its noise does not depend on how a batch is split. Raises ValueError for rates
    outside [0, 255/256].
    """
    if not 0 <= rate <= 255 / 256:
        raise ValueError(f"expected a dropout rate from 0 to 255/256, got {rate}")
    keys_bytes, keys_threshold = jax.vmap(jax.random.split, out_axes=1)(keys)
    size = math.prod(shape)
    words = random_words(keys_bytes, -(-size // 4))
    # An element is kept if its byte is at least a threshold. 256 rate is rarely an integer, so each image draws its
    # threshold, floor(256 rate) or one more, with the probability that makes its mean 256 rate: the rate is exact.
    whole, fraction = divmod(256 * rate, 1)
    one_more = jax.vmap(lambda key: jax.random.uniform(key, (), jnp.float32))(keys_threshold) < fraction
    threshold = jnp.uint8(int(whole)) + one_more.astype(jnp.uint8)
    draws = _bytes_of(words).reshape(len(keys), -1)[:, :size]
    return (draws >= threshold[:, None]).reshape(-1, *shape)


def random_words(keys: Key[Array, "b"], count: int) -> UInt32[Array, "b n"]:
    """`jax.random.bits(key, (count,), uint32)` of each key: Threefry-2x32 of the counters 0 to count - 1, 20 rounds.

    On a CPU, JAX's own is a loop that keeps its state in memory, and takes seven times as long.
    """
    data = jax.random.key_data(keys)
    if data.shape[-1] != 2:  # JAX was told to use another generator than its default, Threefry.
        return jax.vmap(lambda key: jax.random.bits(key, (count,), jnp.uint32))(keys)
    first, second = jnp.moveaxis(data, -1, 0)[:, :, None]
    schedule = (first, second, first ^ second ^ jnp.uint32(_PARITY))
    x, y = jnp.broadcast_to(first, (len(keys), count)), jnp.arange(count, dtype=jnp.uint32) + second
    for number in range(5):
        for rotation in _ROTATIONS[number % 2]:
            x = x + y
            y = (y << rotation | y >> 32 - rotation) ^ x
        x = x + schedule[(number + 1) % 3]
        y = y + schedule[(number + 2) % 3] + jnp.uint32(number + 1)
    return x ^ y


def _bytes_of(words: UInt32[Array, "b n"]) -> UInt8[Array, "b n 4"]:
    """The four bytes of each word, lowest first, the same on every platform."""
    shifts = jnp.arange(0, 32, 8, dtype=jnp.uint32)
    return lax.platform_dependent(
        words,
        cpu=lambda words: lax.bitcast_convert_type(words, jnp.uint8),
        default=lambda words: (words[..., None] >> shifts & jnp.uint32(255)).astype(jnp.uint8),
    )
