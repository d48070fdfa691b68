"""The critic against sets whose AUC is known: it tells what differs, and does not tell what does not."""

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


def test_the_seed_chooses_the_halves(characters: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    """The same seed gives the same AUC, another another: after few steps as after many."""
    monkeypatch.setattr(critic, "EPOCHS", 1)
    monkeypatch.setattr(critic, "LEAST_STEPS", 1)
    with optimised():
        found = [critic.compare(characters[:400], characters[400:], seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_a_split_of_one_set_is_at_chance(characters: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    """Oracle: two parts of one set have an AUC of 0.5.

    Far fewer steps than the default are enough to overfit: the AUC on the training half is 1 by then.
    """
    monkeypatch.setattr(critic, "LEAST_STEPS", 1)
    with optimised():
        found = [critic.compare(characters[:400], characters[400:], seed) for seed in (0, 1)]
    assert all(abs(auc - 0.5) < 3 * critic.chance(400) for auc in found)


def test_hybrids_are_found(characters: np.ndarray):
    """Halves that do not belong together are told."""
    with optimised():
        assert critic.compare(characters[:400], hybrids(characters[400:]), 0) > 0.8


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


def test_too_few_are_refused():
    sprites = np.zeros((5, 4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="expected at least 4 sprites in both sets, got 5 and 3"):
        critic.compare(sprites, sprites[:3], 0)
