"""The split: a partition that keeps groups whole and does not depend on anything else."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flax_punkvae import data
from flax_punkvae.config import DataConfig
from helpers.sources import refusal

fractions = st.floats(0, 1, exclude_min=True, exclude_max=True)
seeds = st.integers(0, 2**31 - 1)
groupings = st.lists(st.integers(0, 12), min_size=2, max_size=80).map(np.array)


@given(st.integers(2, 500), fractions, seeds)
def test_split_is_a_partition(count: int, fraction: float, seed: int):
    train, test = data.split(count, fraction, seed)
    assert sorted([*train, *test]) == list(range(count))
    assert (np.diff(train) > 0).all() and (np.diff(test) > 0).all()
    assert 1 <= len(test) == min(max(round(count * fraction), 1), count - 1)


@given(st.integers(2, 500), fractions, seeds, seeds)
def test_split_depends_on_its_arguments_only(count: int, fraction: float, seed: int, other: int):
    before = data.split(count, fraction, seed)
    data.split(count, fraction, other)
    np.random.rand()
    for ours, again in zip(before, data.split(count, fraction, seed), strict=True):
        np.testing.assert_array_equal(ours, again)


@given(st.integers(2, 500), fractions, st.floats(0, 1, exclude_max=True), seeds)
def test_parts_set_validation_images_apart_from_the_training_images(
    count: int, fraction: float, validation: float, seed: int
):
    """Oracle: the split itself, whose test images stay as they are."""
    parts = data.parts(count, DataConfig(test_fraction=fraction, validation_fraction=validation, split_seed=seed))
    train, test = data.split(count, fraction, seed)
    np.testing.assert_array_equal(parts.test, test)
    np.testing.assert_array_equal(np.sort(np.concatenate([parts.train, parts.validation])), train)
    assert all((np.diff(part) > 0).all() for part in parts) and len(parts.train) >= 1
    assert (len(parts.validation) > 0) == (validation > 0 and len(train) > 1)


def test_split_of_the_reference_and_another_seed():
    train, test = data.split(10_000, 0.2, 0)
    assert (len(train), len(test)) == (8_000, 2_000)
    # Two independent fifths share 400 of 10,000, with a standard deviation of 16 (hypergeometric).
    assert abs(len(np.intersect1d(test, data.split(10_000, 0.2, 1)[1])) - 400) < 5 * 16


@given(st.integers(0, 300), seeds)
def test_shuffled_is_a_permutation(count: int, seed: int):
    assert sorted(data.shuffled(count, seed)) == list(range(count))


def test_shuffled_is_uniform():
    # Oracle: each of 4! orders once in 24; over 4,800 seeds each count is 200 with a standard deviation of 13.8.
    orders = [tuple(data.shuffled(4, seed).tolist()) for seed in range(4_800)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 24
    assert max(abs(count - 200) for count in counts) < 5 * 13.8


def test_shuffled_is_pinned():
    # A recorded value: what NumPy promises of PCG64, and every published split rests on it.
    assert data.shuffled(10, 0).tolist() == [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]
    assert data.shuffled(10, [0, 1]).tolist() != data.shuffled(10, [0, 2]).tolist()


# Groups: images that stay together.


@given(groupings, fractions, st.floats(0, 1, exclude_max=True), seeds)
def test_no_group_is_in_two_parts(groups: np.ndarray, fraction: float, validation: float, seed: int):
    config = DataConfig(test_fraction=fraction, validation_fraction=validation, split_seed=seed)
    count, kinds = len(groups), len(np.unique(groups))
    if kinds == 1:
        assert f"all {count} images are of one group" in refusal(data.parts, count, config, groups)
        return
    parts = data.parts(count, config, groups)
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))
    assert all((np.diff(part) > 0).all() for part in parts)
    within = [set(groups[part].tolist()) for part in parts]
    assert sum(map(len, within)) == kinds
    assert len(parts.train) and len(parts.test)
    # The test images do not depend on the validation fraction.
    np.testing.assert_array_equal(parts.test, data.split(count, fraction, seed, groups)[1])
    left = kinds - len(within[2])
    assert (len(parts.validation) > 0) == (validation > 0 and left > 1)


@given(groupings, fractions, seeds)
def test_groups_change_the_size_of_the_test_part_by_little(groups: np.ndarray, fraction: float, seed: int):
    """Off by at most half of the largest group; the bound is void where a part would be empty."""
    _, sizes = np.unique(groups, return_counts=True)
    wanted = min(max(round(len(groups) * fraction), 1), len(groups) - 1)
    if len(sizes) > 1 and sizes.min() <= wanted <= len(groups) - sizes.max():
        found = len(data.split(len(groups), fraction, seed, groups)[1])
        assert abs(found - wanted) <= sizes.max() / 2


@given(st.integers(2, 200), fractions, st.floats(0, 1, exclude_max=True), seeds)
def test_groups_of_one_are_split_as_none(count: int, fraction: float, validation: float, seed: int):
    """Oracle: the split without groups, whatever the numbers of the groups are."""
    config = DataConfig(test_fraction=fraction, validation_fraction=validation, split_seed=seed)
    numbers = 7 * data.shuffled(count, 3)
    for ours, theirs in zip(data.parts(count, config, numbers), data.parts(count, config), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_group_is_as_likely_to_be_held_out_as_an_image():
    """Ten animations of eight frames: each is in the test fifth of one split in five, 80 of 400 (deviation 8)."""
    groups = np.repeat(np.arange(10), 8)
    held_out = [np.unique(groups[data.split(80, 0.2, seed, groups)[1]]) for seed in range(400)]
    assert all(len(found) == 2 for found in held_out)
    assert (abs(np.bincount(np.concatenate(held_out), minlength=10) - 80) < 5 * 8).all()
