"""Local validity and label frequencies, against brute force and values by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flax_punkvae.measures import validity


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 300))
def test_local_validity_is_that_of_brute_force(seed: int, side: int, colours: int):
    """Oracle: sets of windows as bytes, position by position."""
    random = np.random.default_rng(seed)
    palette = random.integers(0, 256, (colours, 3), np.uint8)
    train, others = (
        palette[random.integers(0, min(colours, 2), (18, 5, 4))],
        palette[random.integers(0, colours, (4, 5, 4))],
    )
    sprites = np.concatenate([train[:2], train[12:], others])
    train = train[:12]
    expected = []
    for sprite in sprites:
        places = [(y, x) for y in range(6 - side) for x in range(5 - side)]
        windows = [(slice(y, y + side), slice(x, x + side)) for y, x in places]
        known = [{other[window].tobytes() for other in train} for window in windows]
        expected.append(all(sprite[window].tobytes() in seen for window, seen in zip(windows, known, strict=True)))
    assert validity.locally_valid(train, sprites, side).tolist() == expected
    assert expected[:2] == [True, True]


def test_a_window_must_fit():
    sprites = np.zeros((2, 5, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="expected a window of 1 to 4 pixels, got 5"):
        validity.locally_valid(sprites, sprites, 5)


def test_frequencies_by_hand():
    held_out = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 1, 0]], bool)
    samples = np.array([[1, 1, 1], [0, 0, 1]], bool)
    assert validity.frequency_distance(held_out, samples) == 0.25 + 0.25 + 0.75
    assert validity.common_pairs(held_out, 2) == [(0, 1)]
    assert validity.common_pairs(held_out, 1) == [(0, 1), (0, 2), (1, 2)]
    both = [[True, False], [False, False], [True, True], [False, False]]
    assert validity.pair_labels(held_out, [(0, 1), (1, 2)]).tolist() == both
    assert validity.pair_labels(held_out, []).shape == (4, 0)
