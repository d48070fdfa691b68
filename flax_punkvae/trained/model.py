"""A finished (or begun) run, opened to be measured and to generate from."""

import difflib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from flax_punkvae import data, images
from flax_punkvae.config import Config, DataConfig
from flax_punkvae.data import Dataset
from flax_punkvae.errors import UserError
from flax_punkvae.measures import features
from flax_punkvae.measures.features import Network
from flax_punkvae.model import inference
from flax_punkvae.opening import Opening
from flax_punkvae.trained import samplers
from flax_punkvae.trained.samplers import SamplerName
from flax_punkvae.training import checkpoints, loop, run_directory
from flax_punkvae.training import state as train_state
from flax_punkvae.training.state import TrainState

_BATCH = 64


class Trained(NamedTuple):
    """A checkpoint of a run with the images it was trained on; positions are those of the run's own split.

    `checkpoint` says which was asked for (last, best or a step), `damaged` which were skipped.
    """

    directory: Path
    config: Config
    state: TrainState
    checkpoint: str
    dataset: Dataset
    train_indices: Int[np.ndarray, "train"]
    validation_indices: Int[np.ndarray, "validation"]
    test_indices: Int[np.ndarray, "test"]
    damaged: list[str]

    def opened(self) -> list[str]:
        """What a program prints first: which checkpoint was opened, and which were skipped."""
        skipped = [f"skipped damaged checkpoint {text}" for text in self.damaged]
        return [*skipped, f"checkpoint: step {int(self.state.step)} ({self.checkpoint})"]

    def sprites(self, decoded: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n hs ws 3"]:
        """The model's images read back as sprites; colours as they come, not snapped to any palette."""
        return images.read_sprites(decoded, self.config.data.render)

    def palette(self) -> UInt8[np.ndarray, "p 3"]:
        """The colours of the training sprites, of which there must be some."""
        assert self.dataset.sprites is not None
        return images.palette_of(self.dataset.sprites[self.train_indices])

    def position(self, number: int) -> int:
        """Position in the dataset of the image with this id. Raises UserError if there is none, naming the nearest."""
        ids = self.dataset.ids
        if not ids.min() <= number <= ids.max() or number not in ids:
            nearest = min(ids.tolist(), key=lambda there: abs(there - number))
            raise UserError(
                f"there is no image {number}: numbers run from {ids.min()} to {ids.max()}, and the nearest is {nearest}"
            )
        return int(np.flatnonzero(ids == number)[0])

    def label(self, name: str) -> int:
        """The column of a label. Raises UserError if no label has this name, naming the nearest."""
        names = self.dataset.label_names
        if not names:
            raise UserError(
                f"{self.dataset.source} has no labels, so none is {name!r}: use a source with labels, such as punks"
            )
        if name not in names:
            nearest = max(names, key=lambda other: difflib.SequenceMatcher(None, name.lower(), other.lower()).ratio())
            raise UserError(f"{name!r} is none of the {len(names)} labels: perhaps you meant {nearest!r}")
        return names.index(name)


def open_run(directory: Path, opening: Opening | None = None) -> Trained:
    """The run in a directory, on the default device; nothing in the directory is changed.

    Raises UserError where there is no run, no such or no whole checkpoint, or the images are not there or are others.
    """
    config = run_directory.read_config(directory)
    opening = opening or Opening()
    moved = {name: value for name, value in vars(opening.data).items() if value is not None}
    config = replace(config, data=replace(config.data, **moved))
    which = _which(config, opening.checkpoint)
    if not checkpoints.steps(directory / "checkpoints"):
        raise UserError(f"{directory} has no checkpoint yet: let it finish an epoch")
    dataset = data.load(config.data)
    run_directory.check_same_data(directory, dataset.provenance())
    parts = data.parts(len(dataset.images), config.data)
    key = loop.make_keys(config.seed)["init"]
    blank = train_state.create_state(config, key, dataset.images[parts.train], dataset.colours)
    restored = checkpoints.restore(directory / "checkpoints", blank, which)
    if restored is None:
        raise UserError(f"{directory} has no whole checkpoint yet: let it finish an epoch")
    asked = which if isinstance(which, str) else "as asked for"
    return Trained(directory, config, restored.state, asked, dataset, *parts, restored.damaged)


def _which(config: Config, checkpoint: str | None) -> checkpoints.Which:
    validated = config.data.validation_fraction > 0
    if checkpoint is None:
        return "best" if validated else "last"
    if checkpoint == "best" and not validated:
        raise UserError(
            "--checkpoint best: the run has no validation images to tell the best by (data.validation_fraction is 0): "
            "open the last, or one by its step"
        )
    if checkpoint == "last" or checkpoint == "best":
        return checkpoint
    if not re.fullmatch("[0-9]{1,18}", checkpoint, re.ASCII):
        raise UserError(f"--checkpoint: {checkpoint!r} is none of last, best, or the number of a step")
    return int(checkpoint)


def decode(run: Trained, z: Float[np.ndarray, "n d"]) -> UInt8[np.ndarray, "n h w 3"]:
    """The images of any number of latents, in RGB, decoded in batches of one size."""
    return np.concatenate(list(_decoded(run, z)))


def decode_sprites(run: Trained, z: Float[np.ndarray, "n d"]) -> UInt8[np.ndarray, "n hs ws 3"]:
    """The same read back as sprites, of which many take less memory than their images."""
    return np.concatenate([run.sprites(batch) for batch in _decoded(run, z)])


def _decoded(run: Trained, z: Float[np.ndarray, "n d"]) -> Iterator[UInt8[np.ndarray, "b h w 3"]]:
    for full, count in _batches(z):
        yield images.to_rgb(
            np.asarray(inference.decode(run.state.model, run.state.params, full))[:count], run.dataset.palette
        )


def encode(run: Trained, positions: Int[np.ndarray, "n"]) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]:
    """(mean, logvar) of the posteriors of any number of the run's images."""
    starts = range(0, len(positions), _BATCH)
    batches = (_filled(run.dataset.images[positions[start : start + _BATCH]]) for start in starts)
    parts = [
        [np.asarray(x)[:count] for x in inference.encode(run.state.model, run.state.params, full)]
        for full, count in batches
    ]
    means, logvars = zip(*parts, strict=True)
    return np.concatenate(means), np.concatenate(logvars)


def sample(run: Trained, how: SamplerName, count: int, seed: int, temperature: float = 1.0) -> Float[np.ndarray, "m d"]:
    """`count` latents, from the run's prior or, fitted to its training posteriors, as the sampler of that name says."""
    return np.concatenate(list(_samples(run, how, count, seed, temperature)))


def sample_new(
    run: Trained, how: SamplerName, count: int, seed: int, temperature: float = 1.0, tries: int = 20
) -> Float[np.ndarray, "m d"]:
    """Those latents of `sample` whose sprites, snapped, are no training sprites and no two the same: the first `count`.

    Fewer where `tries` times as many were drawn and that is all they gave. The run's images must be sprites.
    """
    assert run.dataset.sprites is not None
    seen = {_digest(run.dataset.sprites[index]) for index in run.train_indices}
    palette = run.palette()
    new = []
    for z in _samples(run, how, tries * count, seed, temperature):
        for latent, sprite in zip(z, images.snap(decode_sprites(run, z), palette), strict=True):
            if (digest := _digest(sprite)) not in seen:
                seen.add(digest)
                new.append(latent)
        if len(new) >= count:
            break
    return np.array(new[:count], np.float32).reshape(-1, run.config.model.latent)


def _samples(
    run: Trained, how: SamplerName, count: int, seed: int, temperature: float
) -> Iterator[Float[np.ndarray, "b d"]]:
    def from_prior(noise: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        rows = _batches(np.stack([noise, uniform], axis=1))
        model, params = run.state.model, run.state.params
        drawn = (inference.from_prior(model, params, full[:, 0], full[:, 1])[:size] for full, size in rows)
        return np.concatenate([np.asarray(part) for part in drawn])

    source = samplers.Source(run.config.model.latent, lambda: encode(run, run.train_indices), from_prior)
    return samplers.samples(samplers.SAMPLERS[how], source, count, seed, temperature)


def _digest(sprite: UInt8[np.ndarray, "h w 3"]) -> bytes:
    # Instead of the sprite, of which there may be hundreds of thousands.
    return hashlib.sha256(sprite.tobytes()).digest()


def kl_per_latent(run: Trained, positions: Int[np.ndarray, "n"], seed: int) -> Float[np.ndarray, "d"]:
    """What each latent adds to the KL of those images from the prior, averaged over them, in nats.

    In closed form, or at one draw of z an image, as the prior gives it.
    """
    means, logvars = encode(run, positions)
    noise, _ = samplers.prior_noise(samplers.streams(seed), len(means), means.shape[1], 1.0)
    z = means + np.exp(0.5 * logvars) * noise
    rows = _batches(np.stack([means, logvars, z], axis=1))
    model, params = run.state.model, run.state.params
    found = (inference.kl(model, params, full[:, 0], full[:, 1], full[:, 2])[:size] for full, size in rows)
    return np.concatenate([np.asarray(part, np.float64) for part in found]).mean(axis=0)


def load_traits(run: Trained) -> tuple[Network | None, str]:
    """The network that reads traits off sprites like the run's, or None; and which it is, or why it is none."""
    if run.dataset.sprites is None:
        return None, "traits are not read: the run's images are no sprites"
    if run.dataset.sprites.shape[1:3] != features.SPRITE[:2]:
        return None, "traits are not read: the sprite features know sprites of 24x24 only"
    network = features.load()
    if network.label_names != run.dataset.label_names:
        return None, "traits are not read: the run's images do not have the labels of punks"
    if run.config.data.background != DataConfig().background:
        return None, "traits are not read: the sprite features know punks over the default background only"
    return network, f"traits are read by the sprite features, SHA-256 {network.sha256}"


def read_traits(network: Network, sprites: UInt8[np.ndarray, "n h w 3"]) -> Bool[np.ndarray, "n a"]:
    """Which labels the network of `load_traits` sees in each sprite: those of a positive logit."""
    return features.label_logits(network, sprites) > 0


def _batches(rows: np.ndarray) -> Iterator[tuple[jax.Array, int]]:
    return (_filled(rows[start : start + _BATCH]) for start in range(0, len(rows), _BATCH))


def _filled(batch: np.ndarray) -> tuple[jax.Array, int]:
    # Filled up, so that one shape compiles once.
    return jax.numpy.asarray(batch[np.resize(np.arange(len(batch)), _BATCH)]), len(batch)
