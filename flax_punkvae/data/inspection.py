"""What is in a set of images, in lines for the user. `train` prints the summary, `inspect` the details too."""

import numpy as np
from jaxtyping import UInt8

from flax_punkvae import images as im
from flax_punkvae.data import Dataset, Parts, naming, near_copies
from flax_punkvae.data.split import spread

# How many pixels are looked at where a part of the set says enough.
_ENOUGH = 4_000_000


def summary(dataset: Dataset, parts: Parts) -> list[str]:
    """What was read, what the source's notes say, and the split; with a palette, its size."""
    lines = ["data: {source}, {count} images of {size}, SHA-256 {sha256}".format(**dataset.provenance())]
    lines += [f"data: {note}" for note in (dataset.verification, *dataset.notes) if note]
    validation = f"{len(parts.validation)} validation, " if len(parts.validation) else ""
    lines.append(f"split: {len(parts.train)} training, {validation}{len(parts.test)} test images{_together(dataset)}")
    if dataset.colours:
        pixels, sprites = dataset.outside_palette(parts.test)
        where = f"{naming.counted(pixels, 'pixel')} in {naming.counted(sprites, 'test sprite')}"
        others = f"; {where} replaced by the nearest of these" if pixels else ""
        lines.append(f"palette: {dataset.colours} colours of the training sprites{others}")
    return lines


def details(dataset: Dataset) -> list[str]:
    """Colours, transparency, labels and near copies."""
    sprites = dataset.originals
    lines = [_colours(sprites)]
    if sprites.shape[-1] == 4:
        lines.append(_transparency(sprites[..., 3]))
    if dataset.label_names:
        lines.append(_labels(dataset))
    if dataset.sprites is not None:
        lines += _near(dataset, near_copies.find(dataset.sprites))
    return lines


def facing(sprites: UInt8[np.ndarray, "n h w c"]) -> float:
    """How far sprites face one way: 0 if not at all, 1 if all differ from their mirror images in the same way.

    The fraction, in squared differences of pixels, of what sprites differ from their mirror images that their mean
    does, too; less 1 / n, which the mean of n sprites that face either way at random would have.
    """
    some = _some(sprites).astype(np.float32)
    differences = some - some[:, :, ::-1]
    each = np.mean(differences**2)
    return float(np.mean(differences.mean(0) ** 2) / each - 1 / len(some)) if each else 0.0


def _together(dataset: Dataset) -> str:
    if dataset.groups is None:
        return ""
    sizes = np.unique(dataset.groups, return_counts=True)[1]
    several = sizes[sizes > 1]
    if not len(several):
        return ""
    return f"; {several.sum()} images are in {naming.counted(len(several), 'group')}, never on both sides"


def _colours(sprites: UInt8[np.ndarray, "n h w c"]) -> str:
    some = _some(sprites)
    ordered = np.sort(im.packed(some).reshape(len(some), -1), axis=1)
    each = (np.diff(ordered, axis=1) != 0).sum(1) + 1
    return f"colours: {len(im.palette_of(sprites)):,} in all, {each.min()} to {each.max()} in a sprite"


def _transparency(alpha: UInt8[np.ndarray, "n h w"]) -> str:
    wholly, opaque = (np.count_nonzero(alpha == level) for level in (0, 255))
    soft = alpha.size - wholly - opaque
    partly = f", {soft / alpha.size:.2%} partly so" if soft else ""
    return f"transparency: {wholly / alpha.size:.2%} of pixels are transparent{partly}"


def _labels(dataset: Dataset) -> str:
    counts = dataset.labels.sum(0, dtype=int)
    order = np.argsort(-counts, kind="stable")
    listed = [f"{dataset.label_names[label]} ({counts[label]:,})" for label in order.tolist()]
    return f"labels: {len(listed)}: {naming.some(listed)}"


def _near(dataset: Dataset, found: near_copies.NearCopies) -> list[str]:
    """One line per kind of near copy, or a single line if none were found."""
    count = len(dataset.images)
    among = f" (of {found.looked_at:,} sprites, spread over the set)" if found.looked_at < count else ""
    kinds = (
        (found.changed, f"at most {near_copies.FEW:.0%} of pixels differ"),
        (found.mirrored, "mirrored"),
        (found.shifted, "moved by one pixel"),
    )
    lines = [
        f"near copies{among}, {what}: {len(pairs):,}, such as {_pair(dataset, *pairs[0])}"
        for pairs, what in kinds
        if pairs
    ]
    return lines or [f"near copies{among}: none"]


def _pair(dataset: Dataset, later: int, earlier: int) -> str:
    return f"{dataset.name(later)} and {dataset.name(earlier)}"


def _some(sprites: UInt8[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "m h w c"]:
    """Enough of the sprites, spread evenly over the set, or all."""
    most = max(_ENOUGH // (sprites.shape[1] * sprites.shape[2]), 1)
    return sprites[spread(np.arange(len(sprites)), most)]
