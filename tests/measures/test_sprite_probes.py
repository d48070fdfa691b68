"""Probes that read labels from pixels and edges, against closed forms and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, precision_score

from flax_punkvae.measures import sprite_probes

RANDOM = np.random.default_rng(0)
COUNT, SIDE = 400, 8


def stripes() -> tuple[np.ndarray, np.ndarray]:
    """Sprites in two random colours each, striped across or down; labels: across, reddish, one coin toss, all, none."""
    across = RANDOM.random(COUNT) < 0.3
    colours = RANDOM.integers(0, 256, (COUNT, 2, 3), np.uint8)
    row, column = np.indices((SIDE, SIDE))
    pattern = np.where(across[:, None, None], row % 2, column % 2)
    sprites = colours[np.arange(COUNT)[:, None, None], pattern]
    reddish = sprites[:, 0, 0, 0] > 127
    labels = np.stack([across, reddish, RANDOM.random(COUNT) < 0.3, np.ones(COUNT, bool), np.zeros(COUNT, bool)], 1)
    return sprites, labels.astype(np.uint8)


@pytest.mark.parametrize("channels", [3, 4])
def test_the_numbers_of_a_sprite(channels: int):
    """Oracle: by hand. The last pixels of a row and of a column have no neighbour."""
    sprite = np.array([[[51, 102, 255, 51], [51, 102, 255, 51]], [[0, 0, 0, 255], [51, 102, 255, 51]]], np.uint8)
    alpha = 1 if channels == 3 else 0.2
    colour, black = [0.2 * alpha, 0.4 * alpha, alpha, 0.2][:channels], [0, 0, 0, 1][:channels]
    expected = [*colour, 0, 1, *colour, 0, 0, *black, 1, 0, *colour, 0, 0]
    found = sprite_probes.numbers(sprite[None, ..., :channels])
    np.testing.assert_allclose(found, [expected], rtol=1e-6)
    assert sprite_probes.most_images((2, 2, channels)) == 2**24 // len(expected)


def test_large_images_are_averaged_over_blocks():
    """Oracle: means by hand, of 2x3 blocks where the right and the lower one are filled up."""
    images = RANDOM.integers(0, 256, (2, 33, 64, 3), np.uint8)
    found = sprite_probes.numbers(images).reshape(2, 17, 32, 5)
    np.testing.assert_allclose(found[1, 2, 3, :3], images[1, 4:6, 6:8].mean((0, 1)) / 255, rtol=1e-5)
    np.testing.assert_allclose(found[0, 16, 5, :3], images[0, 32, 10:12].mean(0) / 255, rtol=1e-5)
    differs = (images[0, 4:6, 7:9] != images[0, 4:6, 6:8]).any(-1)
    np.testing.assert_allclose(found[0, 2, 3, 3], differs.mean())


def test_shapes_are_read_whatever_their_colours_and_noise_is_not():
    """Oracle: how the sprites were made; a coin toss cannot be known, which the accuracy shows."""
    sprites, labels = stripes()
    train, test = slice(0, 300), slice(300, None)
    probe = sprite_probes.fit(sprites[train], labels[train])
    read = sprite_probes.read(probe, sprites[test])
    np.testing.assert_array_equal(read[:, 0], labels[test, 0] == 1)
    assert read[:, 3].all() and not read[:, 4].any()
    found = sprite_probes.accuracies(read, labels[test], 10)
    assert set(found) == {0, 1, 2} and found[0] == (1.0, 1.0)
    assert found[1].balanced > 0.85 and abs(found[2].balanced - 0.5) < 0.15


def test_the_accuracies_are_scikit_learn_s():
    """Oracle: scikit-learn's metrics. Where nothing is read, there is no precision."""
    read, labels = RANDOM.random((90, 4)) < 0.4, (RANDOM.random((90, 4)) < [0.4, 0.2, 0.3, 0.05]).astype(np.uint8)
    read[:, 2] = False
    found = sprite_probes.accuracies(read, labels, 10)
    assert set(found) == {0, 1, 2} and np.isnan(found[2].precision) and found[2].balanced == 0.5
    for label in (0, 1):
        expected = (
            balanced_accuracy_score(labels[:, label], read[:, label]),
            precision_score(labels[:, label], read[:, label]),
        )
        np.testing.assert_allclose(found[label], expected)
