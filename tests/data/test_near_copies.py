"""Near copies: few changed pixels, mirror images, shifts by one pixel. Oracle: every pair, compared directly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flax_punkvae.data import near_copies, synthetic


@pytest.fixture(scope="module")
def sprites() -> np.ndarray:
    """Sixty made-up characters, uint8 [60, 24, 24, 4]."""
    return synthetic.draw(60, 0)[0]


def all_changed(sprites: np.ndarray) -> set[int]:
    """Every sprite that differs from an earlier one in at most 2 % of its pixels, but is no copy of it."""
    differ = (sprites[:, None] != sprites[None]).any(-1).sum((2, 3))
    few = near_copies.FEW * sprites[0, ..., 0].size
    later, earlier = np.nonzero((differ > 0) & (differ <= few))
    return set(later[later > earlier].tolist())


@given(st.integers(0, 2**32 - 1), st.sampled_from([(8, 8), (16, 16), (24, 24), (9, 40)]), st.sampled_from([3, 4]))
def test_sprites_that_differ_in_few_pixels(seed: int, size: tuple[int, int], channels: int):
    """A set of at most nine variants of each sprite is searched in full."""
    random = np.random.default_rng(seed)
    bases = random.integers(0, 256, (6, *size, channels), np.uint8)
    sprites = np.repeat(bases, 9, axis=0)
    for sprite in sprites:
        pixels = sprite.reshape(-1, channels)
        pixels[random.choice(len(pixels), random.integers(0, 1 + len(pixels) // 40), replace=False)] ^= 1
    sprites = random.permutation(sprites)
    assert {later for later, _ in near_copies.find(sprites).changed} == all_changed(sprites)


def test_changed_pairs_are_those_of_all_pairs(sprites: np.ndarray):
    few = int(near_copies.FEW * 24 * 24)
    changed = np.concatenate([sprites, sprites[[3, 4, 5]]])
    changed[60, 0, :few] ^= 255
    changed[61, 0, : few + 1] ^= 255
    found = near_copies.find(changed)
    assert (60, 3) in found.changed and not {61, 62} & {later for later, _ in found.changed}
    assert {later for later, _ in found.changed} == all_changed(changed)
    assert found.looked_at == 63


def test_mirror_images(sprites: np.ndarray):
    found = near_copies.find(np.concatenate([sprites, sprites[[7, 8], :, ::-1]]))
    assert found.mirrored == [(60, 7), (61, 8)]


@pytest.mark.parametrize("down", [-1, 0, 1])
@pytest.mark.parametrize("right", [-1, 0, 1])
def test_shifts(sprites: np.ndarray, down: int, right: int):
    moved = np.roll(sprites[7:8], (down, right), axis=(1, 2))
    # What the shift uncovers does not matter.
    if down:
        moved[:, min(down, 0)] = 77
    found = near_copies.find(np.concatenate([sprites, moved])).shifted
    assert found == ([(60, 7)] if down or right else [])
    assert not near_copies.find(np.concatenate([sprites, np.roll(sprites[7:8], 2, axis=2)])).shifted


def test_a_large_set_is_sampled(sprites: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(near_copies, "_MOST_SPRITES", 30)
    many = np.concatenate([sprites, sprites[:, :, ::-1]])
    found = near_copies.find(many)
    assert found.looked_at == 30
    # Positions are those in the whole set.
    for later, earlier in found.mirrored:
        np.testing.assert_array_equal(many[later], many[earlier][:, ::-1])


def test_sprites_too_small_to_differ_in_few_pixels():
    tiny = np.arange(4 * 3 * 3 * 3, dtype=np.uint8).reshape(4, 3, 3, 3)
    assert near_copies.find(tiny) == near_copies.NearCopies([], [], [], 4)
    assert near_copies.find(tiny[:, :1, :1]).looked_at == 4
