"""What the page shows of a model and its images: the latents, and the images of the map. Computed once."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int, UInt, UInt8

from flax_punkvae import images
from flax_punkvae.page import atlas, layout
from flax_punkvae.trained import selection
from flax_punkvae.trained.model import Model
from flax_punkvae.trained.runs import OpenedRun

# The map shows at most this many images, evenly spaced in the set.
MOST_ON_MAP = 20_000
# Without the training images, the map shows this many samples.
SAMPLES = 1000
# Draws from the prior that give the ranges of the sliders, and those of them that give the KL without images.
_PRIOR_DRAWS = 2048
_DECODED = 256


class Latents(NamedTuple):
    """kl: of each latent, in nats. centre, deviation: mean and standard deviation of each in draws from the prior.
    measured_on: the images that the KL is an average over."""

    kl: Float[np.ndarray, "d"]
    centre: Float[np.ndarray, "d"]
    deviation: Float[np.ndarray, "d"]
    measured_on: str


class Shown(NamedTuple):
    """n images of the map. parts: of each, t(raining), v(alidation), h(eld out) or s(ample). names: file names, or
    empty. labels: by name, the rows of the images that have it."""

    sprites: UInt8[np.ndarray, "n h w c"]
    means: Float[np.ndarray, "n d"]
    ids: Int[np.ndarray, "n"]
    parts: str
    names: list[str]
    labels: dict[str, list[int]]


class Map(NamedTuple):
    """The images, their tiles, and their positions by PCA; kept is the `layout.preservation` of these."""

    shown: Shown
    atlas: atlas.Atlas
    pca: layout.Pca
    positions: Float32[np.ndarray, "n 2"]
    kept: float


def latents_of(model: Model, run: OpenedRun | None) -> Latents:
    """The KL of the latents on held-out images, as `explore traverse` computes it, or without images on samples."""
    drawn = selection.joined(model.draw("prior", _PRIOR_DRAWS, seed=0, reencode=0)).latents
    if run is not None:
        pixels, measured_on = run.dataset.images[run.test_indices], "held-out images"
    else:
        pixels, measured_on = to_pixels(model, model.decode(drawn[:_DECODED])), "samples"
    if model.module.prior.is_standard:
        centre, deviation = np.zeros(drawn.shape[1]), np.ones(drawn.shape[1])
    else:
        centre, deviation = drawn.mean(axis=0, dtype=np.float64), drawn.std(axis=0, dtype=np.float64)
    return Latents(model.kl_per_latent(pixels, seed=0), centre, deviation, measured_on)


def on_map(run: OpenedRun, means: Float[np.ndarray, "m d"]) -> Shown:
    """The images of a run, or MOST_ON_MAP of them; `means` are the posterior means of all."""
    dataset, count = run.dataset, len(means)
    rows = np.unique(np.linspace(0, count - 1, min(count, MOST_ON_MAP)).astype(int))
    letters = np.full(count, "t")
    letters[run.validation_indices], letters[run.test_indices] = "v", "h"
    labels = dataset.labels[rows] == 1
    return Shown(
        sprites=dataset.pictures(rows) if dataset.sprites is None else dataset.sprites[rows],
        means=means[rows],
        ids=dataset.ids[rows],
        parts="".join(letters[rows]),
        names=[dataset.files[row] for row in rows] if dataset.files else [],
        labels={name: np.flatnonzero(labels[:, i]).tolist() for i, name in enumerate(dataset.label_names)},
    )


def lay_out(shown: Shown) -> Map:
    """The map of these images."""
    fitted = layout.pca(shown.means)
    positions = fitted(shown.means)
    return Map(shown, atlas.make(shown.sprites), fitted, positions, layout.preservation(shown.means, positions))


def to_pixels(model: Model, decoded: UInt8[np.ndarray, "n h w c"]) -> UInt[np.ndarray, "n h w _"]:
    """Decoded images in the format of a Dataset."""
    palette = model.index_palette
    return decoded if palette is None else images.to_indices(decoded, palette)[..., None]
