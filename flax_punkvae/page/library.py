"""What the page knows besides the model.

A background thread fills it in, part by part, so that the page opens at once.
"""

import importlib.util
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from flax_punkvae.data import LazyImages
from flax_punkvae.errors import UserError
from flax_punkvae.opening import Images
from flax_punkvae.page import layout, parts
from flax_punkvae.page.cache import Cache
from flax_punkvae.trained import editing, latents, probing, runs, traits
from flax_punkvae.trained.model import Model
from flax_punkvae.trained.runs import OpenedRun, TrainingSprites
from flax_punkvae.trained.traits import Reader
from flax_punkvae.training.description import digests

# Edits are measured at this strength, on at most this many held-out images each.
STRENGTH = 2.0
_MEASURED = 64
# Images encoded between two looks at whether a person waits.
_AT_ONCE = 256
# Background work rests for so long, in seconds, after the last request.
_REST = 0.5
# `stop` waits for at most so many seconds: longer than a process takes to end.
_PATIENCE = 2.0


class Tsne(NamedTuple):
    """The layout by t-SNE and its `layout.preservation`."""

    positions: Float32[np.ndarray, "n 2"]
    kept: float


@dataclass(eq=False)
class Library:
    """Each part is None (or empty) until it is ready, and stays so if it cannot be had; `notes` say why, a line each.

    given: how the user named the model. directory: where it is. run: the images. known: the training sprites. held_out:
    ids by the SHA-256 of sprites. means: of the posteriors of all images. posteriors: (means, logvars) of the training
    images. directions: of the labels. effects: by label, of adding and of removing it. progress: what is being computed
    now; empty at the end. reader: of the traits.
    """

    model: Model
    given: Path
    directory: Path
    moved: Images
    cache: Cache
    reader: Reader | None = None
    run: OpenedRun | None = None
    known: TrainingSprites | None = None
    held_out: dict[bytes, int] = field(default_factory=dict)
    latents: parts.Latents | None = None
    means: Float[np.ndarray, "n d"] | None = None
    posteriors: tuple[np.ndarray, np.ndarray] | None = None
    map: parts.Map | None = None
    directions: Float[np.ndarray, "a d"] | None = None
    tsne: Tsne | None = None
    effects: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    progress: str = "opening"
    last_request: float = 0.0
    _stopped: threading.Event = field(default_factory=threading.Event)
    _filling: threading.Thread | None = None

    def start(self) -> None:
        """Fill in the parts in a background thread."""
        self._filling = threading.Thread(target=self.fill, name="library", daemon=True)
        self._filling.start()

    def stop(self) -> None:
        """End the background work and its process."""
        self._stopped.set()
        if self._filling:
            self._filling.join(_PATIENCE)

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` has been called."""
        return self._stopped.is_set()

    def fill(self, of_map: bool | None = None) -> None:
        """Fill in the parts, one after another: all of them, or only those of the map, or only the others."""
        steps: tuple[tuple[str, Callable[[], None], bool], ...] = (
            ("loading the training images", self._load_images, False),
            ("measuring the latents", self._measure_latents, False),
            ("encoding the training images", self._encode_images, False),
            ("laying out the map by PCA", self._lay_out, True),
            ("finding the directions of the traits", self._find_directions, False),
            ("learning to read the traits", self._learn_reader, False),
            ("laying out the map by t-SNE, which takes about a minute for 10,000 images", self._run_tsne, True),
            ("measuring edits", self._measure_edits, False),
        )
        for what, step, is_of_map in steps:
            if of_map is not None and is_of_map != of_map:
                continue
            self.progress = what
            try:
                step()
            except _Stopped:
                return
            except UserError as error:
                self.notes.append(str(error))
            except Exception as error:
                # The rest of the page works without this part.
                self.notes.append(f"{what} failed: {' '.join(str(error).split())}")
        self.progress = ""

    def _rest(self) -> None:
        """Wait while a person is at work. Raises _Stopped after `stop`."""
        while time.monotonic() - self.last_request < _REST and not self._stopped.wait(_REST / 5):
            pass
        if self.is_stopped:
            raise _Stopped

    def _load_images(self) -> None:
        self.reader, note = traits.shipped(self.model.description)
        if self.reader is None and not self.learns_reader:
            self.notes.append(note)
        where = f"the training images ({self.model.description.source})"
        if not runs.is_local(self.directory, self.moved):
            raise UserError(f"{where} are not on this machine, so the map shows samples: start with --data.source")
        try:
            run = runs.with_images(self.directory, self.model, self.moved)
        except UserError as error:
            raise UserError(f"{where} were not found, so the map shows samples ({error})") from error
        dataset = run.dataset
        originals = dataset.originals
        train, test = run.train_indices, run.test_indices
        self.held_out = dict(zip(map(bytes, digests(originals[test])), dataset.ids[test].tolist(), strict=True))
        self.known = TrainingSprites(originals[train], dataset.ids[train])
        self.run = run

    def _measure_latents(self) -> None:
        self.latents = parts.latents_of(self.model, self.run)

    def _encode_images(self) -> None:
        if self.run is not None:
            pixels = self.run.dataset.images
            found = self.cache.array("posteriors", self._facts(), lambda: np.stack(self._encode(pixels)))
            train = self.run.train_indices
            self.means, self.posteriors = found[0], (found[0, train], found[1, train])

    def _lay_out(self) -> None:
        if self.run is None:
            sprites = self.model.sample(parts.SAMPLES, seed=0)
            means, _ = self._encode(parts.to_pixels(self.model, sprites))
            shown = parts.Shown(sprites, means, np.arange(len(sprites)), "s" * len(sprites), [], {})
        elif self.means is not None:
            shown = parts.on_map(self.run, self.means)
            if len(shown.ids) < len(self.means):
                self.notes.append(f"the map shows {len(shown.ids)} of {len(self.means)} images")
        else:
            return
        self.map = parts.lay_out(shown)

    def _encode(self, pixels: np.ndarray | LazyImages) -> tuple[np.ndarray, np.ndarray]:
        found = []
        for start in range(0, len(pixels), _AT_ONCE):
            self.progress = f"encoding images: {start} of {len(pixels)}"
            self._rest()
            found.append(self.model.encode_pixels(pixels[start : start + _AT_ONCE]))
        means, logvars = (np.concatenate(part) for part in zip(*found, strict=True))
        return means, logvars

    def _find_directions(self) -> None:
        if self.run is not None and self.posteriors is not None and self.run.dataset.label_names:
            labels = self.run.dataset.labels[self.run.train_indices]
            self.directions = latents.directions(self.posteriors[0], labels)

    @property
    def learns_reader(self) -> bool:
        """Whether a reader of the traits is, or will be, learned from the training images."""
        described = self.model.description
        if not described.label_names or not runs.is_local(self.directory, self.moved):
            return False
        return traits.shipped(described)[0] is None

    def _learn_reader(self) -> None:
        if self.run is not None and self.learns_reader:
            self._rest()
            self.reader = probing.reader_of(self.run)
            self.notes.append(self.reader.note)

    def _run_tsne(self) -> None:
        if self.map is None or len(self.map.shown.ids) < layout.LEAST:
            return
        if importlib.util.find_spec("sklearn") is None:
            raise UserError("the layout by t-SNE needs scikit-learn: pip install '.[evaluate]'")
        means = self.map.shown.means
        running = layout.Tsne(means, self.cache.directory)
        try:
            while not running.wait(0.2):
                if self.is_stopped:
                    raise _Stopped
            positions = running.positions()
        finally:
            running.stop()
        if positions is None:
            raise UserError("the layout by t-SNE failed: the map by PCA is shown")
        self.tsne = Tsne(positions, layout.preservation(means, positions))

    def _measure_edits(self) -> None:
        if self.run is None or self.directions is None:
            return
        if self.reader is None:
            self.notes.append("the success of edits is not measured, since the traits of samples cannot be read")
            return
        self.effects = self.cache.table("edits", [*self._facts(), self.reader.key], self._effects)

    def _effects(self) -> dict[str, Any]:
        names = self.model.description.label_names
        found = {}
        for column, name in enumerate(names):
            self.progress = f"measuring edits: {column} of {len(names)} traits"
            found[name] = {"add": self._effect(column, True), "remove": self._effect(column, False)}
        return found

    def _effect(self, column: int, adds: bool) -> dict[str, Any] | None:
        """The measured effect of adding or removing one label; None if it cannot be measured."""
        self._rest()
        assert self.run is not None and self.directions is not None and self.reader is not None
        add, remove = ([column], []) if adds else ([], [column])
        shift = self.directions[column] if adds else -self.directions[column]
        positions = editing.eligible(self.run, add, remove)[:_MEASURED]
        name = self.model.description.label_names[column]
        if np.isnan(shift).any() or editing.unmeasured(self.reader, positions, [name]):
            return None
        (effect,) = editing.measure(self.run, self.reader, positions, shift, add, remove, [STRENGTH])
        return {"images": len(positions), "succeeds": effect["succeeds"], "others_changed": effect["others_changed"]}

    def _facts(self) -> list[str]:
        """What posteriors depend on."""
        described = self.model.description
        return [described.params_sha256, described.images_sha256, repr(described.model)]


class _Stopped(Exception):
    """The program ends."""
