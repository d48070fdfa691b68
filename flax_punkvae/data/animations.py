"""The frames of animated GIF, PNG and WebP files, as viewers show them."""

import contextlib
from collections.abc import Iterator
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from flax_punkvae.data.decode import File, explained, numbers, opened, to_rgba

Frames = Literal["all", "first"]


def read(file: File, which: Frames) -> Iterator[UInt8[np.ndarray, "h w 4"]]:
    """The frames of an image file as RGBA, whole: where a file stores what changes, on top of what is under it.

    A still image is one frame. Raises UserError, with the reason, for a file or a frame that cannot be read.
    """
    with contextlib.ExitStack() as stack:
        with explained():
            image, png = stack.enter_context(opened(file))
            frames = numbers(image)
        for number in frames[:1] if which == "first" else frames:
            # Not around the loop: warnings are filtered for the whole process.
            with explained():
                image.seek(number)
                frame = np.asarray(to_rgba(image, png))
            yield frame
