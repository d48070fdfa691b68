"""A palette for many colours: Oklab, the fit, and what becomes of sprites and of a trained model's input."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from flax_punkvae import colours, data
from flax_punkvae import images as im
from flax_punkvae.config import DataConfig
from flax_punkvae.data import contact_sheet, quantising, reducing
from helpers.sources import refusal, tiled, write

# A set of at most so many colours is not reduced by default.
FEW = 1024


def any_colours(channels: int, count: int = 60) -> st.SearchStrategy[np.ndarray]:
    """Distinct colours; of RGBA only one is wholly transparent."""
    rows = hnp.arrays(np.uint8, (count, channels), elements=st.sampled_from((0, 1, 60, 128, 254, 255)))
    return rows.map(lambda found: np.unique(found * (found[:, -1:] > 0) if channels == 4 else found, axis=0))


def histogram(sprites: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(distinct colours, how many pixels have each)."""
    found = im.palette_of(sprites)
    return found, quantising.counted(sprites, found)


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


def test_oklab_of_greys():
    """Oracle: greys have no hue, and their lightness is the cube root of linear sRGB, since each row adds up to 1."""
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


def test_the_transparent_colour_stays_however_rare():
    found = np.insert(np.unique(noise((50, 4)) | np.array([0, 0, 0, 128], np.uint8), axis=0), 0, 0, axis=0)
    counts = np.array([1, *[100] * (len(found) - 1)])
    for most in (2, 3, 20):
        palette = quantising.fitted(found, counts, most)
        assert len(palette) == most and palette[0].tolist() == [0, 0, 0, 0]


def test_pixel_art_keeps_its_main_colours():
    sprites, main = pixel_art()
    found, counts = histogram(sprites)
    assert len(found) > 1500
    for most in (64, 256):
        palette = quantising.fitted(found, counts, most).tolist()
        assert len(palette) == most and all(colour in palette for colour in main.tolist())


def test_of_each_cluster_the_palette_has_the_best_colour():
    """Oracle: five small clusters far apart, and in each, every colour's weighted squared distance to the others."""
    random = np.random.default_rng(2)
    centres = np.array([(30, 30, 30), (220, 30, 30), (30, 220, 30), (40, 40, 220), (230, 230, 230)])
    clusters = [np.unique(c + random.integers(-12, 13, (30, 3)), axis=0).astype(np.uint8) for c in centres]
    weights = [random.integers(1, 100, len(cluster)) for cluster in clusters]
    found = np.concatenate(clusters)
    order = np.lexsort(found.T[::-1])
    palette = quantising.fitted(found[order], np.concatenate(weights)[order], 5)
    best = []
    for cluster, weight in zip(clusters, weights, strict=True):
        points = colours.oklab(cluster).T
        # A changed pixel counts as one that moved by at least 0.02.
        costs = [(weight * ((points - p) ** 2).sum(1)).sum() - weight[i] * 0.02**2 for i, p in enumerate(points)]
        best.append(cluster[int(np.argmin(costs))].tolist())
    # Two of the five are the most frequent colours, which stay.
    assert sum(colour in best for colour in palette.tolist()) >= 3
    at = [int(((centres - colour.astype(int)) ** 2).sum(1).argmin()) for colour in palette]
    assert sorted(at) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("most", [64, 256])
def test_the_fit_is_better_than_pillows(most: int):
    """Oracle: Pillow's median cut and octree, by the same mean distance in Oklab. On plain gradients they are equal."""
    sprites, _ = pixel_art()
    found, counts = histogram(sprites)

    def mean(palette: np.ndarray) -> float:
        return np.average(colours.distances(found, palette[colours.nearest(found, palette)]), weights=counts)

    ours = mean(quantising.fitted(found, counts, most))
    for method in (Image.Quantize.MEDIANCUT, Image.Quantize.FASTOCTREE):
        other = Image.fromarray(sprites.reshape(-1, 24, 3)).quantize(most, method).getpalette()
        assert ours < 0.9 * mean(np.array(other, np.uint8).reshape(-1, 3)[:most])


def test_a_palette_is_the_same_everywhere():
    """A recorded value. Coordinates are rounded, so the last bits of a power or a root do not count."""
    random = np.random.PCG64(0).random_raw(4000).astype("<u8").view(np.uint8).reshape(-1, 4).copy()
    random[random[:, 3] < 64] = 0
    sprites = random.reshape(20, 20, 20, 4)
    palette = quantising.fitted(*histogram(sprites), 100)
    assert hashlib.sha256(palette.tobytes()).hexdigest()[:16] == "a7cb1a02b69a5162"
    np.testing.assert_array_equal(quantising.fitted(*histogram(sprites[::-1]), 100), palette)


@given(hnp.arrays(np.uint8, (3, 4, 5, 4), elements=st.sampled_from((0, 9, 255))))
def test_a_histogram_counts_every_pixel(sprites: np.ndarray):
    """Oracle: a Counter."""
    found, counts = histogram(sprites)
    expected = Counter(map(tuple, sprites.reshape(-1, 4).tolist()))
    assert dict(zip(map(tuple, found.tolist()), counts.tolist(), strict=True)) == expected


def test_many_colours_are_thinned_before_the_fit():
    """More colours than a palette is fitted to: the fit is hardly worse for it, and the frequent colour stays."""
    found = im.palette_of(noise((1, 70, 1000, 3)))
    counts = np.ones(len(found), int)
    counts[5] = 1000
    thin, their = quantising._thinned(found, counts, 2000)
    assert 200 < len(thin) <= 2000 and their.sum() == counts.sum()
    np.testing.assert_array_equal(thin[0], found[5])
    palette = quantising.fitted(found, counts, 16)
    assert found[5].tolist() in palette.tolist()


# Sprites.


def load(sprites: np.ndarray, folder: Path, **options: Any) -> data.Dataset:
    _, height, width, _ = sprites.shape
    sheet = write(folder / "sheet.png", tiled(sprites, 5))
    return data.load(DataConfig(source=str(sheet), render="indices", tile=(width, height), **options))


def gradient(count: int) -> np.ndarray:
    """Ten sprites [16 16 3], each with the same `count` distinct colours at the most, over some thousand pixels."""
    colours = np.stack([np.arange(count) % 32 * 8, np.arange(count) // 32 * 4, np.full(count, 90)], axis=1)
    return colours[np.resize(np.arange(count), 10 * 256)].astype(np.uint8).reshape(10, 16, 16, 3)


@pytest.mark.parametrize(
    ("count", "wanted", "expected"), [(FEW, None, FEW), (FEW + 1, None, 256), (FEW + 1, 2000, FEW + 1), (300, 7, 7)]
)
def test_how_many_colours_are_left(count: int, wanted: int | None, expected: int):
    sprites = gradient(count)
    found = reducing.reduced(sprites, np.arange(10), wanted)
    assert found.palette is not None and len(found.palette) == expected
    if expected == count:
        assert found.sprites is sprites and found.notes == () and found.change is None
    else:
        assert found.notes[0].startswith(f"reduced {count:,} colours to {expected} (--data.colours): ")
        np.testing.assert_array_equal(im.palette_of(found.sprites), found.palette)


def test_more_colours_than_fit_are_refused():
    sprites = noise((3, 128, 128, 3))
    expected = "data.colours: 5000 colours are too many for sprites of 128x128: choose at most 4096"
    assert refusal(reducing.reduced, sprites, np.arange(2), 5000) == expected
    # With few colours, there is room for them, whatever the limit.
    found = reducing.reduced(sprites & 128, np.arange(2), 65_536)
    assert found.palette is not None and len(found.palette) == 8


@pytest.mark.parametrize("channels", [3, 4])
def test_a_reduced_set(tmp_path: Path, channels: int):
    """Oracle for the note: each pixel before and after, one by one."""
    before = noise((10, 16, 16, channels))
    if channels == 4:
        before[before[..., 3] < 100] = 0
    dataset = load(before, tmp_path, colours=40)
    train = data.parts(10, DataConfig()).train
    test = np.delete(np.arange(10), train)
    assert dataset.palette is not None and dataset.sprites is not None and dataset.images.dtype == np.uint8
    assert len(dataset.palette) == 40
    # What a model encodes is what it was trained on, whether a sprite is given before or after it was reduced.
    for sprites in (before, dataset.sprites):
        np.testing.assert_array_equal(im.to_indices(sprites, dataset.palette)[..., None], dataset.images)
    np.testing.assert_array_equal(dataset.pictures(np.arange(10)), dataset.sprites)
    np.testing.assert_array_equal(im.palette_of(dataset.sprites[train]), dataset.palette)
    changed = np.array([(a != b).any(-1) for a, b in zip(before, dataset.sprites, strict=True)])
    assert dataset.outside_palette(test) == (changed[test].sum(), changed[test].any((1, 2)).sum())
    visible = np.count_nonzero(before, axis=-1) > 0 if channels == 4 else np.ones(before.shape[:3], bool)
    for part, note in zip((train, test), dataset.notes[-2:], strict=True):
        moved = changed[part]
        far = colours.distances(before[part][moved], dataset.sprites[part][moved])
        unchanged = 100 * (1 - moved.sum() / visible[part].sum())
        assert f"{unchanged:.1f} % of visible pixels unchanged" in note
        assert f"moved by {far.mean():.3f} on average, {far.max():.3f} at most" in note
    source = DataConfig(source=str(tmp_path / "sheet.png"), render="indices", tile=(16, 16), colours=40)
    np.testing.assert_array_equal(data.load_sprites(source)[0], dataset.sprites)
    # The contact sheet shows examples.
    assert dataset.reduced is not None
    *_, shown, became = contact_sheet.panels(dataset, dataset.parts(source))
    np.testing.assert_array_equal(became.sprites, im.snap(shown.sprites, dataset.palette))
    assert len(shown.sprites) == len(train) and (shown.sprites != became.sprites).any()


def test_the_most_changed_sprites_come_first():
    """Oracle: the summed distance of every sprite; those that do not change come last."""
    before = noise((8, 5, 6, 3))
    palette = np.unique(before[3].reshape(-1, 3), axis=0)
    after = im.snap(before, palette)
    originals, reduced = reducing.before_and_after(before, after, 8)
    np.testing.assert_array_equal(reduced, im.snap(originals, palette))
    change = [
        colours.distances(a.reshape(-1, 3), b.reshape(-1, 3)).sum() for a, b in zip(originals, reduced, strict=True)
    ]
    assert change == sorted(change, reverse=True) and change[-1] == 0
    np.testing.assert_array_equal(originals[-1], before[3])
    np.testing.assert_array_equal(reducing.before_and_after(before, after, 2)[0], originals[:2])
