"""Walks and statistics of latents; each test names its oracle."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp
from sklearn.linear_model import Ridge

from flax_punkvae.trained import latents
from helpers.latents import posteriors

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((2, 16)).astype(np.float32)


@pytest.mark.parametrize("walk", [latents.interpolate, latents.slerp])
def test_a_walk_begins_and_ends_exactly_where_it_should(walk):
    path = walk(A, B, 7)
    assert path.shape == (7, 16) and path.dtype == np.float32
    np.testing.assert_array_equal(path[[0, -1]], [A, B])


def test_interpolation_takes_equal_steps():
    """Oracle: on a straight line all differences are (b - a) / 6."""
    path = latents.interpolate(A, B, 7)
    np.testing.assert_allclose(np.diff(path, axis=0), np.tile((B - A) / 6, (6, 1)), rtol=0, atol=1e-6)


def test_slerp_keeps_the_norm_and_takes_equal_angles():
    """Oracle: an arc of a circle, of the radius that both ends have."""
    a, b = (3 * x.astype(np.float64) / np.linalg.norm(x.astype(np.float64)) for x in (A, B))
    path = latents.slerp(a, b, 9)
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), 3.0, rtol=1e-12)
    angles = np.arccos((path[1:] * path[:-1]).sum(axis=1) / 9)
    np.testing.assert_allclose(angles, np.arccos(a @ b / 9) / 8, rtol=1e-9)


def test_slerp_of_quaternions_is_scipys():
    """Oracle: scipy.spatial.transform.Slerp, for which Shoemake's formula was made."""
    a, b = Rotation.from_quat([0.1, 0.2, 0.3, 0.9]), Rotation.from_quat([0.5, -0.2, 0.1, 0.8])
    theirs = Slerp([0, 1], Rotation.concatenate([a, b]))(np.linspace(0, 1, 6)).as_quat()
    ours = latents.slerp(a.as_quat(), b.as_quat(), 6)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("b", [A, -A, 2 * A, np.zeros_like(A)], ids=["same", "opposite", "parallel", "zero"])
def test_slerp_is_linear_where_there_is_no_arc(b: np.ndarray):
    """Oracle: `interpolate`."""
    np.testing.assert_array_equal(latents.slerp(A, b, 5), latents.interpolate(A, b, 5))


def test_a_traversal_changes_one_latent():
    """Oracle: the definition, element by element; what it starts from stays."""
    before = A.copy()
    path = latents.traverse(A, 3, np.array([-3.0, 0.0, 3.0]))
    np.testing.assert_array_equal(path[:, 3], [-3, 0, 3])
    np.testing.assert_array_equal(np.delete(path, 3, axis=1), np.tile(np.delete(A, 3), (3, 1)))
    np.testing.assert_array_equal(A, before)


def test_directions_are_the_coefficients_of_a_ridge_regression():
    """Oracle: scikit-learn's Ridge; nan where all or none of the images have the label."""
    means, _ = posteriors()
    labels = (np.random.default_rng(2).random((400, 4)) < [0.5, 0.1, 2.0, -1.0]).astype(np.uint8)
    found = latents.directions(means, labels)
    expected = Ridge(alpha=30.0).fit(labels, means.astype(float)).coef_.T
    np.testing.assert_allclose(found[:2], expected[:2], rtol=1e-5)
    assert np.isnan(found[2:]).all()


def test_a_direction_leaves_out_the_labels_that_a_label_occurs_with():
    """Oracle: planted effects, each label its own axis; the difference of means would have 0.9 of the second in the
    first."""
    rng = np.random.default_rng(3)
    second = rng.random(4000) < 0.5
    labels = np.stack([second & (rng.random(4000) < 0.2), second], axis=1).astype(np.uint8)
    means = (labels @ np.eye(2, 3) + 0.1 * rng.standard_normal((4000, 3))).astype(np.float32)
    first = latents.directions(means, labels)[0]
    assert abs(first[1]) < 0.1 * first[0] and abs(first[2]) < 0.05 * first[0]


def test_the_effect_of_an_edit():
    """Oracle: counted by hand. Label 0 is added, 1 removed; of four images the first two succeed."""
    before = np.array([[0, 1, 0, 1], [0, 1, 0, 1], [0, 1, 0, 0], [0, 1, 1, 0]], bool)
    after = np.array([[1, 0, 1, 1], [1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 1, 0]], bool)
    effect = latents.effect(before, after, [0], [1])
    assert effect == (0.5, 3 / 4, [(2, 0.5), (3, -0.25)])
    assert latents.effect(before, before, [0], []) == (0.0, 0.0, [])


def test_the_aggregate_is_the_law_of_total_covariance():
    """Oracle: np.cov of the means (ddof 0) plus the mean variances, in float64."""
    means, logvars = posteriors()
    centre, covariance = latents.aggregate(means, logvars)
    np.testing.assert_allclose(centre, means.astype(float).mean(0), rtol=1e-12)
    expected = np.cov(means.astype(float), rowvar=False, ddof=0) + np.diag(np.exp(logvars.astype(float)).mean(0))
    np.testing.assert_allclose(covariance, expected, rtol=1e-12)


def test_latents_wait_for_no_library():
    code = "import sys, flax_punkvae.trained.samplers as _; assert not {'jax', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
