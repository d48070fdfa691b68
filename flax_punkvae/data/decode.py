"""Read one image file as RGBA pixels, as viewers show it: upright, with transparency."""

import contextlib
import functools
import io
import struct
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageChops, UnidentifiedImageError

from flax_punkvae.data.png import Png, read_png
from flax_punkvae.errors import UserError

# The only formats Pillow may try: others include PostScript, which runs a program.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
_ORIENTATION = 0x0112
# The transpose that turns each EXIF orientation upright, as in Pillow's `exif_transpose`.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# The orientations that swap height and width.
_LYING = (5, 6, 7, 8)


def read_rgba(file: Path | io.BytesIO) -> UInt8[np.ndarray, "h w 4"]:
    """Read a still 8-bit image as RGBA. Raises UserError, with the reason, for anything else."""
    return np.asarray(open_rgba(file))


def open_rgba(file: Path | io.BytesIO) -> Image.Image:
    """Like `read_rgba`, but return a Pillow image, from which parts can be cropped without copying the whole."""
    try:
        with warnings.catch_warnings(), _opened(file) as source:
            # Pillow warns about odd files that it can read; only possible decompression bombs are errors.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            png = read_png(source)
            with Image.open(png.stream if png else source, formats=_FORMATS) as image:
                refused = _refused(image, png)
                rgba = image if refused else _upright(_to_rgba(image, png), image)
    except UnidentifiedImageError as error:
        raise UserError(f"not an image in a known format ({', '.join(_FORMATS)})") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(f"too large: more than {Image.MAX_IMAGE_PIXELS} pixels") from error
    except Exception as error:
        # Pillow raises almost any exception for a damaged file, and nothing above raises UserError.
        raise UserError(f"damaged: {' '.join(str(error).split())}") from error
    if refused:
        raise UserError(refused)
    return rgba


def size(file: Path) -> tuple[int, int] | None:
    """(height, width) of an image as `read_rgba` gives it, read from the head of the file; None if that fails."""
    with contextlib.suppress(Exception), warnings.catch_warnings():
        # `read_rgba` says what is wrong.
        warnings.simplefilter("ignore")
        with Image.open(file, formats=_FORMATS) as image:
            # Pillow decodes a whole PNG image for its orientation, which does not matter here if it is square.
            lies = image.width != image.height and image.getexif().get(_ORIENTATION) in _LYING
            return (image.width, image.height) if lies else (image.height, image.width)
    return None


def _opened(file: Path | io.BytesIO) -> contextlib.AbstractContextManager[io.BytesIO | io.BufferedReader]:
    return file.open("rb") if isinstance(file, Path) else contextlib.nullcontext(file)


def _refused(image: Image.Image, png: Png | None) -> str | None:
    """A line that says why this image is not supported, or None."""
    # Cameras store a picture and its previews in one multi-picture JPEG (MPO); viewers show the first.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        return "animated: save a single frame"
    if image.mode not in _MODES:
        return f"unsupported pixel format (mode {image.mode}): convert it to 8-bit RGB, RGBA, grey or palette"
    if png and png.transparent and png.depth == 16:
        return "16-bit RGB with a transparent colour: convert it to 8-bit RGBA"
    return None


def _to_rgba(image: Image.Image, png: Png | None) -> Image.Image:
    image.load()
    if not (png and png.transparent):
        return image if image.mode == "RGBA" else image.convert("RGBA")
    # Pillow would compare the unscaled transparent colour with pixels already scaled to 8 bits.
    image.info.pop("transparency", None)
    plain = image.convert("L") if image.mode == "1" else image
    differs = [
        band.point([0 if level == key else 255 for level in range(256)])
        for band, key in zip(plain.split(), png.transparent, strict=True)
    ]
    rgba = plain.convert("RGBA")
    rgba.putalpha(functools.reduce(ImageChops.lighter, differs))
    return rgba


def _upright(rgba: Image.Image, image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except (SyntaxError, struct.error, ValueError, TypeError, LookupError, ArithmeticError, OSError):
        # Viewers ignore damaged EXIF data.
        return rgba
    return rgba.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgba
