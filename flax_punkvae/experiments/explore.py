"""Explore the latent space: `python -m flax_punkvae.experiments.explore RUN_DIR reconstruct|interpolate|...`."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from flax_punkvae import console
from flax_punkvae.errors import UserError, run_program
from flax_punkvae.flags import parse
from flax_punkvae.opening import Opening, output_root

if TYPE_CHECKING:
    from flax_punkvae.trained.runs import OpenedRun
    from flax_punkvae.trained.sheets import Sheet

PROG = "python -m flax_punkvae.experiments.explore"
_SCALE = 2
_MOST_COLUMNS = 32
_MOST_COMPLETIONS = 256


@dataclass(frozen=True, kw_only=True)
class Common(Opening):
    """Flags of every command."""

    output: Path | None = None
    """PNG to write. The default is explore/<command>-<arguments>.png in the run directory or, for a published model, in
    the working directory."""


@dataclass(frozen=True)
class Reconstruct(Common):
    """Show images, their reconstructions and, for a Gaussian likelihood, these snapped to the palette."""

    images: tyro.conf.Positional[tuple[str, ...]] = ()
    """Numbers or file names of the images."""


@dataclass(frozen=True)
class Interpolate(Common):
    """Interpolate between two images: linearly (top row) and spherically (bottom row)."""

    first: tyro.conf.Positional[str]
    """Number or file name of the first image."""
    second: tyro.conf.Positional[str]
    """Number or file name of the last image."""
    steps: int = 8
    """Number of interpolated images, both ends included."""


@dataclass(frozen=True)
class Traverse(Common):
    """Vary one latent per row, starting with the highest KL on held-out images, from -3 to 3 standard deviations of the
    normal prior or, if the prior is learned, of the training posteriors."""

    image: tyro.conf.Positional[str]
    """Number or file name of the image that supplies all other latents."""
    top: int = 8
    """Number of latents to vary."""


@dataclass(frozen=True)
class Edit(Common):
    """Add and remove labels along their latent directions, and measure the effect on held-out images (also as JSON)."""

    image: tyro.conf.Positional[str]
    """Number or file name of the image to edit."""
    add: tuple[str, ...] = ()
    """Labels to add."""
    remove: tuple[str, ...] = ()
    """Labels to remove."""
    measured: int = 200
    """Measure the effect on at most this many held-out images that lack the added labels and have the removed ones."""


@dataclass(frozen=True)
class Complete(Common):
    """Fill in the unknown pixels of a sprite in several ways, by alternating encoding and decoding with the known
    pixels held. Needs no training images."""

    sprite: tyro.conf.Positional[Path]
    """Image of one sprite, of the size of the run's. Without --keep, its fully transparent pixels are unknown."""
    keep: Path | None = None
    """Image of the same size: its white pixels are known, its black or transparent ones unknown. Pixels of the sprite
    that are to stay transparent need it."""
    count: int = 8
    """Number of completions."""
    seed: int = 0
    """Seed of the completions."""
    steps: int = 30
    """Number of times that each is encoded and decoded."""


@dataclass(frozen=True)
class Decode(Common):
    """Write the picture of a recipe, which the page shows beside each sprite: the same file that the page saves. Needs
    no training images."""

    recipe: tyro.conf.Positional[str]
    """Recipe, copied from the page."""
    scale: int = 1
    """Number of pixels, across and down, for each pixel of the picture."""
    snap: bool = False
    """Write the sprite in the colours of the training palette instead of the model's image."""
    transparent: bool = False
    """Make the background transparent. Sprites that are transparent themselves need no such flag."""


@dataclass(frozen=True)
class Options:
    """Reconstruct, interpolate, traverse, edit or complete images of a trained run; writes one PNG."""

    run_dir: tyro.conf.Positional[Path]
    """Run directory, published folder or hub:OWNER/NAME[@REVISION]."""
    command: Annotated[
        Reconstruct | Interpolate | Traverse | Edit | Complete | Decode, tyro.conf.OmitSubcommandPrefixes
    ]


def main(arguments: Sequence[str]) -> int:
    """Write one sheet; the exit status is 0."""
    options = parse(Options, arguments, None, PROG)
    output = _validate(options)

    from flax_punkvae.devices import backend
    from flax_punkvae.trained import hub_models, recipes, runs, sheets

    backend.prepare("auto")
    options = replace(options, run_dir=hub_models.local(options.run_dir))
    command = options.command
    if isinstance(command, Decode):
        model = runs.open_model(options.run_dir, command)
        recipe = recipes.parse(command.recipe, model.description)
        content = recipes.png(model, recipe, command.scale, command.snap, command.transparent)
        _write(options, {output: content})
        for line in (*model.notes, f"written to {output}"):
            console.say(line)
        return 0
    if isinstance(command, Complete):
        model = runs.open_model(options.run_dir, command)
        pixels = sheets.read_incomplete(model, command.sprite, command.keep)
        sheet = sheets.complete(model, *pixels, command.count, command.seed, command.steps)
    else:
        run = runs.open_run(options.run_dir, command)
        model, sheet = run.model, _sheet(run, command)
    written = {output: _png(sheet)}
    if sheet.facts:
        written[output.with_suffix(".json")] = (json.dumps(sheet.facts, indent=2) + "\n").encode()
    _write(options, written)
    for line in model.notes:
        console.say(line)
    if sheet.table:
        from rich.table import Table

        columns, rows = sheet.table
        table = Table(*columns)
        for row in rows:
            table.add_row(*row)
        console.show(table)
    for line in sheet.lines:
        console.say(line)
    console.say(f"written to {' and '.join(map(str, written))}")
    return 0


def _png(sheet: "Sheet") -> bytes:
    from flax_punkvae import images

    tiles = images.enlarge(images.enlarge_for_viewing(sheet.tiles), _SCALE)
    return images.to_png(images.grid(tiles, sheet.columns, gap=2 * _SCALE))


def _write(options: Options, files: dict[Path, bytes]) -> None:
    """Write the files. Raises UserError if one cannot be written."""
    from flax_punkvae.training import run_directory

    for path, content in files.items():
        if options.command.output is None:
            run_directory.inside(output_root(options.run_dir), path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror}): choose another --output") from error


def _sheet(run: "OpenedRun", command: Reconstruct | Interpolate | Traverse | Edit) -> "Sheet":
    from flax_punkvae.trained import sheets

    if isinstance(command, Reconstruct):
        return sheets.reconstruct(run, [run.number(image) for image in command.images])
    if isinstance(command, Interpolate):
        return sheets.interpolate(run, run.number(command.first), run.number(command.second), command.steps)
    if isinstance(command, Traverse):
        return sheets.traverse(run, run.number(command.image), command.top)
    return sheets.edit(run, run.number(command.image), command.add, command.remove, command.measured)


def _validate(options: Options) -> Path:
    """The file to write. Raises UserError."""
    command = options.command
    if isinstance(command, Reconstruct):
        if not 1 <= len(command.images) <= _MOST_COLUMNS:
            raise UserError(f"reconstruct: {len(command.images)} images given: give 1 to {_MOST_COLUMNS}")
        words = command.images
    elif isinstance(command, Interpolate):
        _check_range("steps", command.steps, 2, _MOST_COLUMNS)
        words = (command.first, command.second, f"steps{command.steps}")
    elif isinstance(command, Traverse):
        _check_range("top", command.top, 1, 256)
        words = (command.image, f"top{command.top}")
    elif isinstance(command, Complete):
        _check_range("count", command.count, 1, _MOST_COMPLETIONS)
        _check_range("seed", command.seed, 0, 2**31 - 1)
        _check_range("steps", command.steps, 0, 10_000)
        words = (command.sprite.stem, f"seed{command.seed}")
    elif isinstance(command, Decode):
        _check_range("scale", command.scale, 1, 32)
        # A recipe is too long for a file name.
        digest = hashlib.sha256(command.recipe.encode()).hexdigest()[:12]
        words = (digest, f"scale{command.scale}", *["snap"] * command.snap, *["transparent"] * command.transparent)
    else:
        if not command.add and not command.remove:
            raise UserError("edit: nothing to do: name a label with --add or --remove")
        _check_range("measured", command.measured, 1, 100_000)
        words = (command.image, *(f"add-{x}" for x in command.add), *(f"remove-{x}" for x in command.remove))
    name = "-".join(map(str, (type(command).__name__.lower(), *words)))
    output = command.output or output_root(options.run_dir) / "explore" / (re.sub(r"[^\w.-]", "-", name) + ".png")
    if output.suffix != ".png" or output.is_dir():
        raise UserError(f"--output: {output} is not a PNG file name: choose a name that ends in .png")
    return output


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UserError(f"--{name}: {value} is out of range: choose a whole number from {low} to {high}")


if __name__ == "__main__":
    run_program(main)
