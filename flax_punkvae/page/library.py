"""What the page knows besides the model: the images, their latents, the map and the effects of edits.

A background thread fills it in, part by part, so that the page opens at once.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from flax_punkvae.errors import UserError
from flax_punkvae.measures.features import Network
from flax_punkvae.opening import Images
from flax_punkvae.page import atlas, layout
from flax_punkvae.trained import editing, latents, runs, selection, traits
from flax_punkvae.trained.model import Model
from flax_punkvae.trained.runs import OpenedRun, TrainingSprites
from flax_punkvae.training.description import digests

# The map shows at most this many images, evenly spaced in the set.
MOST_ON_MAP = 20_000
# Without the training images, the map shows this many samples.
_SAMPLES = 1000
# Draws from the prior that give the ranges of the sliders.
_PRIOR_DRAWS = 2048
# Edits are measured at this strength, on at most this many held-out images each.
STRENGTH = 2.0
_MEASURED = 64
# Images encoded between two looks at whether a person waits.
_AT_ONCE = 256
# Background work rests for so long, in seconds, after the last request.
_REST = 0.5
# Files kept in the cache.
_MOST_FILES = 30


class Latents(NamedTuple):
    """kl: of each latent, in nats. centre, deviation: mean and standard deviation of each in draws from the prior.
    measured_on: the images that the KL is an average over."""

    kl: Float[np.ndarray, "d"]
    centre: Float[np.ndarray, "d"]
    deviation: Float[np.ndarray, "d"]
    measured_on: str


class Map(NamedTuple):
    """n images to show. parts: of each, t(raining), v(alidation), h(eld out) or s(ample). labels: by name, the rows of
    the images that have it. names: file names, or empty. pca_kept: the `layout.preservation` of the layout by PCA."""

    sprites: UInt8[np.ndarray, "n h w 3"]
    means: Float[np.ndarray, "n d"]
    ids: Int[np.ndarray, "n"]
    parts: str
    names: list[str]
    labels: dict[str, list[int]]
    atlas: atlas.Atlas
    pca: layout.Pca
    positions: Float32[np.ndarray, "n 2"]
    pca_kept: float


class Tsne(NamedTuple):
    """The layout by t-SNE and its `layout.preservation`."""

    positions: Float32[np.ndarray, "n 2"]
    kept: float


@dataclass(eq=False)
class Library:
    """Each part is None until it is ready, and stays None if it cannot be had; `notes` say why, a line each.

    progress: what is being computed now; empty at the end. changes: how many parts have become ready.
    """

    model: Model
    directory: Path
    moved: Images
    cache: Path | None
    network: Network | None = None
    run: OpenedRun | None = None
    known: TrainingSprites | None = None
    held_out: dict[bytes, int] = field(default_factory=dict)
    posteriors: tuple[np.ndarray, np.ndarray] | None = None
    latents: Latents | None = None
    map: Map | None = None
    tsne: Tsne | None = None
    directions: Float[np.ndarray, "a d"] | None = None
    effects: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    progress: str = "opening"
    changes: int = 0
    last_request: float = 0.0
    stopped: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Fill in the parts in a background thread."""
        threading.Thread(target=self._fill, name="library", daemon=True).start()

    def rest(self) -> None:
        """Wait while a person is at work. Raises _Stopped after `stop`."""
        while time.monotonic() - self.last_request < _REST:
            if self.stopped.wait(_REST / 5):
                break
        if self.stopped.is_set():
            raise _Stopped

    def stop(self) -> None:
        """End the background work soon."""
        self.stopped.set()

    def _fill(self) -> None:
        steps: tuple[Callable[[], None], ...] = (
            self._load_images,
            self._order_latents,
            self._draw_map,
            self._find_directions,
            self._run_tsne,
            self._measure_edits,
        )
        for step in steps:
            try:
                step()
            except _Stopped:
                return
            except UserError as error:
                self.notes.append(str(error))
            except Exception as error:
                # The rest of the page works without this part.
                self.notes.append(
                    f"{step.__name__.strip('_').replace('_', ' ')} failed: {' '.join(str(error).split())}"
                )
            self.changes += 1
        self.progress = ""

    def _load_images(self) -> None:
        self.progress = "loading the training images"
        self.network, note = traits.load_network(self.model.description)
        if self.network is None:
            self.notes.append(note)
        where = f"the training images ({self.model.description.source})"
        if not runs.is_local(self.directory, self.moved):
            raise UserError(f"{where} are not on this machine, so the map shows samples: start with --data.source")
        try:
            run = runs.with_images(self.directory, self.model, self.moved)
        except UserError as error:
            if self.moved.source is not None:
                raise
            raise UserError(f"{where} were not found, so the map shows samples ({error})") from error
        dataset = run.dataset
        originals = dataset.images if dataset.sprites is None else dataset.sprites
        train, test = run.train_indices, run.test_indices
        self.held_out = dict(zip(map(bytes, digests(originals[test])), dataset.ids[test].tolist(), strict=True))
        self.known = TrainingSprites(originals[train], dataset.ids[train])
        self.run = run

    def _order_latents(self) -> None:
        self.progress = "measuring the latents"
        model = self.model
        drawn = selection.joined(model.draw("prior", _PRIOR_DRAWS, seed=0, reencode=0))
        if self.run is not None:
            pixels, measured_on = self.run.dataset.images[self.run.test_indices], "held-out images"
        else:
            pixels, measured_on = self._pixels(model.decode(drawn.latents[:_AT_ONCE])), "samples"
        if model.module.prior.is_standard:
            centre, deviation = np.zeros(drawn.latents.shape[1]), np.ones(drawn.latents.shape[1])
        else:
            centre, deviation = drawn.latents.mean(axis=0, dtype=np.float64), drawn.latents.std(0, dtype=np.float64)
        self.latents = Latents(model.kl_per_latent(pixels, seed=0), centre, deviation, measured_on)

    def _draw_map(self) -> None:
        if self.run is None:
            self.progress = "drawing samples for the map"
            sprites = self.model.sample(_SAMPLES, seed=0)
            means, _ = self._encode(self._pixels(sprites))
            ids, parts, names, labels = np.arange(_SAMPLES), "s" * _SAMPLES, [], {}
        else:
            dataset = self.run.dataset
            means, logvars = self._posteriors()
            self.posteriors = means[self.run.train_indices], logvars[self.run.train_indices]
            count = len(means)
            rows = np.unique(np.linspace(0, count - 1, min(count, MOST_ON_MAP)).astype(int))
            if len(rows) < count:
                self.notes.append(f"the map shows {len(rows)} of {count} images")
            means, ids = means[rows], dataset.ids[rows]
            sprites = dataset.pictures(rows) if dataset.sprites is None else dataset.sprites[rows]
            letters = np.full(count, "t")
            letters[self.run.validation_indices], letters[self.run.test_indices] = "v", "h"
            parts = "".join(letters[rows])
            names = [dataset.files[row] for row in rows] if dataset.files else []
            columns = enumerate(dataset.label_names)
            labels = {name: np.flatnonzero(dataset.labels[rows, column] == 1).tolist() for column, name in columns}
        self.progress = "laying out the map by PCA"
        fitted = layout.pca(means)
        positions = fitted(means)
        kept = layout.preservation(means, positions)
        self.map = Map(sprites, means, ids, parts, names, labels, atlas.make(sprites), fitted, positions, kept)

    def _find_directions(self) -> None:
        if self.run is None or self.posteriors is None or not self.run.dataset.label_names:
            return
        labels = self.run.dataset.labels[self.run.train_indices]
        self.directions = latents.directions(self.posteriors[0], labels)

    def _run_tsne(self) -> None:
        shown = self.map
        if shown is None or len(shown.ids) < layout.LEAST:
            return
        try:
            import sklearn  # noqa: F401
        except ImportError as error:
            raise UserError("the layout by t-SNE needs scikit-learn: pip install '.[evaluate]'") from error
        self.progress = f"laying out {len(shown.ids)} images by t-SNE; the map by PCA is ready"
        running = layout.Tsne(shown.means, self.cache)
        try:
            while not running.wait(0.2):
                if self.stopped.is_set():
                    raise _Stopped
            positions = running.positions()
        finally:
            running.stop()
        if positions is None:
            raise UserError("the layout by t-SNE failed: the map by PCA is shown")
        self.tsne = Tsne(positions, layout.preservation(shown.means, positions))

    def _measure_edits(self) -> None:
        if self.run is None or self.directions is None:
            return
        if self.network is None:
            self.notes.append("the success of edits is not measured, since the traits of samples cannot be read")
            return
        stored = self._stored("edits", ".json")
        # A damaged file is computed again.
        with contextlib.suppress(OSError, ValueError):
            if stored:
                self.effects = json.loads(stored.read_text(encoding="utf-8"))
                return
        names = self.run.dataset.label_names
        found: dict[str, dict[str, Any]] = {}
        for column, name in enumerate(names):
            self.progress = f"measuring edits: {column} of {len(names)} traits"
            found[name] = {how: self._effect(column, how == "add") for how in ("add", "remove")}
            self.effects = dict(found)
        if stored:
            _replace(stored, json.dumps(found).encode())

    def _effect(self, column: int, adds: bool) -> dict[str, Any] | None:
        """The measured effect of adding or removing one label; None if no held-out image can be edited so."""
        self.rest()
        assert self.run is not None and self.directions is not None and self.network is not None
        add, remove = ([column], []) if adds else ([], [column])
        direction = self.directions[column]
        try:
            positions = editing.eligible(self.run, add, remove)[:_MEASURED]
        except UserError:
            return None
        if np.isnan(direction).any():
            return None
        shift = direction if adds else -direction
        (effect,) = editing.measure(self.run, self.network, positions, shift, add, remove, [STRENGTH])
        return {"images": len(positions), "succeeds": effect["succeeds"], "others_changed": effect["others_changed"]}

    def _posteriors(self) -> tuple[np.ndarray, np.ndarray]:
        """(means, logvars) of all images, kept in the cache."""
        assert self.run is not None
        stored = self._stored("posteriors", ".npy")
        pixels = self.run.dataset.images
        # A damaged file is computed again.
        with contextlib.suppress(OSError, ValueError, EOFError):
            if stored:
                found = np.load(stored)
                if found.shape == (2, len(pixels), self.model.description.model.latent):
                    return found[0], found[1]
        means, logvars = self._encode(pixels)
        if stored:
            made = io.BytesIO()
            np.save(made, np.stack([means, logvars]))
            _replace(stored, made.getvalue())
        return means, logvars

    def _encode(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = []
        for start in range(0, len(pixels), _AT_ONCE):
            self.progress = f"encoding the images of the map: {start} of {len(pixels)}"
            self.rest()
            found.append(self.model.encode_pixels(pixels[start : start + _AT_ONCE]))
        means, logvars = (np.concatenate(part) for part in zip(*found, strict=True))
        return means, logvars

    def _pixels(self, decoded: UInt8[np.ndarray, "n h w 3"]) -> np.ndarray:
        """Decoded images in the format of a Dataset."""
        from flax_punkvae import images

        palette = self.model.index_palette
        return decoded if palette is None else images.to_indices(decoded, palette)[..., None]

    def _stored(self, what: str, suffix: str) -> Path | None:
        """A file in the cache for this model and these images, or None without a cache; removes the oldest files."""
        if self.cache is None:
            return None
        by_age = sorted(self.cache.iterdir(), key=lambda file: file.stat().st_mtime)
        for file in by_age[:-_MOST_FILES]:
            file.unlink(missing_ok=True)
        described = self.model.description
        facts = (described.params_sha256, described.images_sha256, str(dataclasses.astuple(described.model)))
        return self.cache / f"{what}-{hashlib.sha256(' '.join(facts).encode()).hexdigest()}{suffix}"


class _Stopped(Exception):
    """The program ends."""


def _replace(path: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    os.replace(file.name, path)
