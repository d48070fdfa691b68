"""Images on disk: a sheet of tiles, or a folder of images of one size."""

import difflib
import io
import re
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from flax_punkvae.data.raw import Raw, unlabelled
from flax_punkvae.errors import UserError
from flax_punkvae.images import SPRITE_SIZE, enlarge, shrink_to_sprites

_NAMED = ("auto", "punks", "synthetic")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
# All that Pillow may try: among its others is PostScript, which runs a program.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
_NAMED_AT_MOST = 10

# A sprite and its scale where the image was an exact enlargement of it, else the image and 1: ten thousand of the
# hub's images take 23 MB so, and 4.5 GB as they come.
Compact = tuple[UInt8[np.ndarray, "_ _ 4"], int]


def load(path: Path, tile: tuple[int, int] = (SPRITE_SIZE, SPRITE_SIZE)) -> Raw:
    """A sheet of tiles (width, height) where `path` is a file, a folder's images where it is one. Raises UserError."""
    try:
        if path.is_dir():
            return _folder(path)
        if path.is_file():
            return _sheet(path, tile)
    except OSError as error:
        raise UserError(f"{path}: expected a readable sheet or folder: {error.strerror}") from error
    nearest = difflib.get_close_matches(str(path), _NAMED, n=1)
    hint = f" (perhaps you meant {nearest[0]})" if nearest else ""
    raise UserError(
        f"data.source: expected auto, punks, synthetic, hub:OWNER/NAME, or the path of a sheet or a folder, "
        f"got {str(path)!r}, where there is no file{hint}"
    )


def _sheet(path: Path, tile: tuple[int, int]) -> Raw:
    try:
        sheet = read_rgba(path)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    (height, width, _), (across, down) = sheet.shape, tile
    if height % down or width % across:
        raise UserError(
            f"{path}: expected a sheet of {across}x{down} tiles, so a width that {across} divides and a height that "
            f"{down} divides, got {width}x{height}: say with --data.tile how large its tiles are, or give a folder of "
            "images"
        )
    tiles = sheet.reshape(height // down, down, width // across, across, 4).swapaxes(1, 2)
    tiles = tiles.reshape(-1, down, across, 4)
    # A last row is rarely full; what is wholly transparent after the last sprite is no sprite.
    drawn = np.flatnonzero(tiles[..., 3].any(axis=(1, 2)))
    tiles = tiles[: drawn[-1] + 1 if len(drawn) else 0]
    return unlabelled(tiles, np.arange(len(tiles)), f"sheet {path}")


def _folder(path: Path) -> Raw:
    found = [file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")]
    if not found:
        raise UserError(f"{path}: expected a folder of images ({', '.join(_SUFFIXES)}), got none of these in it")
    ordered, ids = _by_number(found)
    images, bad = [], []
    for file in ordered:
        try:
            images.append(compact(read_rgba(file)))
        except UserError as error:
            bad.append(f"{file.name} ({error})")
    if bad:
        more = f" and {len(bad) - _NAMED_AT_MOST} more" if len(bad) > _NAMED_AT_MOST else ""
        raise UserError(
            f"{path}: expected {len(found)} readable images, got {len(bad)} bad: "
            f"{'; '.join(bad[:_NAMED_AT_MOST])}{more}: mend or remove them"
        )
    return unlabelled(stack(images, [file.name for file in ordered], str(path)), np.array(ids), f"folder {path}")


def _by_number(files: list[Path]) -> tuple[list[Path], list[int]]:
    """Files and ids: by the last number in the names where each has one of its own, else positions in natural order."""
    numbers = [int((re.findall(r"\d+", file.stem) or ["-1"])[-1]) for file in files]
    # A longer number is no count of images, but a hash or a date, and does not fit an int64.
    if all(0 <= number < 10**15 for number in numbers) and len(set(numbers)) == len(files):
        pairs = sorted(zip(numbers, files, strict=True))
        return [file for _, file in pairs], [number for number, _ in pairs]
    return sorted(files, key=_natural_order), list(range(len(files)))


def _natural_order(file: Path) -> tuple[list[str], str]:
    # Numbers padded to one length sort as numbers; the name itself settles a1 against a01.
    return [part.zfill(255) if part.isdecimal() else part for part in re.split(r"(\d+)", file.name)], file.name


def read_rgba(file: Path | io.BytesIO) -> UInt8[np.ndarray, "h w 4"]:
    """A still 8-bit image as RGBA. Raises UserError for anything else, saying what."""
    try:
        with warnings.catch_warnings():
            # What Pillow finds odd but can read is fine; what may be a decompression bomb is not.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=_FORMATS) as image:
                frames, mode = getattr(image, "n_frames", 1), image.mode
                pixels = np.asarray(image.convert("RGBA")) if mode in _MODES else None
    except UnidentifiedImageError as error:
        raise UserError(f"expected an image ({', '.join(_FORMATS)}), got something else") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(f"expected at most {Image.MAX_IMAGE_PIXELS} pixels, got more") from error
    except Exception as error:
        # Nothing of ours stands above, and Pillow raises almost anything where a file is damaged.
        raise UserError(f"expected a whole image, got: {' '.join(str(error).split())}") from error
    if frames > 1:
        raise UserError("expected a still image, got an animated one: save one frame")
    if pixels is None:
        raise UserError(f"expected 8-bit RGB, RGBA, grey or palette pixels, got mode {mode}: convert it")
    return pixels


def compact(image: UInt8[np.ndarray, "h w 4"]) -> Compact:
    """The image as a sprite and its scale where it is an exact enlargement of one, else itself and 1."""
    sprite = shrink_to_sprites(image[None])
    return (image, 1) if sprite is None else (sprite[0].copy(), len(image) // SPRITE_SIZE)


def stack(images: list[Compact], names: list[str], where: str) -> UInt8[np.ndarray, "n h w 4"]:
    """Images of one size as one array, as sprites where all are. Raises UserError, naming the first that differs."""
    sizes = [(pixels.shape[1] * scale, pixels.shape[0] * scale) for pixels, scale in images]
    for name, size in zip(names, sizes, strict=True):
        if size != sizes[0]:
            raise UserError(
                f"{where}: expected images of one size, got {names[0]} of {sizes[0][0]}x{sizes[0][1]} "
                f"and {name} of {size[0]}x{size[1]}"
            )
    if len({scale for _, scale in images}) == 1:
        return np.stack([pixels for pixels, _ in images])
    return np.concatenate([enlarge(pixels[None], scale) for pixels, scale in images])
