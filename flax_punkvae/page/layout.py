"""Where images lie on the map: PCA and t-SNE of latents, how well they keep neighbours, and places for new latents."""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int

# Neighbours that are compared by `preservation`.
NEIGHBOURS = 10
# A new latent lies at the mean of the t-SNE positions of its nearest neighbours in latent space.
_PLACED_AT = 5
_PERPLEXITY = 30.0
# t-SNE needs more images than this.
LEAST = 5
# Rows of the matrix of distances that are in memory at a time.
_ROWS = 500


class Pca(NamedTuple):
    """The first two principal components, scaled so that all given latents lie in [-1, 1] x [-1, 1]."""

    centre: Float[np.ndarray, "d"]
    axes: Float[np.ndarray, "d 2"]

    def __call__(self, means: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n 2"]:
        """The positions of latents, float32."""
        return ((means.astype(np.float64) - self.centre) @ self.axes).astype(np.float32)


def pca(means: Float[np.ndarray, "n d"]) -> Pca:
    """Fit the components; the largest entry of each is positive, so that the layout is the same every time."""
    wide = means.astype(np.float64)
    centre = wide.mean(axis=0)
    _, vectors = np.linalg.eigh((wide - centre).T @ (wide - centre))
    axes = np.zeros((len(centre), 2))
    axes[:, : min(2, len(centre))] = vectors[:, ::-1][:, :2]
    largest = axes[np.abs(axes).argmax(axis=0), range(2)]
    axes *= np.where(largest < 0, -1.0, 1.0)
    extent = np.abs((wide - centre) @ axes).max()
    return Pca(centre, axes / extent if extent > 0 else axes)


class Tsne:
    """t-SNE in a process of its own, which a request never waits for; kept in a directory, under the means' digest."""

    def __init__(self, means: Float[np.ndarray, "n d"], directory: Path | None) -> None:
        self._temporary = None if directory else tempfile.TemporaryDirectory()
        folder = directory or Path(self._temporary.name if self._temporary else "")
        digest = hashlib.sha256(np.ascontiguousarray(means).data).hexdigest()
        self.count = len(means)
        self.file = folder / f"tsne-{digest}.npy"
        self._process: subprocess.Popen[bytes] | None = None
        if self.positions() is None:
            self._source = folder / f"means-{digest}-{os.getpid()}.npy"
            np.save(self._source, means)
            code = "import sys; from flax_punkvae.page import layout; layout.write_tsne(*sys.argv[1:])"
            # One thread: the same layout every time, and a core left for the person. A session of its own: Ctrl-C is
            # for the server, which then stops it.
            self._process = subprocess.Popen(
                [sys.executable, "-c", code, str(self._source), str(self.file)],
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def positions(self) -> Float32[np.ndarray, "n 2"] | None:
        """The layout, or None if there is none yet."""
        try:
            found = np.load(self.file)
        except (OSError, ValueError, EOFError):
            return None
        fits = found.shape == (self.count, 2) and found.dtype == np.float32 and np.isfinite(found).all()
        return found if fits else None

    def wait(self, seconds: float) -> bool:
        """Wait up to this long; whether the process has ended."""
        if self._process is None:
            return True
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._source.unlink(missing_ok=True)
        if self._temporary:
            self._temporary.cleanup()


def write_tsne(source: str, file: str) -> None:
    """Compute the layout of the latents in one .npy file and write it to another."""
    from sklearn.manifold import TSNE

    means = np.load(source)
    perplexity = min(_PERPLEXITY, (len(means) - 1) / 3)
    found = TSNE(init="pca", perplexity=perplexity, n_jobs=1, random_state=0).fit_transform(means)
    found = np.asarray(found, np.float64) - found.mean(axis=0)
    extent = np.abs(found).max()
    with tempfile.NamedTemporaryFile(dir=Path(file).parent, suffix=".npy", delete=False) as made:
        np.save(made, (found / (extent if extent > 0 else 1.0)).astype(np.float32))
    os.replace(made.name, file)


def preservation(means: Float[np.ndarray, "n d"], positions: Float[np.ndarray, "n 2"]) -> float:
    """The share of the 10 nearest neighbours in latent space that are among the 10 nearest on the map (average)."""
    count = min(NEIGHBOURS, len(means) - 1)
    if count < 1:
        return 1.0
    pairs = zip(_nearest(means, means, count, True), _nearest(positions, positions, count, True), strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) for a, b in pairs])) / count


def place(
    latents: Float[np.ndarray, "m d"], means: Float[np.ndarray, "n d"], positions: Float32[np.ndarray, "n 2"]
) -> Float32[np.ndarray, "m 2"]:
    """Approximate positions of new latents: the mean position of their nearest neighbours in latent space."""
    rows = _nearest(latents, means, min(_PLACED_AT, len(means)), False)
    return positions[rows].mean(axis=1, dtype=np.float32)


def _nearest(
    queries: Float[np.ndarray, "m d"], points: Float[np.ndarray, "n d"], count: int, same: bool
) -> Int[np.ndarray, "m count"]:
    """The rows of the `count` points nearest to each query; `same` leaves out the query itself."""
    found, wide = [], points.astype(np.float32)
    squares = (wide**2).sum(axis=1)
    for start in range(0, len(queries), _ROWS):
        part = queries[start : start + _ROWS].astype(np.float32)
        distances = squares - 2 * part @ wide.T
        if same:
            distances[np.arange(len(part)), start + np.arange(len(part))] = np.inf
        found.append(np.argpartition(distances, count - 1, axis=1)[:, :count])
    return np.concatenate(found)
