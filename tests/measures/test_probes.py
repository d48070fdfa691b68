"""Linear probes, against closed forms and scikit-learn."""

import math

import numpy as np
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from flax_punkvae.measures import probes


def made_up(seed: int, count: int, size: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Latents of very different scales, one of them constant, and labels: one easy, one rare, one that is noise."""
    random = np.random.default_rng(seed)
    latents = random.standard_normal((count, size)) * np.array([1.0, 30.0, 0.01, 1.0, 0.0])
    logits = np.stack([8 * latents[:, 0], 0.1 * latents[:, 1] - 4, np.zeros(count)], axis=1)
    return latents, (random.random((count, 3)) < 1 / (1 + np.exp(-logits))).astype(np.uint8)


def test_probes_read_what_is_there_and_nothing_else():
    """Oracle: AUROC of a Gaussian shift d is Phi(d / sqrt 2); that of noise is 1/2; a rare label is left out."""
    random = np.random.default_rng(5)
    labels = (random.random((6_000, 3)) < [0.5, 0.5, 0.002]).astype(np.uint8)
    latents = random.standard_normal((6_000, 4))
    latents[:, 0] += 1.5 * labels[:, 0]
    found = probes.label_probes(latents[:3_000], labels[:3_000], latents[3_000:], labels[3_000:])
    assert set(found) == {0, 1}
    assert abs(found[0][0] - stats.norm.cdf(1.5 / math.sqrt(2))) < 0.03
    assert abs(found[0][1] - stats.norm.cdf(0.75)) < 0.03
    assert abs(found[1][0] - 0.5) < 0.04 and abs(found[1][1] - 0.5) < 0.04


def test_the_regressions_are_scikit_learn_s():
    """Oracle: scikit-learn's Newton solver, one label at a time."""
    latents, labels = made_up(0, 800)
    inputs = (latents - latents.mean(0)) / (latents.std(0) + 1e-12)
    weights, biases = probes.regressions(inputs, labels)
    for label in range(labels.shape[1]):
        other = LogisticRegression(class_weight="balanced", solver="newton-cholesky", tol=1e-8)
        other.fit(inputs, labels[:, label])
        np.testing.assert_allclose(weights[:, label], np.ravel(other.coef_), atol=1e-4)
        np.testing.assert_allclose(biases[label], np.ravel(other.intercept_)[0], atol=1e-4)


def test_the_figures_are_scikit_learn_s():
    """Oracle: scikit-learn's metrics of the scores of its own regressions."""
    (train, train_labels), (test, test_labels) = made_up(1, 900), made_up(2, 700)
    found = probes.label_probes(train, train_labels, test, test_labels, least=1)
    mean, deviation = train.mean(0), train.std(0) + 1e-12
    for label, (area, balanced) in found.items():
        probe = LogisticRegression(class_weight="balanced", solver="newton-cholesky", tol=1e-8)
        scores = probe.fit((train - mean) / deviation, train_labels[:, label]).decision_function(
            (test - mean) / deviation
        )
        np.testing.assert_allclose(area, roc_auc_score(test_labels[:, label], scores), atol=1e-5)
        expected = balanced_accuracy_score(test_labels[:, label], scores > 0)
        np.testing.assert_allclose(balanced, expected, atol=1e-5)
    assert set(found) == {0, 1, 2}


def test_separable_labels_are_fitted():
    """Oracle: the gradient of the loss, in closed form, is 0 at the minimum."""
    random = np.random.default_rng(3)
    inputs = random.standard_normal((300, 40))
    labels = np.stack([inputs[:, 0] > 0, inputs[:, 1] > 2.0], axis=1).astype(np.uint8)
    weights, biases = probes.regressions(inputs, labels)
    share = np.where(labels == 1, labels.mean(0), 1 - labels.mean(0))
    rest = 0.5 / share * (1 / (1 + np.exp(-(inputs @ weights + biases))) - labels)
    np.testing.assert_allclose(inputs.T @ rest + weights, 0, atol=1e-3)
    np.testing.assert_allclose(rest.sum(0), 0, atol=1e-3)


def test_no_label_to_probe():
    random = np.random.default_rng(4)
    latents, labels = random.standard_normal((50, 3)), np.zeros((50, 2), np.uint8)
    labels[:25, 1] = 1
    # The first label never occurs in training, the second one too rarely among the held-out images.
    assert probes.label_probes(latents, labels, latents[20:30], labels[20:30]) == {}
