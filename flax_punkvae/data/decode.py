"""Read one image file as RGBA pixels, as viewers show it: upright, with transparency."""

import contextlib
import functools
import io
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageChops, UnidentifiedImageError

from flax_punkvae.data import deep
from flax_punkvae.data.png import Png, read_png
from flax_punkvae.errors import UserError

File = Path | io.BytesIO

# The only formats Pillow may try: others include PostScript, which runs a program.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "QOI")
# A Targa file does not begin with a mark of its own, so that junk may look like one: it is known by its name.
_TARGA = "TGA"
SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp"),
    *(".tif", ".tiff", ".tga", ".qoi"),
)
_ANIMATED = ("PNG", "GIF", "WEBP")
# What Pillow converts to RGBA by itself. Images of 16 bits are converted by `deep`.
_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr")
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

# What a PNG file that holds an orientation contains.
_ORIENTING = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
# The orientations that swap height and width.
_LYING = (5, 6, 7, 8)


class Head(NamedTuple):
    """What the head of an image file says. size: (height, width) as it is shown. deep: it has 16 bits per sample."""

    size: tuple[int, int]
    frames: int
    deep: bool


def read_rgba(file: File) -> UInt8[np.ndarray, "h w 4"]:
    """Read a still image as RGBA. Raises UserError, with the reason, for anything else."""
    return np.asarray(open_rgba(file))


def open_rgba(file: File, most: int | None = None) -> Image.Image:
    """Like `read_rgba`, but return a Pillow image, from which parts can be cropped without copying the whole.

    An image of more than `most` pixels is refused, by default one of more than Pillow's limit.
    """
    with explained(most), opened(file) as (image, png):
        if len(numbers(image)) > 1:
            raise UserError("animated: save a single frame")
        return to_rgba(image, png)


def head(file: File) -> Head | None:
    """Read the head of an image file; None if that fails, since reading the image then says what is wrong."""
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _stream(file) as source:
            content = source.read()
            source.seek(0)
            with Image.open(source, formats=_formats(file)) as image:
                is_png = image.format == "PNG"
                # To look for an orientation, Pillow would decode a PNG image whole.
                may_lie = not is_png or any(mark in content for mark in _ORIENTING)
                lies = may_lie and image.getexif().get(_ORIENTATION) in _LYING
                size = (image.width, image.height) if lies else (image.height, image.width)
                # Pillow reduces most PNG images of 16 bits by itself: their header says what they are.
                is_deep = content[24:25] == b"\x10" if is_png else image.mode.startswith(deep.MODE)
                return Head(size, len(numbers(image)), is_deep)
    return None


@contextlib.contextmanager
def explained(most: int | None = None) -> Iterator[None]:
    """Turn what Pillow raises for an image file into a UserError without the file's name.

    Of images of more than `most` pixels (by default Pillow's limit), too.
    """
    limit = Image.MAX_IMAGE_PIXELS if most is None else most
    try:
        with warnings.catch_warnings():
            # Pillow warns about odd files that it can read; only possible decompression bombs are errors.
            warnings.simplefilter("ignore")
            if most is None:
                warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"not an image in a known format ({', '.join((*_FORMATS, _TARGA))})") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(f"too large: more than {limit} pixels") from error
    except Exception as error:
        # Pillow raises almost any exception for a damaged file.
        raise UserError(f"damaged: {' '.join(str(error).split())}") from error


@contextlib.contextmanager
def opened(file: File) -> Iterator[tuple[Image.Image, Png | None]]:
    """(image at its first frame, what `read_png` says). Raises UserError for kinds of images that are not supported."""
    with _stream(file) as source:
        png = read_png(source)
        with Image.open(png.stream if png else source, formats=_formats(file)) as image:
            if refused := _refused(image):
                raise UserError(refused)
            yield image, png


def numbers(image: Image.Image) -> range:
    """The numbers of an image's frames in Pillow; a still image has one."""
    if image.format not in _ANIMATED:
        return range(1)
    # Programs that show no animation show a picture that need not be part of it.
    return range(int(getattr(image, "default_image", False)), getattr(image, "n_frames", 1))


def to_rgba(image: Image.Image, png: Png | None) -> Image.Image:
    """The frame that an open image is at, as RGBA of 8 bits, upright."""
    image.load()
    if image.mode.startswith(deep.MODE) or (png and png.depth == 16 and png.transparent):
        rgba = deep.to_rgba(image, png)
    elif png and png.transparent:
        rgba = _without(image, png.transparent)
    else:
        rgba = image.convert("RGBA")
    return upright(rgba, image)


def _stream(file: File) -> contextlib.AbstractContextManager[io.BytesIO | io.BufferedReader]:
    return file.open("rb") if isinstance(file, Path) else contextlib.nullcontext(file)


def _formats(file: File) -> tuple[str, ...]:
    is_targa = str(getattr(file, "name", "")).lower().endswith(".tga")
    return (*_FORMATS, _TARGA) if is_targa else _FORMATS


def _refused(image: Image.Image) -> str | None:
    """A line that says why this image is not supported, or None."""
    if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
        return "several pages: save each as an image"
    if image.mode not in _MODES and not image.mode.startswith(deep.MODE):
        return f"unsupported pixel format (mode {image.mode}): convert it to 8-bit RGB, RGBA, grey or palette"
    return None


def _without(image: Image.Image, transparent: tuple[int, ...]) -> Image.Image:
    """The image as RGBA, where pixels of the transparent colour have no alpha.

    Pillow would compare the unscaled transparent colour with pixels already scaled to 8 bits.
    """
    plain = image.convert("L") if image.mode == "1" else image.copy()
    plain.info.pop("transparency", None)
    differs = [
        band.point([0 if level == key else 255 for level in range(256)])
        for band, key in zip(plain.split(), transparent, strict=True)
    ]
    rgba = plain.convert("RGBA")
    rgba.putalpha(functools.reduce(ImageChops.lighter, differs))
    return rgba


def upright(rgba: Image.Image, image: Image.Image) -> Image.Image:
    """A frame of an image, turned as the image says."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except (SyntaxError, struct.error, ValueError, TypeError, LookupError, ArithmeticError, OSError):
        # Viewers ignore damaged EXIF data.
        return rgba
    return rgba.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgba
