"""Draw characters: `python -m flax_punkvae.experiments.sample RUN_DIR`; for each, the nearest training image."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from flax_punkvae import console
from flax_punkvae.errors import UserError, run_program
from flax_punkvae.flags import parse
from flax_punkvae.opening import Opening
from flax_punkvae.trained.samplers import SamplerName

if TYPE_CHECKING:
    import numpy as np

    from flax_punkvae.measures.features import Network
    from flax_punkvae.trained.model import Trained

PROG = "python -m flax_punkvae.experiments.sample"
_COLUMNS = 8
# Images in grid.png, and rows of the printed table.
_SHOWN = 96


@dataclass(frozen=True)
class Options(Opening):
    """Draw images from a trained run: one PNG per image, grid.png with the first 96, and samples.json with the nearest
    training image of each."""

    run_dir: tyro.conf.Positional[Path]
    """Run directory."""
    count: int = 24
    """Number of images. A larger number starts with the same images."""
    seed: int = 0
    """Seed of the latents."""
    temperature: float = 1.0
    """Scale of the latents' standard deviation: below 1 gives more typical images, above 1 more varied ones."""
    how: Annotated[SamplerName, tyro.conf.arg(name="from")] = "prior"
    """Distribution of the latents. prior: the run's own. gaussian, mixture: one Gaussian or a mixture of Gaussians,
    fitted to the posteriors of the training images."""
    snap: bool = False
    """Write sprites in the colours of the training palette instead of the model's images. A categorical model always
    does."""
    new: bool = False
    """Keep drawing until --count sprites, snapped to the palette, are distinct and none is a training sprite."""
    output: Path | None = None
    """Output directory, new or empty. The default is RUN_DIR/samples/<from>-seed<seed>..., numbered if it exists."""


def main(arguments: Sequence[str]) -> int:
    """Sample, write the files and print a table; the exit status is 0."""
    options = parse(Options, arguments, None, PROG)
    _validate(options)

    from flax_punkvae.devices import backend
    from flax_punkvae.trained import model as trained

    backend.prepare("auto")
    run = trained.open_run(options.run_dir, options)
    for name, asked in (("--snap", options.snap), ("--new", options.new)):
        if asked and run.dataset.sprites is None:
            raise UserError(f"{name}: this run was trained on images that are not sprites: leave {name} out")
    network, note = trained.load_traits(run)
    pick = trained.sample_new if options.new else trained.sample
    z = pick(run, options.how, options.count, options.seed, options.temperature)
    if len(z) < options.count:
        raise UserError(
            f"--new: found only {len(z)} of {options.count} new and distinct sprites in {20 * options.count} draws: "
            "raise --temperature, or leave out --new"
        )
    facts = {
        "step": int(run.state.step),
        "checkpoint": run.checkpoint,
        "from": options.how,
        "seed": options.seed,
        "temperature": options.temperature,
        "only_new": options.new,
        "compared_with": f"{len(run.train_indices)} training images, {run.dataset.source}",
        "traits": note,
    }
    output = options.output or _free(options)
    try:
        output.mkdir(parents=True, exist_ok=True)
        certificates = _write(output, run, network, z, options.snap)
        (output / "samples.json").write_text(
            json.dumps({**facts, "samples": certificates}, indent=2) + "\n", encoding="utf-8"
        )
    except OSError as error:
        raise UserError(f"{output} cannot be written ({error.strerror}): choose another --output") from error
    for line in run.opened():
        console.say(line)
    _print_table(facts, certificates)
    console.say(f"written to {output}")
    return 0


def _validate(options: Options) -> None:
    """Raise UserError if a value is out of range or --output is not empty."""
    for name, value, low, high in (("count", options.count, 1, 10_000), ("seed", options.seed, 0, 2**31 - 1)):
        if not low <= value <= high:
            raise UserError(f"--{name}: {value} is out of range: choose a whole number from {low} to {high}")
    if not (math.isfinite(options.temperature) and 0 <= options.temperature <= 100):
        raise UserError(f"--temperature: {options.temperature} is out of range: choose a number from 0 to 100")
    output = options.output
    if output and output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise UserError(f"{output} is not empty: choose a new or empty directory for --output")


def _free(options: Options) -> Path:
    """A new directory inside the run directory, named after the options and created at once, so that it is ours.

    Raises UserError if it cannot be created.
    """
    from flax_punkvae.training import run_directory

    name = f"{options.how}-seed{options.seed}"
    if options.temperature != 1:
        name += f"-temperature{options.temperature:g}"
    name += "-new" * options.new + "-snapped" * options.snap
    run_directory.inside(options.run_dir, options.run_dir / "samples")
    return run_directory.free_name(options.run_dir / "samples" / name)


def _write(
    output: Path, run: "Trained", network: "Network | None", z: "np.ndarray", snap: bool
) -> list[dict[str, Any]]:
    """Decode and write the images and the grid of the first ones; returns their certificates.

    Works in chunks, so that memory does not grow with the number of images.
    """
    import numpy as np

    from flax_punkvae import images
    from flax_punkvae.trained import model as trained
    from flax_punkvae.trained import samplers

    palette = None if run.dataset.sprites is None else run.palette()
    certificates, shown = [], []
    for first in range(0, len(z), samplers.CHUNK):
        drawn = trained.decode(run, z[first : first + samplers.CHUNK])
        sprites = None
        if palette is None:
            found = _nearest_images(run, drawn)
        else:
            sprites = images.snap(run.sprites(drawn), palette)
            found = _nearest_sprites(run, sprites, drawn)
            if network is not None:
                for certificate, has in zip(found, trained.read_traits(network, sprites), strict=True):
                    certificate["traits"] = [network.label_names[label] for label in np.flatnonzero(has)]
        for number, (certificate, single) in enumerate(
            zip(found, sprites if snap and sprites is not None else drawn, strict=True), first
        ):
            name = f"{number:04d}.png"
            images.save_png(single, output / name)
            certificates.append({"file": name, **certificate})
            if number < _SHOWN:
                shown.append(single)
    large = images.enlarge(np.stack(shown), max(256 // max(shown[0].shape[:2]), 1))
    images.save_png(images.grid(large, min(_COLUMNS, len(large)), gap=8), output / "grid.png")
    return certificates


def _nearest_sprites(run: "Trained", sprites: "np.ndarray", drawn: "np.ndarray") -> list[dict[str, Any]]:
    """The training sprite with the fewest differing pixels, and the distance of the image from its snapped sprite."""
    import numpy as np

    from flax_punkvae import images
    from flax_punkvae.measures import fidelity

    assert run.dataset.sprites is not None
    known = run.dataset.sprites[run.train_indices]
    # Euclidean in RGB, pixel by pixel of the image.
    pairs = zip(drawn, images.render(sprites, run.config.data.render), strict=True)
    off = [np.linalg.norm(image.astype(np.float32) - own, axis=-1) for image, own in pairs]
    nearest, differing = fidelity.nearest_sprites(sprites, known)
    return [
        {
            "nearest": int(run.dataset.ids[run.train_indices[nearest[index]]]),
            "pixels_differ": int(differing[index]),
            "of_pixels": sprites.shape[1] * sprites.shape[2],
            "new": bool(differing[index] > 0),
            "rgb_distance_to_sprite": {"mean": float(off[index].mean()), "max": float(off[index].max())},
        }
        for index in range(len(sprites))
    ]


def _nearest_images(run: "Trained", drawn: "np.ndarray") -> list[dict[str, Any]]:
    """The training image at the smallest root-mean-square distance, in levels of 0..255."""
    import numpy as np

    flat = drawn.reshape(len(drawn), -1).astype(np.float64)
    own = np.einsum("ij,ij->i", flat, flat)[:, None]
    squares = []
    for start in range(0, len(run.train_indices), 128):
        known = run.dataset.images[run.train_indices[start : start + 128]]
        known = known.reshape(len(known), -1).astype(np.float64)
        # Sums of whole numbers below 2^53: exact.
        squares.append(own - 2 * (flat @ known.T) + np.einsum("ij,ij->i", known, known))
    distances = np.sqrt(np.concatenate(squares, axis=1) / flat.shape[1])
    return [
        {
            "nearest": int(run.dataset.ids[run.train_indices[row.argmin()]]),
            "rms_distance": float(row.min()),
            "new": bool(row.min() > 0),
        }
        for row in distances
    ]


def _print_table(facts: dict[str, Any], certificates: list[dict[str, Any]]) -> None:
    from rich.table import Table

    as_sprites = "pixels_differ" in certificates[0]
    table = Table("image", "nearest", "differing pixels" if as_sprites else "RMS distance (0-255)")
    if as_sprites:
        table.add_column("RGB distance to its sprite")
    table.add_column("traits")
    for row in certificates[:_SHOWN]:
        off = row.get("rgb_distance_to_sprite")
        distance = f"{row['pixels_differ']} of {row['of_pixels']}" if off else f"{row['rms_distance']:.2f}"
        cells = [row["file"], f"#{row['nearest']}", distance]
        if off:
            cells.append(f"mean {off['mean']:.1f}, max {off['max']:.0f}")
        table.add_row(*cells, ", ".join(row["traits"]) if "traits" in row else "not read")
    console.show(table)
    if len(certificates) > _SHOWN:
        console.say(f"the grid and this table show the first {_SHOWN} of {len(certificates)}; samples.json lists all")
    new = sum(row["new"] for row in certificates)
    console.say(f"new: {new} of {len(certificates)} are not among the {facts['compared_with']}")
    console.say(facts["traits"])


if __name__ == "__main__":
    run_program(main)
