"""Sheets of images that show the latent space; each function makes one, with the text that explains it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from flax_punkvae import images
from flax_punkvae.data.decode import read_rgba
from flax_punkvae.errors import UserError
from flax_punkvae.trained import editing, latents, probing, traits
from flax_punkvae.trained.model import Model
from flax_punkvae.trained.runs import OpenedRun

# Maximum number of rows of a traversal; with 32 rows the sheet is 8,324 pixels high.
MOST_ROWS = 32
_VALUES = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
_COMPLETION_COLUMNS = 9
_STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)


class Sheet(NamedTuple):
    """Images in reading order, and the text that goes with them.

    `lines` explain the sheet; `table`, if any, is (column names, rows); `facts`, if any, are for a JSON file.
    """

    tiles: UInt8[np.ndarray, "n h w c"]
    columns: int
    lines: list[str]
    table: tuple[Sequence[str], list[Sequence[str]]] | None = None
    facts: dict[str, Any] | None = None


def reconstruct(run: OpenedRun, numbers: Sequence[int]) -> Sheet:
    """Images, their reconstructions and, if these can have other colours, also the latter snapped to the palette."""
    originals, means, lines = _encode(run, *numbers)
    decoded = run.model.decode(means)
    rows = [originals, decoded]
    legend = "rows: originals, reconstructions"
    if run.dataset.sprites is not None and run.dataset.palette is None:
        rows.append(_snapped(run, decoded))
        legend += ", reconstructions snapped to sprites and the palette"
    return Sheet(np.concatenate(rows), len(originals), [*lines, legend])


def interpolate(run: OpenedRun, first: int, last: int, steps: int) -> Sheet:
    """Linear and spherical interpolation from one image to another, in `steps` images each."""
    originals, (a, b), lines = _encode(run, first, last)
    rows = [run.model.decode(walk(a, b, steps)) for walk in (latents.interpolate, latents.slerp)]
    tiles = np.concatenate([x for row in rows for x in (originals[:1], row, originals[1:])])
    legend = "rows: linear, spherical; first and last column: the originals"
    return Sheet(tiles, steps + 2, [*lines, legend])


def traverse(run: OpenedRun, number: int, top: int) -> Sheet:
    """An image with one latent varied per row, for the `top` latents with the highest KL on held-out images."""
    _, (z,), lines = _encode(run, number)
    kl = run.model.kl_per_latent(run.dataset.images[run.test_indices], seed=0)
    order = np.argsort(-kl, kind="stable")[:top]
    unit, centre, deviation = "", np.zeros(len(z)), np.ones(len(z))
    if not run.model.module.prior.is_standard:
        unit = " standard deviations from the mean of the training posteriors"
        centre, covariance = latents.aggregate(*run.encode(run.train_indices))
        deviation = np.sqrt(np.diag(covariance))
    values = (centre[:, None] + deviation[:, None] * np.array(_VALUES)).astype(z.dtype)
    path = np.concatenate([latents.traverse(z, latent, values[latent]) for latent in order[:MOST_ROWS].tolist()])
    rows: list[Sequence[str]] = [
        (f"{row}", f"{i}", f"{kl[i]:.3f}", f"{z[i]:+.2f}") for row, i in enumerate(order.tolist(), 1)
    ]
    columns = f"columns: the latent set to {', '.join(f'{value:g}' for value in _VALUES)}{unit}"
    share = f"KL of these latents: {kl[order].sum():.1f} of {kl.sum():.1f} nats"
    if len(order) > MOST_ROWS:
        share += f"; the sheet shows the first {MOST_ROWS}"
    table = (("row", "latent", "KL in nats (held out)", f"value in #{number}"), rows)
    return Sheet(run.model.decode(path), len(_VALUES), [*lines, columns, share], table)


def edit(run: OpenedRun, number: int, add: Sequence[str], remove: Sequence[str], limit: int) -> Sheet:
    """Edit an image along label directions at growing strengths; measure the effect on up to `limit` held-out images.

    If it cannot be measured, the lines say why. Raises UserError if a label is unknown, or all or none of the training
    images have it.
    """
    to_add, to_remove = ([traits.column(run.model.description, name) for name in names] for names in (add, remove))
    original, (z,), lines = _encode(run, number)
    shift = editing.shift(run, to_add, to_remove)
    reader, eligible = probing.reader_of(run, (*add, *remove)), editing.eligible(run, to_add, to_remove)
    reason = editing.unmeasured(reader, eligible, (*add, *remove))
    measured = eligible[: 0 if reason else limit]
    effects = [] if reason else editing.measure(run, reader, measured, shift, to_add, to_remove, _STRENGTHS)
    facts = {
        "step": run.model.description.step,
        "checkpoint": run.model.checkpoint,
        "number": number,
        "add": list(add),
        "remove": list(remove),
        "held_out_images_measured": len(measured),
        "traits": reader.note,
        "by_strength": effects,
    }
    legend = "columns: the original, then one per strength"
    edited = run.model.decode(np.stack([z + np.float32(strength) * shift for strength in _STRENGTHS]))
    rows = [original, edited]
    if run.dataset.palette is None:
        rows += [original, _snapped(run, edited)]
        legend += "; rows: as decoded, snapped to sprites and the palette"
    done = f"its effect is not measured ({reason})" if reason else f"measured on {len(measured)} held-out images"
    lines = [*lines, f"{done}; strength 0 is the plain reconstruction", reader.note, legend]
    return Sheet(np.concatenate(rows), len(_STRENGTHS) + 1, lines, _effects(effects) if effects else None, facts)


def read_incomplete(
    model: Model, path: Path, keep: Path | None
) -> tuple[UInt8[np.ndarray, "h w c"], Bool[np.ndarray, "h w"]]:
    """(sprite in the model's channels, whether each pixel is known) from one image file, or two.

    Known are the pixels that are white, rather than black or transparent, in the image `keep`; without it, those that
    are not fully transparent in the sprite's, so that only `keep` makes a transparent pixel known. Raises UserError if
    a file cannot be read or has another size.
    """
    height, width = model.description.sprite_size or model.description.image_shape[:2]
    read = []
    for file in [path] if keep is None else [path, keep]:
        if not file.is_file():
            raise UserError(f"there is no file {file}: name an image file")
        try:
            rgba = read_rgba(file)
        except UserError as error:
            raise UserError(f"{file} cannot be read ({error}): name an image file") from error
        if rgba.shape[:2] != (height, width):
            size = f"{rgba.shape[1]}x{rgba.shape[0]}"
            raise UserError(f"{file}: expected an image of {width}x{height} pixels, the run's sprites, got {size}")
        read.append(rgba)
    known = read[0][..., 3] > 0 if keep is None else images.over_background(read[1], (0, 0, 0)).mean(-1) >= 128
    return model.to_channels(read[0]), known


def complete(
    model: Model,
    sprite: UInt8[np.ndarray, "h w c"],
    known: Bool[np.ndarray, "h w"],
    count: int,
    seed: int,
    steps: int,
) -> Sheet:
    """The known pixels of a sprite and `count` completions of it. Raises UserError as `Model.complete` does."""
    completed = model.complete(sprite, known, count, seed, steps)
    given = model.to_sprites(sprite[None])
    again = model.to_sprites(model.decode(model.encode(completed)[0]))
    differ = ((again != given).any(-1) & known).sum(axis=(1, 2))
    snapped = int(((given[0] != sprite).any(-1) & known).sum())
    distinct = len(np.unique(completed, axis=0))
    lines = [
        f"{known.sum()} of {known.size} pixels are known, {snapped} of them changed by snapping to the palette",
        f"{count} completions (seed {seed}, {steps} steps), {distinct} of them distinct",
        "known pixels that a reconstruction of each completion would change (fewer fit better): "
        + ", ".join(map(str, differ.tolist())),
        "tiles: the known pixels (the others are white), then the completions",
    ]
    shown = np.where(known[..., None], given, np.uint8(255))
    return Sheet(np.concatenate([shown, completed]), min(count + 1, _COMPLETION_COLUMNS), lines)


def _encode(run: OpenedRun, *numbers: int) -> tuple[UInt8[np.ndarray, "n h w c"], Float[np.ndarray, "n d"], list[str]]:
    """The images with these numbers, their posterior means, and for each a line: held out or trained on."""
    positions = [run.position(number) for number in numbers]
    lines = [
        f"#{number}: {'held out' if position in run.test_indices else 'trained on'}"
        for number, position in zip(numbers, positions, strict=True)
    ]
    return run.dataset.pictures(np.array(positions)), run.encode(np.array(positions))[0], lines


def _snapped(run: OpenedRun, decoded: UInt8[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n h w c"]:
    """Decoded images snapped to sprites in the training palette, and rendered again."""
    return images.render(run.model.to_sprites(decoded), run.model.description.render)


def _effects(by_strength: list[dict[str, Any]]) -> tuple[Sequence[str], list[Sequence[str]]]:
    rows: list[Sequence[str]] = []
    for row in by_strength:
        most = ", ".join(f"{name} {share:+.0%}" for name, share in row["changed_most"].items())
        rows.append((f"{row['strength']:g}", f"{row['succeeds']:.0%}", f"{row['others_changed']:.2f} per image", most))
    return ("strength", "success rate", "other traits changed", "largest changes"), rows
