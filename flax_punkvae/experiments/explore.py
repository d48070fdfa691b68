"""Explore the latent space: `python -m flax_punkvae.experiments.explore RUN_DIR reconstruct|interpolate|...`."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import tyro

from flax_punkvae import console
from flax_punkvae.errors import UserError, run_program
from flax_punkvae.flags import parse
from flax_punkvae.opening import Opening

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

    from flax_punkvae.trained.runs import OpenedRun

PROG = "python -m flax_punkvae.experiments.explore"
_SCALE = 2
_VALUES = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
_STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
_MOST_COLUMNS = 32
# Of a sheet, 8,324 pixels; the printed table has all.
_MOST_ROWS = 32


@dataclass(frozen=True, kw_only=True)
class Common(Opening):
    """Flags of every command."""

    output: Path | None = None
    """PNG to write; RUN_DIR/explore/<command>-<arguments>.png by default."""


@dataclass(frozen=True)
class Reconstruct(Common):
    """Show images, their reconstructions and, except for a categorical likelihood, these snapped to the palette."""

    numbers: tyro.conf.Positional[tuple[int, ...]] = ()
    """Numbers of the images."""


@dataclass(frozen=True)
class Interpolate(Common):
    """Interpolate between two images: linearly (top row) and spherically (bottom row)."""

    first: tyro.conf.Positional[int]
    """Number of the first image."""
    second: tyro.conf.Positional[int]
    """Number of the last image."""
    steps: int = 8
    """Number of interpolated images, both ends included."""


@dataclass(frozen=True)
class Traverse(Common):
    """Vary one latent per row, starting with the highest KL on held-out images, from -3 to 3 standard deviations: of
    N(0, I) for a normal prior, otherwise of the posteriors of the training images."""

    number: tyro.conf.Positional[int]
    """Number of the image that supplies all other latents."""
    top: int = 8
    """Number of latents to vary."""


@dataclass(frozen=True)
class Edit(Common):
    """Add and remove labels along their latent directions, and measure the effect on held-out images (also as JSON)."""

    number: tyro.conf.Positional[int]
    """Number of the image to edit."""
    add: tuple[str, ...] = ()
    """Labels to add."""
    remove: tuple[str, ...] = ()
    """Labels to remove."""
    measured: int = 200
    """Measure at most this many held-out images, chosen from those that lack the added and have the removed labels."""


@dataclass(frozen=True)
class Options:
    """Reconstruct, interpolate, traverse or edit images of a trained run; writes one PNG."""

    run_dir: tyro.conf.Positional[Path]
    """Run directory."""
    command: Annotated[Reconstruct | Interpolate | Traverse | Edit, tyro.conf.OmitSubcommandPrefixes]


class Sheet(NamedTuple):
    """What a command draws (row by row) and prints, and the facts for a JSON file next to the PNG."""

    tiles: "np.ndarray"
    columns: int
    lines: "list[str | Table]"
    facts: dict[str, Any] | None = None


def main(arguments: Sequence[str]) -> int:
    """Draw one sheet; the exit status is 0."""
    options = parse(Options, arguments, None, PROG)
    output = _validate(options)

    from flax_punkvae import images
    from flax_punkvae.devices import backend
    from flax_punkvae.trained import runs
    from flax_punkvae.training import run_directory

    backend.prepare("auto")
    run = runs.open_run(options.run_dir, options.command)
    command = options.command
    if isinstance(command, Reconstruct):
        sheet = _reconstruct(run, command)
    elif isinstance(command, Interpolate):
        sheet = _interpolate(run, command)
    elif isinstance(command, Traverse):
        sheet = _traverse(run, command)
    else:
        sheet = _edit(run, command)
    facts = output.with_suffix(".json")
    written = [output, facts] if sheet.facts else [output]
    if command.output is None:
        for path in written:
            run_directory.inside(options.run_dir, path)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        tiles = images.enlarge(images.enlarge_for_viewing(sheet.tiles), _SCALE)
        images.save_png(images.grid(tiles, sheet.columns, gap=2 * _SCALE), output)
        if sheet.facts:
            facts.write_text(json.dumps(sheet.facts, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{output} cannot be written ({error.strerror}): choose another --output") from error
    for line in run.model.notes:
        console.say(line)
    for part in sheet.lines:
        if isinstance(part, str):
            console.say(part)
        else:
            console.show(part)
    console.say(f"written to {' and '.join(map(str, written))}")
    return 0


def _validate(options: Options) -> Path:
    """The file to write. Raises UserError."""
    command = options.command
    if isinstance(command, Reconstruct):
        if not 1 <= len(command.numbers) <= _MOST_COLUMNS:
            raise UserError(f"reconstruct: {len(command.numbers)} image numbers given: give 1 to {_MOST_COLUMNS}")
        words = command.numbers
    elif isinstance(command, Interpolate):
        _check_range("steps", command.steps, 2, _MOST_COLUMNS)
        words = (command.first, command.second, f"steps{command.steps}")
    elif isinstance(command, Traverse):
        _check_range("top", command.top, 1, 256)
        words = (command.number, f"top{command.top}")
    else:
        if not command.add and not command.remove:
            raise UserError("edit: nothing to do: name a label with --add or --remove")
        _check_range("measured", command.measured, 1, 100_000)
        words = (command.number, *(f"add-{x}" for x in command.add), *(f"remove-{x}" for x in command.remove))
    name = "-".join(map(str, (type(command).__name__.lower(), *words)))
    output = command.output or options.run_dir / "explore" / (re.sub(r"[^\w.-]", "-", name) + ".png")
    if output.suffix != ".png" or output.is_dir():
        raise UserError(f"--output: {output} is not a PNG file name: choose a name that ends in .png")
    return output


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UserError(f"--{name}: {value} is out of range: choose a whole number from {low} to {high}")


def _encode(run: "OpenedRun", *numbers: int) -> tuple["np.ndarray", "np.ndarray", list[str]]:
    """The images with these numbers, their posterior means, and lines that say which of them were trained on."""
    import numpy as np

    positions = [run.position(number) for number in numbers]
    lines = [
        f"#{number}: {'held out' if position in run.test_indices else 'trained on'}"
        for number, position in zip(numbers, positions, strict=True)
    ]
    return run.dataset.pictures(np.array(positions)), run.encode(np.array(positions))[0], lines


def _reconstruct(run: "OpenedRun", command: Reconstruct) -> Sheet:
    import numpy as np

    originals, means, lines = _encode(run, *command.numbers)
    decoded = run.model.decode(means)
    rows = [originals, decoded]
    named = "rows: originals, reconstructions"
    if run.dataset.sprites is not None and run.dataset.palette is None:
        rows.append(_snapped(run, decoded))
        named += ", reconstructions snapped to sprites and the palette"
    return Sheet(np.concatenate(rows), len(originals), [*lines, named])


def _interpolate(run: "OpenedRun", command: Interpolate) -> Sheet:
    import numpy as np

    from flax_punkvae.trained import latents

    originals, (a, b), lines = _encode(run, command.first, command.second)
    ways = [walk(a, b, command.steps) for walk in (latents.interpolate, latents.slerp)]
    rows = [run.model.decode(way) for way in ways]
    tiles = np.concatenate([x for row in rows for x in (originals[:1], row, originals[1:])])
    named = "rows: linear, spherical; first and last column: the originals"
    return Sheet(tiles, command.steps + 2, [*lines, named])


def _traverse(run: "OpenedRun", command: Traverse) -> Sheet:
    import numpy as np
    from rich.table import Table

    from flax_punkvae.trained import latents

    _, (z,), lines = _encode(run, command.number)
    kl = run.model.kl_per_latent(run.dataset.images[run.test_indices], seed=0)
    order = np.argsort(-kl, kind="stable")[: command.top]
    unit, centre, deviation = "", np.zeros(len(z)), np.ones(len(z))
    if not run.model.module.prior.is_standard:
        unit = " deviations of the training posteriors from their mean"
        centre, covariance = latents.aggregate(*run.encode(run.train_indices))
        deviation = np.sqrt(np.diag(covariance))
    set_to = (centre[:, None] + deviation[:, None] * np.array(_VALUES)).astype(z.dtype)
    path = np.concatenate([latents.traverse(z, latent, set_to[latent]) for latent in order[:_MOST_ROWS].tolist()])
    table = Table("row", "latent", "KL in nats, held out", f"value of #{command.number}")
    for row, latent in enumerate(order, 1):
        table.add_row(str(row), str(latent), f"{kl[latent]:.3f}", f"{z[latent]:+.2f}")
    columns = f"columns: the latent set to {', '.join(f'{value:g}' for value in _VALUES)}{unit}"
    rows = f"these rows: {kl[order].sum():.1f} of {kl.sum():.1f} nats"
    if len(order) > _MOST_ROWS:
        rows += f"; the sheet shows the first {_MOST_ROWS}"
    return Sheet(run.model.decode(path), len(_VALUES), [*lines, table, columns, rows])


def _edit(run: "OpenedRun", command: Edit) -> Sheet:
    import numpy as np

    from flax_punkvae.trained import editing, traits

    add, remove = ([run.label(name) for name in names] for names in (command.add, command.remove))
    network, note = traits.load_network(run.model.description)
    if network is None:
        raise UserError(f"edit: works only on runs trained on punks at 24x24 ({note}): choose another run")
    measured = editing.eligible(run, add, remove)[: command.measured]
    original, (z,), lines = _encode(run, command.number)
    shift = editing.shift(run, add, remove)
    facts = {
        "step": run.model.description.step,
        "checkpoint": run.model.checkpoint,
        "number": command.number,
        "add": list(command.add),
        "remove": list(command.remove),
        "held_out_images_measured": len(measured),
        "traits": note,
        "by_strength": editing.measure(run, network, measured, shift, add, remove, _STRENGTHS),
    }
    named = "columns: the original, then each strength"
    edited = run.model.decode(np.stack([z + np.float32(strength) * shift for strength in _STRENGTHS]))
    rows = [original, edited]
    if run.dataset.palette is None:
        rows += [original, _snapped(run, edited)]
        named += "; rows: as decoded, snapped to sprites and the palette"
    return Sheet(np.concatenate(rows), len(_STRENGTHS) + 1, [*lines, *_effects(facts), named], facts)


def _snapped(run: "OpenedRun", decoded: "np.ndarray") -> "np.ndarray":
    """The model's images snapped to sprites in the training palette, rendered again."""
    from flax_punkvae import images

    return images.render(run.model.to_sprites(decoded), run.config.data.render)


def _effects(facts: dict[str, Any]) -> "list[str | Table]":
    from rich.table import Table

    table = Table("strength", "succeeds", "other traits changed", "changed most")
    for row in facts["by_strength"]:
        most = ", ".join(f"{name} {share:+.0%}" for name, share in row["changed_most"].items())
        table.add_row(f"{row['strength']:g}", f"{row['succeeds']:.0%}", f"{row['others_changed']:.2f} an image", most)
    measured = f"measured on {facts['held_out_images_measured']} held-out images; strength 0: reconstructed only"
    return [table, measured, facts["traits"]]


if __name__ == "__main__":
    run_program(main)
