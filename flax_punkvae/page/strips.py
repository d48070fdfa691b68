"""A strip of frames as one file: an animated GIF or a sheet."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from flax_punkvae import images, transparency

# Of a whole file, enlarged.
MOST_PIXELS = 2**26
_GIF_COLOURS = 256


def gif(frames: UInt8[np.ndarray, "n h w c"], scale: int, milliseconds: int) -> bytes:
    """There and back again, without end.

    Frames of at most 256 colours keep them exactly, except that a pixel is opaque or transparent: a GIF has no alpha.
    """
    turning = np.concatenate([frames, frames[-2:0:-1]])
    pictures = [_indexed(frame, scale) for frame in turning]
    file = io.BytesIO()
    first, *rest = pictures
    # Behind a frame that is transparent in part, the one before must not stay.
    shown = {"disposal": 2, "transparency": 0} if frames.shape[-1] == 4 else {}
    # No optimisation: every frame has its own palette.
    first.save(file, "GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0, optimize=False, **shown)
    return file.getvalue()


def sheet(frames: UInt8[np.ndarray, "n h w c"], scale: int) -> bytes:
    """The frames side by side, as a PNG file."""
    return images.to_png(np.concatenate(list(images.enlarge(frames, scale)), axis=1))


def _indexed(frame: UInt8[np.ndarray, "h w c"], scale: int) -> Image.Image:
    """A frame in at most 256 colours; the first one of RGBA is transparent."""
    rgb, first = frame[..., :3], frame.shape[-1] - 3
    palette = images.palette_of(rgb[None])
    if len(palette) <= _GIF_COLOURS - first:
        indices = images.to_indices(rgb[None], palette)[0]
    else:
        fewer = Image.fromarray(rgb).quantize(_GIF_COLOURS - first)
        indices, palette = np.asarray(fewer), np.reshape(fewer.getpalette() or [], (-1, 3)).astype(np.uint8)
    indices = indices + np.uint8(first)
    indices[(frame[..., 3:] < transparency.HARD).any(axis=-1)] = 0
    picture = Image.fromarray(images.enlarge(indices[None, ..., None], scale)[0, ..., 0]).convert("P")
    picture.putpalette(bytes(3 * first) + palette.tobytes())
    return picture
