"""A strip of frames as one file: an animated GIF or a sheet."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from flax_punkvae import images

# Of a whole file, enlarged.
MOST_PIXELS = 2**26
_GIF_COLOURS = 256


def gif(frames: UInt8[np.ndarray, "n h w 3"], scale: int, milliseconds: int) -> bytes:
    """There and back again, without end. Frames of at most 256 colours keep them exactly."""
    turning = np.concatenate([frames, frames[-2:0:-1]])
    pictures = [_indexed(frame, scale) for frame in turning]
    file = io.BytesIO()
    first, *rest = pictures
    # disposal 1 and no optimisation: every frame has its own palette.
    first.save(file, "GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0, optimize=False)
    return file.getvalue()


def sheet(frames: UInt8[np.ndarray, "n h w 3"], scale: int) -> bytes:
    """The frames side by side, as a PNG file."""
    return images.to_png(np.concatenate(list(images.enlarge(frames, scale)), axis=1))


def _indexed(frame: UInt8[np.ndarray, "h w 3"], scale: int) -> Image.Image:
    palette = images.palette_of(frame[None])
    if len(palette) > _GIF_COLOURS:
        return Image.fromarray(images.enlarge(frame[None], scale)[0]).quantize(_GIF_COLOURS)
    indices = images.to_indices(frame[None], palette)[..., None]
    picture = Image.fromarray(images.enlarge(indices, scale)[0, ..., 0])
    picture = picture.convert("P") if picture.mode != "P" else picture
    picture.putpalette(palette.tobytes())
    return picture
