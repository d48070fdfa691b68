"""Bits a sprite by other codes: against what can be counted by hand, and by decoding."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from flax_punkvae.measures import codes
from flax_punkvae.model.palette import log_frequencies
from helpers import transparent


def indices(count: int, colours: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, colours, (count, 8, 8, 1), np.min_scalar_type(colours - 1))


@pytest.mark.parametrize("colours", [2, 300])
def test_independent_pixels_are_coded_by_their_frequencies(colours: int):
    """Oracle: by hand. At every position one colour was seen 3 times of 4, one once: of 2, (3.1 and 1.1) / 4.2."""
    train = np.zeros((4, 2, 3, 1), np.min_scalar_type(colours - 1))
    train[0] = colours - 1
    held_out = np.zeros((2, 2, 3, 1), train.dtype)
    held_out[1] = colours - 1
    total = 4 + 0.1 * colours
    expected = -6 * (np.log2(3.1 / total) + np.log2(1.1 / total)) / 2
    found = codes.independent_bits(held_out, log_frequencies(train, colours))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_noise_cannot_be_compressed():
    """Oracle: 64 pixels of 2 bits are 128 bits, whatever the code; of 8 bits, 512; of 16 bits, 1024."""
    few, many, more = indices(200, 4, 0), indices(200, 256, 1), indices(200, 65_536, 1)
    assert codes.zlib_bits(few[:100], few[100:]) >= 128
    assert codes.lzma_bits(many[:100], many[100:]) >= 512
    assert codes.zlib_bits(more[:100], more[100:]) >= 1024 <= codes.lzma_bits(more[:100], more[100:])


def test_what_was_seen_before_costs_next_to_nothing():
    seen = indices(50, 200, 2)
    assert codes.zlib_bits(seen, seen[-10:]) < 64 < 512 < codes.zlib_bits(seen, indices(10, 200, 3))
    assert codes.lzma_bits(seen, seen[:10]) < 64


@pytest.mark.parametrize(("colours", "fit"), [(50, 585), (300, 292)])
def test_zlib_takes_the_last_sprites_that_fit_its_window(colours: int, fit: int):
    """Oracle: the same by hand, for more training sprites than 32 kB hold; a byte per pixel, or two."""
    train, held_out = (indices(count, colours, count)[:, :, :7] for count in (1000, 3))
    held_out[0] = train[-1]
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=train[-fit:].tobytes())
    content = compressor.compress(held_out[0].tobytes()) + compressor.flush()
    assert codes.zlib_bits(train, held_out[:1]) == 8 * len(content)
    back = zlib.decompressobj(-15, zdict=train[-fit:].tobytes())
    assert back.decompress(content) == held_out[0].tobytes()


def test_codes_of_transparent_sprites_are_lossless(monkeypatch: pytest.MonkeyPatch):
    """Oracle: Pillow reads back what was written."""
    sprites = transparent.sprites(3)
    written = []
    monkeypatch.setattr(codes, "_mean_bits", lambda files: written.extend(files) or 0.0)
    codes.png_bits(sprites)
    codes.webp_bits(sprites)
    assert [Image.open(io.BytesIO(file)).mode for file in written[:3]] == ["P"] * 3
    for file, sprite in zip(written, [*sprites, *sprites], strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(file)).convert("RGBA")), sprite)


def test_png_and_webp_are_the_files_and_lossless():
    """Oracle: Pillow reads back what was written; of two PNGs the smaller counts."""
    random = np.random.default_rng(6)
    flat = np.tile(random.integers(0, 256, (1, 1, 1, 3), np.uint8), (1, 24, 24, 1))
    noisy = random.integers(0, 256, (1, 24, 24, 3), np.uint8)
    for sprites in (flat, noisy):
        file = io.BytesIO()
        Image.fromarray(sprites[0]).save(file, format="PNG", optimize=True)
        assert 8 * 60 < codes.png_bits(sprites) <= 8 * len(file.getvalue())
        file = io.BytesIO()
        Image.fromarray(sprites[0]).save(file, format="WEBP", lossless=True, quality=100, method=6)
        assert codes.webp_bits(sprites) == 8 * len(file.getvalue())
        with Image.open(file) as image:
            np.testing.assert_array_equal(np.asarray(image.convert("RGB")), sprites[0])
    np.testing.assert_allclose(
        codes.png_bits(np.concatenate([flat, noisy])) * 2,
        sum(codes.png_bits(sprites) for sprites in (flat, noisy)),
    )
    assert codes.png_bits(noisy) > 24 * 24 * 24 > codes.png_bits(flat)
