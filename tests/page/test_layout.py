"""Layouts of the map."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from flax_punkvae.page import layout

RNG = np.random.default_rng(0)
# Three clusters in five dimensions.
MEANS = (RNG.standard_normal((60, 5)) * [3, 2, 1, 0.5, 0.1] + 8 * np.eye(3, 5)[np.arange(60) % 3]).astype(np.float32)


def test_pca_is_that_of_scikit_learn_up_to_scale_and_sign():
    found = layout.pca(MEANS)(MEANS).astype(np.float64)
    expected = PCA(2).fit_transform(MEANS.astype(np.float64))
    expected *= np.sign((expected * found).sum(axis=0))
    np.testing.assert_allclose(found, expected / np.abs(expected).max(), atol=1e-5)
    assert np.abs(found).max() == pytest.approx(1)


def test_pca_is_the_same_for_images_in_another_order():
    order = RNG.permutation(60)
    np.testing.assert_allclose(layout.pca(MEANS[order])(MEANS), layout.pca(MEANS)(MEANS), atol=1e-5)


@pytest.mark.parametrize("means", [MEANS[:1], MEANS[:2], np.ones((4, 3), np.float32), MEANS[:, :1]])
def test_pca_of_hardly_anything_is_finite(means: np.ndarray):
    found = layout.pca(means)(means)
    assert found.shape == (len(means), 2) and np.isfinite(found).all()
    assert 0 <= layout.preservation(means, found) <= 1


def test_neighbours_are_preserved_as_counted_by_scikit_learn():
    positions = layout.pca(MEANS)(MEANS)
    rows = [NearestNeighbors(n_neighbors=10).fit(x).kneighbors(return_distance=False) for x in (MEANS, positions)]
    expected = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(*rows, strict=True)])
    assert layout.preservation(MEANS, positions) == pytest.approx(expected)
    assert layout.preservation(MEANS[:, :2], MEANS[:, :2]) == 1


def test_a_new_latent_lies_among_its_neighbours():
    positions = RNG.standard_normal((60, 2)).astype(np.float32)
    latents = RNG.standard_normal((4, 5)).astype(np.float32)
    rows = NearestNeighbors(n_neighbors=5).fit(MEANS).kneighbors(latents, return_distance=False)
    np.testing.assert_allclose(layout.place(latents, MEANS, positions), positions[rows].mean(axis=1), rtol=1e-5)


def test_tsne_is_computed_once_and_the_same_every_time(tmp_path: Path):
    found = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        first = layout.Tsne(MEANS, folder)
        assert first.positions() is None and first.wait(60.0)
        found.append(first.positions())
        first.stop()
        # Only the layout is left, and the next one needs no process.
        assert [path.name for path in folder.iterdir()] == [first.file.name]
        assert layout.Tsne(MEANS, folder).wait(0.0)
    np.testing.assert_array_equal(*found)
    assert found[0] is not None and found[0].shape == (60, 2) and np.abs(found[0]).max() == 1
    # Clusters stay apart: neighbours on the map are of the same cluster.
    rows = NearestNeighbors(n_neighbors=5).fit(found[0]).kneighbors(return_distance=False)
    assert (rows % 3 == np.arange(60)[:, None] % 3).mean() > 0.9


def test_a_stopped_or_damaged_layout_is_made_again(tmp_path: Path):
    stopped = layout.Tsne(MEANS, tmp_path)
    stopped.stop()
    assert stopped.wait(0.0) and stopped.positions() is None
    stopped.file.write_bytes(b"not an array")
    again = layout.Tsne(MEANS, tmp_path)
    assert again.wait(60.0) and again.positions() is not None
    again.stop()


def test_without_a_cache_the_layout_is_in_a_temporary_folder():
    made = layout.Tsne(MEANS[:10], None)
    assert made.wait(60.0) and made.positions() is not None
    made.stop()
    assert not made.file.parent.exists()
