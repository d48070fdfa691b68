"""Convolution, transposed convolution, pooling and dropout: NHWC, kernels (3, 3, in, out)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def convolution(x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"]) -> Float[Array, "b h w o"]:
    """out[y, x] = sum over ky, kx of in[y + ky - 1, x + kx - 1] . kernel[ky, kx]; zero outside the image."""
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=_LAYOUT)


def transposed_convolution(x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"]) -> Float[Array, "b h2 w2 o"]:
    """out[2i + ky - 1, 2j + kx - 1] += in[i, j] . kernel[ky, kx]: twice the height and width.

    PyTorch's ConvTranspose2d(kernel_size=3, stride=2, padding=1, output_padding=1).
    """
    return jax.lax.conv_general_dilated(
        x, kernel[::-1, ::-1], (1, 1), ((1, 2), (1, 2)), lhs_dilation=(2, 2), dimension_numbers=_LAYOUT
    )


def max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """The maximum of every 2x2 block; h and w must be even.

    As a maximum over a reshape, whose gradient is a select, where a window reduction's is a slow scatter.
    """
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))


def dropout(x: Float[Array, "b *rest"], key: Key[Array, ""], rate: float) -> Float[Array, "b *rest"]:
    """Each element kept with probability 1 - rate and divided by it, else 0 (Srivastava et al. 2014).

    Each element has one byte of a random word, kept if below a threshold. 256 (1 - rate) is rarely whole, so each
    example's threshold is the whole number below or above, by chance, such that an element's probability is exact.
    """
    if rate == 0.0:
        return x
    key_bytes, key_threshold = jax.random.split(key)
    words = jax.random.bits(key_bytes, (-(-x.size // 4),), jnp.uint32)
    shifts = jnp.arange(0, 32, 8, dtype=jnp.uint32)
    noise = ((words[:, None] >> shifts) & jnp.uint32(0xFF)).reshape(-1)[: x.size].reshape(x.shape)
    low, fraction = divmod(256.0 * (1.0 - rate), 1.0)
    above = jax.random.uniform(key_threshold, x.shape[:1], jnp.float32) < fraction
    threshold = (jnp.uint32(int(low)) + above.astype(jnp.uint32)).reshape(-1, *(1,) * (x.ndim - 1))
    return jnp.where(noise < threshold, x / (1.0 - rate), jnp.zeros_like(x))
