"""The critic against sets whose AUC is known: it tells what differs, and does not tell what does not."""

from functools import partial

import jax
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from flax_punkvae import images
from flax_punkvae.data import synthetic
from flax_punkvae.measures import critic
from helpers.compiling import optimised


@pytest.fixture(scope="module")
def characters() -> np.ndarray:
    """800 made-up characters of 12x12."""
    pixels = synthetic.resize(synthetic.draw(800, 0)[0], 12)
    return images.over_background(pixels, images.parse_colour("#638596"))


def hybrids(sprites: np.ndarray) -> np.ndarray:
    """The top half of each sprite over the bottom half of the next."""
    made = np.roll(sprites, 1, axis=0)
    made[:, :6] = sprites[:, :6]
    return made


def test_the_auc_is_scikit_learn_s():
    random = np.random.default_rng(0)
    # Rounded, so that there are ties.
    positive, negative = random.normal(0.5, 1, 70).round(1), random.normal(0, 1, 50).round(1)
    expected = roc_auc_score(np.repeat([1, 0], [70, 50]), np.concatenate([positive, negative]))
    np.testing.assert_allclose(critic.auc(positive, negative), expected, rtol=1e-12)
    assert critic.auc(np.ones(3), np.ones(2)) == 0.5 and critic.auc(np.ones(3), np.zeros(2)) == 1.0


def test_the_standard_error_is_that_of_random_scores():
    """Oracle: Monte Carlo, 4,000 draws, whose own error is about 1.1 %."""
    random = np.random.default_rng(0)
    drawn = [critic.auc(random.random(20), random.random(20)) for _ in range(4000)]
    np.testing.assert_allclose(critic.chance(40), np.std(drawn), rtol=0.04)


def test_a_split_of_one_set_is_at_chance_and_hybrids_are_found(characters: np.ndarray):
    """Oracle: two parts of one set have an AUC of 0.5; halves that do not belong together are told."""
    real, others = characters[:400], characters[400:]
    with optimised():
        found = {seed: critic.compare(real, others, seed) for seed in (0, 1)}
        assert found[0] != found[1] and critic.compare(real, others, 0) == found[0]
        assert all(abs(auc - 0.5) < 3 * critic.chance(400) for auc in found.values())
        assert critic.compare(real, hybrids(others), 0) > 0.8


def test_noise_is_told_from_sprites(characters: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(critic, "LEAST_STEPS", 50)
    noise = np.random.default_rng(0).integers(0, 256, (60, 12, 12, 3), np.uint8)
    assert critic.compare(characters[:60], noise, 0) > 0.99
    # The sets are cut to one size.
    assert critic.compare(characters, noise, 0) > 0.99


def test_the_smallest_sprites_are_taken(monkeypatch: pytest.MonkeyPatch):
    """Oracle: dark sprites against bright ones."""
    monkeypatch.setattr(critic, "LEAST_STEPS", 30)
    random = np.random.default_rng(0)
    dark, bright = (random.integers(low, low + 100, (12, 2, 2, 3), np.uint8) for low in (0, 150))
    assert critic.compare(dark, bright, 0) == 1.0


@pytest.mark.parametrize("size", [(3, 5), (24, 24), (70, 40), (128, 128)])
def test_all_sizes_are_taken(size: tuple[int, int]):
    """Oracle: one logit each, and no more parameters than for sprites of 32x32."""
    sprites = np.zeros((2, *size, 3), np.uint8)
    params = jax.eval_shape(critic.Critic().init, jax.random.key(0), sprites)
    assert jax.eval_shape(critic.Critic().apply, params, sprites).shape == (2,)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) < 250_000


def test_folding_keeps_all_pixels():
    x = np.arange(2 * 70 * 40 * 3, dtype=np.float32).reshape(2, 70, 40, 3) + 1
    folded = np.asarray(critic._folded(jax.numpy.asarray(x)))
    # A side of 3: 70 rows are padded to 72, 40 columns to 42.
    assert folded.shape == (2, 24, 14, 27)
    np.testing.assert_array_equal(folded[1, 2, 3].reshape(3, 3, 3), x[1, 6:9, 9:12])
    np.testing.assert_array_equal(np.sort(folded[folded > 0]), np.sort(x.ravel()))


@pytest.mark.parametrize(("size", "channels"), [((5, 7), 3), ((40, 33), 4)])
def test_the_first_convolution_is_of_colours_neighbours_and_positions(size: tuple[int, int], channels: int):
    """Oracle: all features as float64, in NumPy, and the sum over the nine pixels of a neighbourhood."""
    random, (h, w) = np.random.default_rng(0), size
    sprites = random.integers(0, 3, (2, h, w, channels), np.uint8) * np.uint8(120)
    padded = np.pad(sprites, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    equal = [(padded[:, y : y + h, x : x + w] == sprites).all(-1) for y, x in ((0, 1), (1, 0), (1, 2), (2, 1))]
    position = np.broadcast_to(
        np.stack(np.meshgrid(*map(partial(np.linspace, -1, 1), size), indexing="ij"), -1), (2, h, w, 2)
    )
    features = np.concatenate([sprites * (4 / 255) - 2, np.stack(equal, -1), position], -1).astype(np.float32)
    x = np.pad(np.asarray(critic._folded(jax.numpy.asarray(features)), np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    h, w, kernel = x.shape[1] - 2, x.shape[2] - 2, random.normal(size=(3, 3, x.shape[3], 5)).astype(np.float32)
    expected = sum(x[:, i : i + h, j : j + w] @ kernel[i, j] for i in range(3) for j in range(3))
    weights = jax.numpy.asarray(kernel.reshape(-1, 5))
    found = critic._first_convolution(jax.numpy.asarray(sprites), critic._shared(sprites.shape), weights)
    np.testing.assert_allclose(np.asarray(found).transpose(3, 1, 2, 0), expected, atol=1e-4)


def test_too_few_are_refused():
    sprites = np.zeros((5, 4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="expected at least 4 sprites in both sets, got 5 and 3"):
        critic.compare(sprites, sprites[:3], 0)
