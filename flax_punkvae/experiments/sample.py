"""Sample characters and say which are new: `python -m flax_punkvae.experiments.sample RUN_DIR`."""

import json
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from flax_punkvae import console
from flax_punkvae.errors import UserError, run_program
from flax_punkvae.flags import parse
from flax_punkvae.opening import Opening, output_root
from flax_punkvae.trained.samplers import SamplerName

if TYPE_CHECKING:
    import numpy as np

    from flax_punkvae.trained.model import Model
    from flax_punkvae.trained.runs import OpenedRun, TrainingSprites
    from flax_punkvae.trained.samplers import Draws
    from flax_punkvae.trained.selection import Selected, Wanted
    from flax_punkvae.trained.traits import Reader

PROG = "python -m flax_punkvae.experiments.sample"
_COLUMNS = 8
# Number of images in grid.png and of rows in the printed table.
_PREVIEW = 96
# At most so often, a line says how many of the wanted samples were found.
_SECONDS = 10.0


@dataclass(frozen=True)
class Options(Opening):
    """Sample images from a trained run. Writes one PNG per image, grid.png with the first 96, and samples.json, which
    says whether each image is new and, if the training images are on this machine, which one is nearest."""

    run_dir: tyro.conf.Positional[Path]
    """Run directory, published folder or hub:OWNER/NAME[@REVISION]."""
    count: int = 24
    """Number of images. A larger number starts with the same images."""
    seed: int = 0
    """Seed of the latents and of the pixels' colours."""
    temperature: float = 1.0
    """Scale of the latents' standard deviation: below 1 gives more typical images, above 1 more varied ones."""
    how: Annotated[SamplerName, tyro.conf.arg(name="from")] = "prior"
    """Distribution of the latents. prior: the run's own. gaussian, mixture: one Gaussian or a mixture of Gaussians,
    fitted to the posteriors of the training images."""
    reencode: int | None = None
    """Number of times that each sample is decoded, encoded (posterior mean) and decoded again, which corrects pixels
    that do not fit. The default is 2 for categorical models, 0 for others."""
    snap: bool = False
    """Write sprites in the colours of the training palette instead of the model's images. Categorical models always
    do."""
    new: bool = False
    """Keep sampling until --count sprites, snapped to the palette, are distinct and none is a training sprite."""
    having: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(name="with")] = ()
    """Keep sampling until --count sprites have this label; repeat it for several labels, all of which they must have.
    Labels of CryptoPunks are read by a network that comes with this package; others by a reader that is learned from
    the training images, which have to be on this machine. The program says how well it reads."""
    lacking: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(name="without")] = ()
    """As --with, for a label that the sprites must not have."""
    limit: int | None = None
    """Largest number of samples to draw for --new, --with and --without. The default is 20 for each of --count and,
    with labels, at least 50,000."""
    output: Path | None = None
    """Output directory, new or empty. The default is samples/<from>-seed<seed>... in the run directory or, for a
    published model, in the working directory; numbered if it exists."""


def main(arguments: Sequence[str]) -> int:
    """Sample, write the files and print a table; the exit status is 0."""
    options = parse(Options, arguments, None, PROG)
    _validate(options)

    from flax_punkvae.devices import backend
    from flax_punkvae.trained import hub_models, runs
    from flax_punkvae.trained.selection import Wanted

    backend.prepare("auto")
    options = replace(options, run_dir=hub_models.local(options.run_dir))
    model = runs.open_model(options.run_dir, options)
    described = model.description
    for name, enabled in (("--snap", options.snap), ("--new", options.new)):
        if enabled and described.palette is None:
            raise UserError(f"{name}: this run was trained on images that are not sprites: leave {name} out")
    known, reason = runs.find_training_sprites(options.run_dir, model, options.data)

    @cache
    def run() -> "OpenedRun":
        return runs.with_images(options.run_dir, model, options.data)

    wanted = Wanted(options.new, options.having, options.lacking, options.limit)
    reader, note = _reader(model, wanted, run)
    draws, drawn = _draw(model, options, wanted, reader, run)
    facts = {
        "step": described.step,
        "checkpoint": model.checkpoint,
        "from": options.how,
        "seed": options.seed,
        "temperature": options.temperature,
        "reencode": model.default_reencode if options.reencode is None else options.reencode,
        "only_new": options.new,
        "with": options.having,
        "without": options.lacking,
        "drawn": drawn,
        "compared_with": f"{len(described.train_digests)} training images, {described.source}",
        "traits": note,
    }
    output = options.output or _new_directory(options)
    try:
        output.mkdir(parents=True, exist_ok=True)
        certificates = _write(output, model, known, reader, draws, options.snap)
        (output / "samples.json").write_text(
            json.dumps({**facts, "samples": certificates}, indent=2) + "\n", encoding="utf-8"
        )
    except OSError as error:
        raise UserError(f"{output} cannot be written ({error.strerror}): choose another --output") from error
    for line in model.notes:
        console.say(line)
    _print_table(facts, certificates)
    if reason:
        console.say(reason)
    console.say(f"written to {output}")
    return 0


def _validate(options: Options) -> None:
    """Raise UserError if a value is out of range or --output is not empty."""
    ranges = (
        ("count", options.count, 1, 10_000),
        ("seed", options.seed, 0, 2**31 - 1),
        ("reencode", options.reencode, 0, 100),
        ("limit", options.limit, 1, 10**9),
    )
    for name, value, low, high in ranges:
        if value is not None and not low <= value <= high:
            raise UserError(f"--{name}: {value} is out of range: choose a whole number from {low} to {high}")
    if not (math.isfinite(options.temperature) and 0 <= options.temperature <= 100):
        raise UserError(f"--temperature: {options.temperature} is out of range: choose a number from 0 to 100")
    output = options.output
    if output and output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise UserError(f"{output} is not empty: choose a new or empty directory for --output")


def _new_directory(options: Options) -> Path:
    """Create a new directory in the run directory, named after the options, and return it.

    Raises UserError if it cannot be created.
    """
    from flax_punkvae.training import run_directory

    name = f"{options.how}-seed{options.seed}"
    if options.temperature != 1:
        name += f"-temperature{options.temperature:g}"
    if options.reencode is not None:
        name += f"-reencode{options.reencode}"
    name += "".join(f"-with-{x}" for x in options.having) + "".join(f"-without-{x}" for x in options.lacking)
    name = re.sub(r"[^\w.-]", "-", name) + "-new" * options.new + "-snapped" * options.snap
    root = output_root(options.run_dir)
    run_directory.inside(root, root / "samples")
    return run_directory.free_name(root / "samples" / name)


def _reader(model: "Model", wanted: "Wanted", run: "Callable[[], OpenedRun]") -> "tuple[Reader | None, str]":
    """What reads the traits of samples, if anything, and a line about it.

    Labels other than those of punks are read only if they are wanted, since that takes the training images and seconds.
    Raises UserError if such images are not at hand or a label is unknown.
    """
    from flax_punkvae.trained import probing, selection, traits

    reader, note = traits.shipped(model.description)
    if reader is None and wanted.labels:
        selection.check(wanted, model.description)
        try:
            images = run()
        except UserError as error:
            raise UserError(
                "a reader of these labels is learned from the training images, which were not found: add --data.source "
                f"({error})"
            ) from error
        reader = probing.fit(images, wanted.labels)
        note = reader.note
    elif reader is None and model.description.label_names:
        note += "; --with and --without learn to read the labels that they name"
    return reader, note


def _draw(
    model: "Model", options: Options, wanted: "Wanted", reader: "Reader | None", run: "Callable[[], OpenedRun]"
) -> "Selected":
    """The draws to decode. Raises UserError if there are not enough of those that are wanted."""

    def posteriors() -> "tuple[np.ndarray, np.ndarray]":
        opened = run()
        return opened.encode(opened.train_indices)

    said = time.monotonic()

    def report(kept: int, drawn: int) -> None:
        nonlocal said
        if time.monotonic() - said > _SECONDS:
            console.say(f"drew {drawn} samples, kept {kept} of {options.count}")
            said = time.monotonic()

    arguments = (options.how, options.count, options.seed, options.temperature, posteriors, options.reencode)
    found = model.select(wanted, *arguments, report, reader=reader)
    if len(found.draws.latents) < options.count:
        conditions = (("--new", options.new), ("--with", options.having), ("--without", options.lacking))
        given = ", ".join(flag for flag, value in conditions if value)
        raise UserError(
            f"{given}: found only {len(found.draws.latents)} of {options.count} {wanted.described} in {found.drawn} "
            "draws: lower --count, raise --limit or --temperature, or leave out a condition"
        )
    return found


def _write(
    output: Path,
    model: "Model",
    known: "TrainingSprites | None",
    reader: "Reader | None",
    draws: "Draws",
    snap: bool,
) -> list[dict[str, Any]]:
    """Decode the draws, write the images and the grid, and return the certificates.

    Works in chunks, so that memory does not grow with the number of images.
    """
    import numpy as np

    from flax_punkvae import images
    from flax_punkvae.trained import certificates, samplers

    written, in_grid = [], []
    for first in range(0, len(draws.latents), samplers.CHUNK):
        decoded = model.decode(*(values[first : first + samplers.CHUNK] for values in draws))
        sprites = model.to_sprites(decoded)
        found = certificates.certify(model, known, reader, decoded, sprites)
        for number, (certificate, image) in enumerate(zip(found, sprites if snap else decoded, strict=True), first):
            name = f"{number:04d}.png"
            images.save_png(image, output / name)
            written.append({"file": name, **certificate})
            if number < _PREVIEW:
                in_grid.append(image)
    large = images.enlarge(np.stack(in_grid), max(256 // max(in_grid[0].shape[:2]), 1))
    images.save_png(images.grid(large, min(_COLUMNS, len(large)), gap=8), output / "grid.png")
    return written


def _print_table(facts: dict[str, Any], certificates: list[dict[str, Any]]) -> None:
    from rich.table import Table

    first = certificates[0]
    columns = {"image": lambda row: row["file"], "new": lambda row: "new" if row["new"] else "not new"}
    if "nearest" in first:
        columns["nearest"] = lambda row: f"#{row['nearest']}"
    if "pixels_differ" in first:
        columns["differing pixels"] = lambda row: f"{row['pixels_differ']} of {row['of_pixels']}"
    if "rms_distance" in first:
        columns["RMS distance (0-255)"] = lambda row: f"{row['rms_distance']:.2f}"
    if "rgb_distance_to_sprite" in first:
        columns["RGB distance to its sprite"] = lambda row: "mean {mean:.1f}, max {max:.0f}".format(
            **row["rgb_distance_to_sprite"]
        )
    columns["traits"] = lambda row: ", ".join(row["traits"]) if "traits" in row else "not read"
    table = Table(*columns)
    for row in certificates[:_PREVIEW]:
        table.add_row(*(cell(row) for cell in columns.values()))
    console.show(table)
    if len(certificates) > _PREVIEW:
        console.say(f"the grid and this table show the first {_PREVIEW} of {len(certificates)}; samples.json lists all")
    if facts["with"] or facts["without"] or facts["only_new"]:
        drawn, kept = facts["drawn"], len(certificates)
        console.say(f"drew {drawn} samples to keep {kept}, {drawn / kept:.1f} for each")
    new = sum(row["new"] for row in certificates)
    console.say(f"new: {new} of {len(certificates)}, compared with {facts['compared_with']}")
    console.say(facts["traits"])


if __name__ == "__main__":
    run_program(main)
