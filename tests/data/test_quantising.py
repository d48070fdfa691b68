"""A palette for many colours: Oklab, the fit, and what becomes of sprites and of a trained model's input."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flax_punkvae import colours, data
from flax_punkvae import images as im
from flax_punkvae.config import DataConfig
from flax_punkvae.data import quantising, reducing
from helpers.sources import refusal, tiled, write

# A set of at most so many colours is not reduced by default.
FEW = 1024


def any_colours(channels: int, count: int = 60) -> st.SearchStrategy[np.ndarray]:
    """Distinct colours; of RGBA only one is wholly transparent."""
    rows = hnp.arrays(np.uint8, (count, channels), elements=st.sampled_from((0, 1, 60, 128, 254, 255)))
    return rows.map(lambda found: np.unique(found * (found[:, -1:] > 0) if channels == 4 else found, axis=0))


def shuffled(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count)


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def pixel_art() -> tuple[np.ndarray, np.ndarray]:
    """(sprites [40 24 24 3], their 20 main colours), with some 3,000 more on soft edges, on a twelfth of all pixels."""
    random = np.random.default_rng(0)
    main, shares = random.integers(0, 256, (20, 3)), np.append(np.full(19, 0.9 / 19), 0.1)
    pixels = main[random.choice(20, 40 * 576, p=shares)].astype(float)
    soft = random.random(len(pixels)) < 1 / 12
    one, other = main[random.integers(0, 20, (2, soft.sum()))]
    share = random.random((soft.sum(), 1))
    pixels[soft] = one * share + other * (1 - share)
    return pixels.round().astype(np.uint8).reshape(40, 24, 24, 3), main.astype(np.uint8)


# Oklab.


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        # Black and white by definition. The primaries: CSS Color Module 4, as oklch, turned into L, a, b.
        ((0, 0, 0), (0, 0, 0)),
        ((255, 255, 255), (1, 0, 0)),
        ((255, 0, 0), (0.62796, 0.22486, 0.12585)),
        ((0, 255, 0), (0.86644, -0.23389, 0.17950)),
        ((0, 0, 255), (0.45201, -0.03246, -0.31153)),
    ],
)
def test_oklab_of_known_colours(colour: tuple[int, ...], expected: tuple[float, ...]):
    np.testing.assert_allclose(colours.oklab(np.array([colour], np.uint8))[:, 0], expected, atol=2e-5)


def test_oklab_of_the_papers_table():
    """Oracle: the table of XYZ and Oklab in Ottosson 2020, with the standard's matrix from XYZ to linear sRGB.

    Only the first row of it is a colour that sRGB has: the white point. Greys have no hue, and L is the cube root of Y.
    """
    grey = np.arange(256, dtype=np.uint8)
    lightness, a, b = colours.oklab(np.stack([grey] * 3, axis=1))
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in grey / 255]
    np.testing.assert_allclose(lightness, np.cbrt(linear), atol=1e-7)
    assert max(np.abs(a).max(), np.abs(b).max()) < 1e-4


@given(any_colours(3), st.integers(0, 1000))
def test_opaque_colours_are_as_far_apart_with_alpha_as_without(found: np.ndarray, seed: int):
    others = found[shuffled(len(found), seed)]
    rgba = [np.concatenate([x, np.full((len(x), 1), 255, np.uint8)], axis=1) for x in (found, others)]
    np.testing.assert_allclose(colours.distances(*rgba), colours.distances(found, others), atol=1e-12)


def test_a_transparent_colour_looks_like_what_is_behind():
    """Oracle: black over white is as far from nothing over white as black from white; over black they are the same."""
    black, nothing = np.array([[0, 0, 0, 255]], np.uint8), np.zeros((1, 4), np.uint8)
    assert colours.distances(black, nothing)[0] == pytest.approx(1 / np.sqrt(2), abs=1e-6)


@given(any_colours(4), any_colours(4, 9))
def test_the_nearest_rgba_colour_is_the_first_of_the_nearest(found: np.ndarray, palette: np.ndarray):
    """Oracle: whole-number distances over black and over white, one by one."""

    def seen(colour: list[int]) -> list[int]:
        *rgb, alpha = colour
        return [x * alpha for x in rgb] + [x * alpha + 255 * (255 - alpha) for x in rgb]

    for colour, place in zip(found.tolist(), colours.nearest(found, palette).tolist(), strict=True):
        far = [sum((x - y) ** 2 for x, y in zip(seen(colour), seen(row), strict=True)) for row in palette.tolist()]
        assert place == far.index(min(far))


# The fit.


@given(st.sampled_from((3, 4)).flatmap(any_colours), st.integers(2, 70), st.integers(0, 1000))
def test_a_palette_has_no_more_colours_than_asked_and_only_some_of_those_given(found: np.ndarray, most: int, seed: int):
    counts = np.random.default_rng(seed).integers(1, 100, len(found))
    palette = quantising.fitted(found, counts, most)
    assert 1 <= len(palette) <= most
    given = set(map(tuple, found.tolist()))
    assert set(map(tuple, palette.tolist())) <= given and len(set(map(tuple, palette.tolist()))) == len(palette)
    assert sorted(palette.tolist()) == palette.tolist()
    if (found == 0).all(1).any() and found.shape[1] == 4:
        assert [0, 0, 0, 0] in palette.tolist()
    if most >= len(found):
        np.testing.assert_array_equal(palette, found)
    # Idempotent: a reduced set is not reduced further.
    np.testing.assert_array_equal(quantising.fitted(palette, np.ones(len(palette), int), most), palette)


@given(any_colours(3), st.integers(0, 1000))
def test_frequent_colours_stay(found: np.ndarray, seed: int):
    """Oracle: colours of 1 in 256 pixels stay, up to half of the palette."""
    most = 16
    counts = np.ones(len(found), int)
    frequent = shuffled(len(found), seed)[: most // 2]
    counts[frequent] = 1000
    palette = quantising.fitted(found, counts, most).tolist()
    assert all(colour in palette for colour in found[frequent].tolist())


def test_pixel_art_keeps_its_main_colours():
    sprites, main = pixel_art()
    found, counts = quantising.histogram(sprites)
    assert len(found) > 1500
    for most in (64, 256):
        palette = quantising.fitted(found, counts, most).tolist()
        assert len(palette) == most and all(colour in palette for colour in main.tolist())


def test_the_fit_is_as_good_as_the_best_of_all_palettes():
    """Oracle: every palette of 3 of 9 colours, by the same weighted squared distance; k-medoids may end 10 % above."""
    import itertools

    for seed in range(20):
        found = np.unique(noise((9, 3), seed), axis=0)
        counts = np.random.default_rng(seed).integers(1, 20, len(found))

        def cost(palette: np.ndarray, found: np.ndarray = found, counts: np.ndarray = counts) -> float:
            return (counts * colours.distances(found, palette[colours.nearest(found, palette)]) ** 2).sum()

        best = min(cost(found[list(chosen)]) for chosen in itertools.combinations(range(len(found)), 3))
        assert cost(quantising.fitted(found, counts, 3)) <= 2 * best
