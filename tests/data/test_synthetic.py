"""The procedural characters: reproducible, drawn as often as stated, and told apart by every factor."""

import hashlib

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from flax_punkvae.data.synthetic import FACTORS, choose, draw, paint

seeds = st.integers(0, 2**64)


@settings(deadline=None)
@given(count=st.integers(0, 40), more=st.integers(0, 40), seed=seeds)
def test_a_longer_draw_begins_with_the_shorter(count: int, more: int, seed: int) -> None:
    short, long = draw(count, seed), draw(count + more, seed)
    np.testing.assert_array_equal(short[0], long[0][:count])
    np.testing.assert_array_equal(short[1], long[1][:count])
    assert short[2] == long[2]


def test_a_draw_painted_in_several_pieces_is_the_same_draw() -> None:
    sprites, _, _ = draw(9000, 3)
    np.testing.assert_array_equal(sprites, paint(choose(9000, 3)))


@settings(deadline=None)
@given(count=st.integers(0, 40), seed=seeds)
def test_shapes_and_alpha(count: int, seed: int) -> None:
    sprites, labels, names = draw(count, seed)
    assert sprites.shape == (count, 24, 24, 4) and sprites.dtype == np.uint8
    assert labels.shape == (count, len(names)) and labels.dtype == np.uint8
    assert len(set(names)) == len(names)
    assert set(np.unique(sprites[..., 3])) <= {0, 128, 255}
    assert not sprites[..., :3][sprites[..., 3] == 0].any()
    assert not sprites[:, [0, 0, -1, -1], [0, -1, 0, -1]].any()


def test_all_three_alphas_occur() -> None:
    assert set(np.unique(draw(1000, 0)[0][..., 3])) == {0, 128, 255}


@settings(deadline=None)
@given(seed=seeds)
def test_another_seed_gives_other_characters(seed: int) -> None:
    same = (draw(50, seed)[1] == draw(50, seed + 1)[1]).all(axis=1)
    assert same.sum() <= 1


def test_draw_is_the_recorded_one() -> None:
    """The oracle is a digest recorded once: the same characters on every machine and with every version of NumPy."""
    sprites, labels, names = draw(2000, 0)
    digest = hashlib.sha256(sprites.tobytes() + labels.tobytes() + "\n".join(names).encode()).hexdigest()
    assert digest == "439f646fc9a2112c88b7ac2f92efeff7ca229a6f2cb2ed1c7dad6fb0563b7221"


@settings(deadline=None)
@given(seed=seeds)
def test_values_of_a_factor_exclude_each_other(seed: int) -> None:
    _, labels, names = draw(200, seed)
    kinds = np.array([name.split()[0] for name in names])
    for kind in ("skin", "tone", "cloth", "head", "wears", "mouth", "eyes", "top"):
        np.testing.assert_array_equal(labels[:, kinds == kind].sum(axis=1), 1)
    for kind in set(kinds):
        assert labels[:, kinds == kind].sum(axis=1).max() <= 1


def test_labels_determine_the_sprite_and_sprites_the_labels() -> None:
    """Half of these characters share their label row with the other half but are painted apart from them."""
    choices = choose(3000, 1)
    sprites, labels, _ = draw(3000, 1)
    order = np.random.default_rng(0).permutation(3000)
    np.testing.assert_array_equal(paint(choices[order]), sprites[order])
    distinct = len(np.unique(labels, axis=0))
    assert len(np.unique(sprites.reshape(3000, -1), axis=0)) == distinct
    assert distinct > 2990


def test_labels_occur_as_often_as_stated() -> None:
    """The oracle is the binomial: |frequency - p| within 4.5 standard errors for each of about 90 labels."""
    _, labels, names = draw(5000, 7)
    stated = np.concatenate([factor.percent for factor in FACTORS]) / 100
    error = np.sqrt(stated * (1 - stated) / 5000)
    off = np.abs(labels.mean(axis=0) - stated) / error
    assert not [(name, x) for name, x in zip(names, off, strict=True) if x > 4.5]


def test_factors_are_drawn_independently() -> None:
    """The oracle is zero covariance: every pair of labels of two factors correlates by less than 6 / sqrt(n)."""
    _, labels, _ = draw(20_000, 11)
    owner = np.repeat(np.arange(len(FACTORS)), [len(factor.labels) for factor in FACTORS])
    correlation = np.corrcoef(labels.T.astype(float))
    assert np.abs(correlation[owner[:, None] != owner]).max() < 6 / np.sqrt(20_000)


def test_percentages_are_at_most_all() -> None:
    for factor in FACTORS:
        assert 0 < sum(factor.percent) <= 100 and min(factor.percent) >= 1


@settings(deadline=None)
@given(data=st.data())
def test_every_factor_shows_in_the_pixels(data: st.DataObject) -> None:
    """The characters that differ in one factor alone all differ in the pixels, whatever their other factors are."""
    values = [len(factor.labels) + (sum(factor.percent) < 100) for factor in FACTORS]
    rng = np.random.default_rng(data.draw(seeds))
    f = data.draw(st.integers(0, len(FACTORS) - 1))
    choices = np.repeat(rng.integers(0, values, (16, len(FACTORS))), values[f], axis=0)
    choices[:, f] = np.tile(np.arange(values[f]), 16)
    for sprites, row in zip(np.split(paint(choices), 16), np.split(choices, 16), strict=True):
        assert len(np.unique(sprites.reshape(values[f], -1), axis=0)) == values[f], (FACTORS[f].labels, row[0])


def test_there_are_hundreds_of_thousands_of_combinations() -> None:
    assert np.prod([float(len(factor.labels)) for factor in FACTORS]) > 1e6
