"""Linear probes: how well labels can be read from latents, by logistic regressions that are fitted together."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8

from flax_punkvae.measures.critic import auc

# Largest entry of the gradient, per image, at which a regression is fitted: AUROCs are then exact in six digits.
_TOLERANCE = 1e-6
_MOST_STEPS = 100
_MOST_PRODUCTS = 200


def label_probes(
    train: Float[np.ndarray, "m d"],
    train_labels: UInt8[np.ndarray, "m a"],
    test: Float[np.ndarray, "n d"],
    test_labels: UInt8[np.ndarray, "n a"],
    least: int = 20,
) -> dict[int, tuple[float, float]]:
    """Linear probes of the labels: (AUROC, balanced accuracy) on held-out latents, by the label's column.

    Logistic regressions (`regressions`) on standardised posterior means, fitted to the m training images; for labels
    with at least `least` held-out positives and negatives, and both in training. Source: Alain & Bengio 2016.
    """
    train, test = train.astype(np.float64), test.astype(np.float64)
    mean, deviation = train.mean(0), train.std(0) + 1e-12
    positives = test_labels.sum(0, dtype=int)
    varies = (train_labels != train_labels[0]).any(0)
    chosen = np.flatnonzero((np.minimum(positives, len(test) - positives) >= least) & varies)
    if not len(chosen):
        return {}
    weights, biases = regressions((train - mean) / deviation, train_labels[:, chosen])
    scores = (test - mean) / deviation @ weights + biases
    found = {}
    for column, label in enumerate(chosen.tolist()):
        has = test_labels[:, label] == 1
        with_label, without = scores[has, column], scores[~has, column]
        balanced = ((with_label > 0).mean() + (without <= 0).mean()) / 2
        found[label] = (auc(with_label, without), float(balanced))
    return found


def regressions(
    inputs: Float[np.ndarray, "n d"], labels: UInt8[np.ndarray, "n a"], tolerance: float = _TOLERANCE
) -> tuple[Float[np.ndarray, "d a"], Float[np.ndarray, "a"]]:
    """(weights, biases) of one logistic regression per label, each of which must have positives and negatives.

    Minimises sum_i s_i log(1 + exp(-y_i (x_i w + b))) + |w|^2 / 2, where y is 1 with the label and -1 without it, and s
    gives the positives and the negatives a total of n / 2 each: scikit-learn's LogisticRegression with balanced class
    weights. Newton's method, whose linear systems are solved by conjugate gradients (Nocedal & Wright 2006, algorithms
    5.3 and 7.1), for all labels at once: so their work is in products of matrices. `tolerance` is the largest entry of
    the gradient, per image, at which a label is fitted.
    """
    n, a = labels.shape
    x = np.concatenate([inputs, np.ones((n, 1))], axis=1)
    squares = x**2
    penalty = np.append(np.ones(x.shape[1] - 1), 0.0)[:, None]
    targets = labels.astype(np.float64)
    importance = 0.5 / np.where(labels == 1, targets.mean(0), 1 - targets.mean(0))
    found = np.zeros((x.shape[1], a))
    # The labels that are not fitted yet.
    left, w, scores = np.arange(a), found, np.zeros((n, a))
    for _ in range(_MOST_STEPS):
        probabilities = 0.5 + 0.5 * np.tanh(0.5 * scores)
        gradient = x.T @ (importance * (probabilities - targets)) + penalty * w
        found[:, left] = w
        more = np.abs(gradient).max(0) > tolerance * n
        if not more.any():
            break
        if not more.all():
            left, targets, importance = left[more], targets[:, more], importance[:, more]
            w, scores, probabilities, gradient = (each[:, more] for each in (w, scores, probabilities, gradient))
        curvature = importance * probabilities * (1 - probabilities)
        step = _solve(
            lambda v, curvature=curvature: x.T @ (curvature * (x @ v)) + penalty * v,
            -gradient,
            squares.T @ curvature + penalty,
        )
        w, scores = _searched(w, scores, step, x @ step, targets, importance, penalty)
    return found[:-1], found[-1]


def _solve(
    product: Callable[[Float[np.ndarray, "e a"]], Float[np.ndarray, "e a"]],
    right: Float[np.ndarray, "e a"],
    diagonal: Float[np.ndarray, "e a"],
) -> Float[np.ndarray, "e a"]:
    """v with product(v) = right, by conjugate gradients: one system per column, each positive definite."""
    v, rest = np.zeros_like(right), right.copy()
    scaled = rest / diagonal
    direction, along = scaled, (rest * scaled).sum(0)
    sizes = np.linalg.norm(right, axis=0)
    # The smaller the gradient, the more exact the step has to be for Newton's method to converge quadratically.
    enough = sizes * np.minimum(0.1, np.sqrt(sizes / max(sizes.max(), 1.0)))
    for _ in range(_MOST_PRODUCTS):
        active = np.linalg.norm(rest, axis=0) > enough
        if not active.any():
            break
        image = product(direction)
        bent = (direction * image).sum(0)
        length = np.where(active & (bent > 0), along / np.where(bent > 0, bent, 1.0), 0.0)
        v, rest = v + length * direction, rest - length * image
        scaled = rest / diagonal
        before, along = along, (rest * scaled).sum(0)
        direction = scaled + np.where(active, along / np.where(before > 0, before, 1.0), 0.0) * direction
    return v


def _searched(
    w: Float[np.ndarray, "e a"],
    scores: Float[np.ndarray, "n a"],
    step: Float[np.ndarray, "e a"],
    change: Float[np.ndarray, "n a"],
    targets: Float[np.ndarray, "n a"],
    importance: Float[np.ndarray, "n a"],
    penalty: Float[np.ndarray, "e 1"],
) -> tuple[Float[np.ndarray, "e a"], Float[np.ndarray, "n a"]]:
    """(w + t step, scores + t change), where t of each label is halved until its loss does not grow."""

    def losses(t: Float[np.ndarray, "a"]) -> Float[np.ndarray, "a"]:
        logits = (scores + t * change) * (1 - 2 * targets)
        return (importance * np.logaddexp(0.0, logits)).sum(0) + 0.5 * (penalty * (w + t * step) ** 2).sum(0)

    t = np.ones(w.shape[1])
    start = losses(0 * t)
    for _ in range(30):
        # Near the minimum, a loss changes by less than rounding.
        worse = losses(t) > start * (1 + 1e-12)
        if not worse.any():
            break
        t = np.where(worse, t / 2, t)
    return w + t * step, scores + t * change
