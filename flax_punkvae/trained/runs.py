"""Opening a run: its trained Model and, if needed, its images. Nothing in the run is changed."""

import difflib
import re
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int, UInt8

from flax_punkvae import data
from flax_punkvae.config import Config
from flax_punkvae.data import Dataset
from flax_punkvae.errors import UserError
from flax_punkvae.opening import Images, Opening, is_published
from flax_punkvae.trained import hub_models, published
from flax_punkvae.trained.model import Model
from flax_punkvae.training import checkpoints, retention, run_directory
from flax_punkvae.training.description import Description, describe, digests


class OpenedRun(NamedTuple):
    """A run's Model together with the run's images and split."""

    model: Model
    config: Config
    dataset: Dataset
    train_indices: Int[np.ndarray, "train"]
    validation_indices: Int[np.ndarray, "validation"]
    test_indices: Int[np.ndarray, "test"]

    def number(self, image: str) -> int:
        """The id of an image that is given as a number or by its file name, with or without the folders it is in.

        Raises UserError if no file, or more than one, has this name.
        """
        if re.fullmatch("[0-9]{1,18}", image, re.ASCII):
            return int(image)
        names = self.dataset.files
        if not names and (numbers := re.findall("[0-9]{1,15}", PurePath(image).stem, re.ASCII)):
            # The ids are the last numbers in the file names.
            return int(numbers[-1])
        found = [place for place, name in enumerate(names) if name == image or name.endswith(f"/{image}")]
        exact = [place for place in found if names[place] == image]
        if len(exact or found) != 1:
            several = f", {names[found[0]]} and {names[found[1]]} for example" if found else ""
            near = difflib.get_close_matches(image, names, n=1, cutoff=0.0)
            instead = "give the folder too" if found else f"perhaps you meant {near[0]}" if near else "give a number"
            raise UserError(f"{len(found) or 'no'} images of the run have the name {image!r}{several}: {instead}")
        return int(self.dataset.ids[(exact or found)[0]])

    def position(self, number: int) -> int:
        """Position of the image with this id. Raises UserError, naming the nearest id, if there is none."""
        ids = self.dataset.ids
        if not ids.min() <= number <= ids.max() or number not in ids:
            nearest = min(ids.tolist(), key=lambda other: abs(other - number))
            raise UserError(
                f"there is no image {number}: numbers run from {ids.min()} to {ids.max()}, and the nearest is {nearest}"
            )
        return int(np.flatnonzero(ids == number)[0])

    def encode(self, positions: Int[np.ndarray, "n"]) -> tuple[np.ndarray, np.ndarray]:
        """(mean, logvar), each [n d], of the posteriors of the images at these positions."""
        return self.model.encode_pixels(self.dataset.images[positions])


class TrainingSprites(NamedTuple):
    """The sprites that a model was trained on (or images, if they are not sprites), in RGB, and their ids."""

    sprites: UInt8[np.ndarray, "n h w c"]
    ids: Int[np.ndarray, "n"]


def load(where: str | Path, checkpoint: str | int | None = None) -> Model:
    """Open the trained model of a run directory, of a published folder or of hub:OWNER/NAME[@REVISION].

    `checkpoint` is last, best or a step; None means best for runs with validation images and last for others. Needs no
    images, except if the checkpoint is from an older version and holds no description of the model; `notes` then says
    so. Raises UserError if there is no run, no such checkpoint or no intact one.
    """
    opening = Opening(checkpoint=None if checkpoint is None else str(checkpoint))
    return open_model(hub_models.local(where), opening)


def open_model(directory: Path, opening: Opening) -> Model:
    """`load`, with a program's flags."""
    return _open(directory, opening)[0]


def open_run(directory: Path, opening: Opening | None = None) -> OpenedRun:
    """Open a run together with its images.

    Raises UserError as `load` does, or if the images cannot be found or differ from those of the run.
    """
    opening = opening or Opening()
    model, dataset = _open(directory, opening)
    return with_images(directory, model, opening.data, dataset)


def with_images(directory: Path, model: Model, moved: Images, dataset: Dataset | None = None) -> OpenedRun:
    """A model of this run together with the run's images, which are loaded unless they are given.

    Raises UserError if the images cannot be found or differ from those of the run.
    """
    config = _config(directory, moved)
    dataset = dataset or _load_images(directory, config)
    return OpenedRun(model, config, dataset, *dataset.parts(config.data))


def read_config(directory: Path) -> Config:
    """The config of a run, or of the run that a published model comes from. Raises UserError if there is none."""
    return (published if is_published(directory) else run_directory).read_config(directory)


def is_local(directory: Path, moved: Images) -> bool:
    """Whether the run's images can be looked for without the network, or the user has named their location."""
    return moved.source is not None or data.is_local(_config(directory, moved).data.source)


def find_training_sprites(directory: Path, model: Model, moved: Images) -> tuple[TrainingSprites | None, str]:
    """The sprites that a model was trained on, or None if they are not on this machine, and then a line that says why.

    Raises UserError if `moved` names their location and they are not there.
    """
    config = _config(directory, moved)
    source = config.data.source
    if not is_local(directory, moved):
        where = f"hub:{data.hub.CRYPTOPUNKS}" if source == "auto" else source
        return None, f"the nearest training images were not looked up: add --data.source {where} to fetch them"
    try:
        sprites, ids = data.load_sprites(config.data)
        trained_on = model.description.train_indices
        same = trained_on.max() < len(sprites) and np.array_equal(
            digests(sprites[trained_on]), model.description.train_digests
        )
        if not same:
            raise UserError(f"{source} does not hold the images that {directory} was trained on")
    except UserError as error:
        if moved.source is not None:
            raise
        return None, f"the nearest training images were not looked up ({error}): add --data.source"
    return TrainingSprites(sprites[trained_on], ids[trained_on]), ""


def _open(directory: Path, opening: Opening) -> tuple[Model, Dataset | None]:
    """The model and, if they were needed to open it, the images."""
    if is_published(directory):
        return _open_published(directory, opening), None
    config = _config(directory, opening.data)
    which = _which(config, opening.checkpoint)
    if not retention.steps(directory / "checkpoints"):
        raise UserError(f"{directory} has no checkpoint yet: let it finish an epoch")
    saved = checkpoints.read(directory / "checkpoints", which)
    if saved is None:
        raise UserError(f"{directory} has no complete checkpoint yet: let it finish an epoch")
    described, dataset = saved.description, None
    notes = [f"skipped damaged checkpoint {text}" for text in saved.damaged]
    if described is None:
        if config.data.render == "indices":
            raise UserError(f"{directory} was trained with an older version, whose decoder was another: train it again")
        try:
            dataset = _load_images(directory, config)
        except UserError as error:
            raise UserError(
                f"{directory}: the checkpoint holds no description of the model (older version), so its training "
                f"images are needed: {error}"
            ) from error
        described = _describe_old(config, dataset, saved)
        notes.append("opened with its training images, since the checkpoint holds no description of the model")
    selected = which if isinstance(which, str) else "as requested"
    notes.append(f"checkpoint: step {described.step} ({selected})")
    return Model(described, jax.device_put(saved.params), selected, tuple(notes)), dataset


def _open_published(directory: Path, opening: Opening) -> Model:
    if opening.checkpoint is not None:
        raise UserError(f"{directory} is a published model, which has one checkpoint: leave --checkpoint out")
    found = published.read(directory)
    note = f"published model: step {found.description.step} ({found.facts.get('checkpoint')})"
    return Model(found.description, jax.device_put(found.params), str(found.facts.get("checkpoint")), (note,))


def _describe_old(config: Config, dataset: Dataset, saved: checkpoints.Saved) -> Description:
    described = describe(config, dataset, dataset.parts(config.data), None)
    return described.at(saved.step, checkpoints.digest(saved.params))


def _config(directory: Path, moved: Images) -> Config:
    """The run's config, with the current location of its images."""
    config = read_config(directory)
    changes: dict[str, Any] = {name: value for name, value in vars(moved).items() if value is not None}
    return replace(config, data=replace(config.data, **changes))


def _load_images(directory: Path, config: Config) -> Dataset:
    dataset = data.load(config.data)
    if is_published(directory):
        facts = published.read_facts(directory)
        expected = {"sha256": facts["images_sha256"], "source": facts["source"]}
        run_directory.check_images(directory, dataset.provenance(), expected, dataset.images.sha256)
    else:
        run_directory.check_same_data(directory, dataset.provenance(), dataset.images.sha256)
    return dataset


def _which(config: Config, checkpoint: str | None) -> retention.Which:
    validated = config.data.validation_fraction > 0
    if checkpoint is None:
        return "best" if validated else "last"
    if checkpoint == "best" and not validated:
        raise UserError(
            "--checkpoint best: the run has no validation images (data.validation_fraction is 0), so no checkpoint is "
            "the best: use last or a step number"
        )
    if checkpoint == "last" or checkpoint == "best":
        return checkpoint
    if not re.fullmatch("[0-9]{1,18}", checkpoint, re.ASCII):
        raise UserError(f"--checkpoint: {checkpoint!r} is not valid: use last, best or a step number")
    return int(checkpoint)
