"""Bits per held-out sprite under other codes, to compare a model's bits with."""

import io
import lzma
import zlib

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

# As far back as zlib looks.
_WINDOW = 32_768


def png_bits(sprites: UInt8[np.ndarray, "n h w 3"]) -> float:
    """A PNG each, with Pillow's `optimize`, in RGB or with a palette of its own: whichever is the smaller file."""
    return _mean_bits(min(_file(sprite, "PNG", optimize=True), _palette_png(sprite), key=len) for sprite in sprites)


def webp_bits(sprites: UInt8[np.ndarray, "n h w 3"]) -> float:
    """A lossless WebP each, at Pillow's greatest effort."""
    return _mean_bits(_file(sprite, "WEBP", lossless=True, quality=100, method=6) for sprite in sprites)


def zlib_bits(train: UInt8[np.ndarray, "n h w 1"], held_out: UInt8[np.ndarray, "m h w 1"]) -> float:
    """Each sprite's indices, one byte a pixel, by zlib with as many of the training sprites as it can look back on."""
    sprite = train[0].size
    dictionary = train[-max(_WINDOW // sprite, 1) :].tobytes()[-_WINDOW:]

    def compress(indices: np.ndarray) -> bytes:
        # Without header and checksum, which tell nothing of the sprite.
        compressor = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=dictionary)
        return compressor.compress(indices.tobytes()) + compressor.flush()

    return _mean_bits(map(compress, held_out))


def lzma_bits(train: UInt8[np.ndarray, "n h w 1"], held_out: UInt8[np.ndarray, "m h w 1"]) -> float:
    """What all held-out sprites' indices, in one stream behind all training sprites, add to it, by LZMA2 at preset 9e.

    It sees earlier held-out sprites too, and pays no start for each: kinder to it than one sprite at a time.
    """
    whole = _lzma(np.concatenate([train, held_out]).tobytes())
    return 8 * (whole - _lzma(train.tobytes())) / len(held_out)


def independent_bits(held_out: UInt8[np.ndarray, "m h w 1"], log_frequencies: Float[np.ndarray, "h w p"]) -> float:
    """Each pixel by itself, by the training frequencies at its position: -sum log2 frequency."""
    _, height, width, _ = held_out.shape
    rows, columns = np.indices((height, width))
    nats = -log_frequencies[rows, columns, held_out[..., 0]].astype(float).sum((1, 2))
    return float(nats.mean() / np.log(2.0))


def _lzma(content: bytes) -> int:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
    return len(lzma.compress(content, format=lzma.FORMAT_RAW, filters=filters))


def _palette_png(sprite: UInt8[np.ndarray, "h w 3"]) -> bytes:
    colours, indices = np.unique(sprite.reshape(-1, 3), axis=0, return_inverse=True)
    if len(colours) > 256:
        return _file(sprite, "PNG", optimize=True)
    image = Image.fromarray(indices.reshape(sprite.shape[:2]).astype(np.uint8), mode="P")
    image.putpalette(colours.astype(np.uint8).tobytes())
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return file.getvalue()


def _file(sprite: UInt8[np.ndarray, "h w 3"], kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(sprite).save(file, format=kind, **options)
    return file.getvalue()


def _mean_bits(files) -> float:
    return float(np.mean([8 * len(content) for content in files]))
