"""The nearest sprites, against loops over all pixels."""

import tracemalloc

import numpy as np
import pytest

from flax_punkvae.measures import neighbours


def test_nearest_sprites_are_those_with_the_fewest_other_pixels():
    """Oracle: every pixel of every pair, one by one."""
    random = np.random.default_rng(7)
    sprites, references = random.integers(0, 2, (5, 4, 4, 3), np.uint8), random.integers(0, 2, (6, 4, 4, 3), np.uint8)
    references[3] = sprites[2]
    nearest, differing = neighbours.nearest_sprites(sprites, references)
    for sprite, found, count in zip(sprites.tolist(), nearest, differing, strict=True):
        counts = [sum(sprite[y][x] != other[y][x] for y in range(4) for x in range(4)) for other in references.tolist()]
        assert (found, count) == (counts.index(min(counts)), min(counts))
    assert (nearest[2], differing[2]) == (3, 0)


@pytest.mark.parametrize("channels", [1, 4])
def test_many_sprites_are_compared_as_a_few_are(channels: int):
    """Oracle: the sprites a few at a time, which another loop compares; positions and colours that all share."""
    random = np.random.default_rng(9)
    sprites, references = (random.integers(0, 3, (count, 5, 3, channels), np.uint8) for count in (70, 90))
    references[:, 2] = 1
    sprites[:9] = references[80:89]
    few = [neighbours.nearest_sprites(sprites[start : start + 5], references) for start in range(0, 70, 5)]
    for at_once, parts in zip(neighbours.nearest_sprites(sprites, references), zip(*few, strict=True), strict=True):
        np.testing.assert_array_equal(at_once, np.concatenate(parts))


def test_nearest_sprites_take_memory_for_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch):
    """Oracles: all at once; the bytes that tracemalloc counts, beside those of the references as numbers."""
    random = np.random.default_rng(8)
    sprites, references = (
        random.integers(0, 2, (70, 4, 4, 3), np.uint8),
        random.integers(0, 2, (20_001, 4, 4, 3), np.uint8),
    )
    at_once = neighbours.nearest_sprites(sprites, references)
    monkeypatch.setattr(neighbours, "_PIXELS", 16 * 1000)
    # What is compiled, for whole blocks and for the last one, is kept, whatever the number of blocks.
    neighbours.nearest_sprites(sprites[:20], references[:1001])
    tracemalloc.start()
    in_blocks = neighbours.nearest_sprites(sprites, references)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(in_blocks, at_once)
    assert peak < 1_000_000 < 20_001 * 16 * 4
