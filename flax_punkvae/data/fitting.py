"""Bring images of different sizes to one canvas."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import UInt8

from flax_punkvae.errors import UserError

Fit = Literal["auto", "centre", "bottom", "crop", "refuse"]
# Larger differences are hardly those of one set of sprites, so `auto` refuses them.
_MOST_SPREAD = 2.0
# A few images among many of one size may be a preview or a logo: at most this fraction, and this much larger.
_FEW, _FAR = 0.02, 3.0
# With these words in its name, an image need only be this much larger, however few the sprites are.
_SHOWN = re.compile(r"preview|sample|sheet|tile[ _-]?(set|map)|atlas|thumb|cover|banner|screen|logo", re.IGNORECASE)
_LARGER = 2.0
_NAMED_AT_MOST = 3

Size = tuple[int, int]


class Plan(NamedTuple):
    """What to do with images of several sizes.

    canvas: (height, width) of all images, or None to leave them as they are. left_out: positions of images that are not
    used. notes: lines for the user.
    """

    canvas: Size | None
    left_out: frozenset[int]
    notes: tuple[str, ...]


def plan(sizes: Sequence[Size | None], names: Sequence[str], fit: Fit, where: str) -> Plan:
    """Plan for images of these sizes (height, width); None is an image that cannot be read, which tells nothing.

    A few images that are much larger than all others are left out. Raises UserError, listing the sizes, if the others
    differ and `fit` refuses that.
    """
    counts = Counter(size for size in sizes if size)
    if len(counts) < 2 or fit == "refuse":
        return Plan(None, frozenset(), ())
    strays = _strays(sizes, names, counts)
    notes: tuple[str, ...] = ()
    if strays:
        listed = ", ".join(f"{names[place]} ({_text(sizes[place])})" for place in strays[:_NAMED_AT_MOST])
        more = f" and {len(strays) - _NAMED_AT_MOST} more" if len(strays) > _NAMED_AT_MOST else ""
        notes = (f"left out {len(strays)} much larger than the others: {listed}{more}",)
    left_out = frozenset(strays)
    kept = [size for place, size in enumerate(sizes) if size and place not in left_out]
    smallest, largest = (tuple(bound(size[axis] for size in kept) for axis in (0, 1)) for bound in (min, max))
    if smallest == largest:
        return Plan(None, left_out, notes)
    if fit == "auto" and any(most > _MOST_SPREAD * least for least, most in zip(smallest, largest, strict=True)):
        common = ", ".join(f"{_text(size)} ({count})" for size, count in Counter(kept).most_common(_NAMED_AT_MOST))
        raise UserError(
            f"{where}: images of {len(set(kept))} sizes, mostly {common}: put them on one canvas with --data.fit "
            "centre, bottom or crop, or leave some out"
        )
    height, width = smallest if fit == "crop" else largest
    how = {"crop": "cut, around their middle,", "bottom": "padded, at the bottom,"}.get(fit, "padded, in the middle,")
    notes += (f"images of {len(set(kept))} sizes were {how} to {width}x{height} (--data.fit)",)
    return Plan((height, width), left_out, notes)


def fitted(image: UInt8[np.ndarray, "h w 4"], canvas: Size, fit: Fit) -> UInt8[np.ndarray, "hc wc 4"]:
    """The image on a canvas of this (height, width), cut or padded on each side.

    What is added is transparent or, if the image's upper left pixel is opaque, has its colour.
    """
    corner = image[0, 0]
    found = np.zeros((*canvas, 4), np.uint8)
    if corner[3] == 255:
        found[:] = corner
    places = []
    for axis, (have, want) in enumerate(zip(image.shape[:2], canvas, strict=True)):
        # Above, or to the left: half of what is added, or all of it if the image stands at the bottom.
        before = want - have if axis == 0 and fit == "bottom" else (want - have) // 2
        places.append((slice(max(before, 0), max(before, 0) + min(have, want)), max(-before, 0)))
    (rows, top), (columns, left) = places
    found[rows, columns] = image[top : top + rows.stop - rows.start, left : left + columns.stop - columns.start]
    return found


def _strays(sizes: Sequence[Size | None], names: Sequence[str], counts: Counter[Size]) -> list[int]:
    """Positions of the images that are much larger than those of the most common size: few, or named as previews."""
    (height, width), _ = counts.most_common(1)[0]
    shown = [_SHOWN.search(PurePosixPath(name).stem) is not None for name in names]
    ratios = [max(size[0] / height, size[1] / width) if size else 0 for size in sizes]
    far = [place for place, ratio in enumerate(ratios) if ratio > _FAR and not shown[place]]
    if len(far) > max(1, _FEW * counts.total()):
        far = []
    far += [place for place, ratio in enumerate(ratios) if ratio >= _LARGER and shown[place]]
    return sorted(far) if counts.total() - len(far) >= 2 else []


def _text(size: Size | None) -> str:
    assert size
    return f"{size[1]}x{size[0]}"
