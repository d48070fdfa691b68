"""The frames of animated GIF, PNG and WebP files, as viewers show them."""

import contextlib
from collections.abc import Iterator
from itertools import islice
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from flax_punkvae.data import apng
from flax_punkvae.data.decode import File, explained, numbers, opened, to_rgba, upright
from flax_punkvae.data.png import Png
from flax_punkvae.errors import UserError

Frames = Literal["all", "first"]


def read(file: File, which: Frames) -> Iterator[UInt8[np.ndarray, "h w 4"]]:
    """The frames of an image file as RGBA, whole: where a file stores what changes, on top of what is under it.

    A still image is one frame. Raises UserError, with the reason, for a file or a frame that cannot be read.
    """
    with contextlib.ExitStack() as stack:
        with explained():
            image, png = stack.enter_context(opened(file))
            count = 1 if which == "first" else len(numbers(image))
            frames = iter(_frames(image, png))
        for _ in range(count):
            # Not around the loop: warnings are filtered for the whole process.
            with explained():
                frame = next(frames, None)
                if frame is None:
                    raise UserError("damaged: it has fewer frames than it says")
                pixels = np.asarray(frame)
            yield pixels


def _frames(image: Image.Image, png: Png | None) -> Iterator[Image.Image]:
    frames = numbers(image)
    if png and len(frames) > 1:
        for frame in islice(apng.frames(png, image.size), len(frames)):
            yield upright(frame, image)
        return
    for number in frames:
        image.seek(number)
        yield to_rgba(image, png)
