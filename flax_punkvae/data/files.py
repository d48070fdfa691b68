"""Images on disk: a sheet of 24x24 tiles, or a folder of images of one size."""

import difflib
import re
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from flax_punkvae.data.raw import Raw, unlabelled
from flax_punkvae.errors import UserError
from flax_punkvae.images import SPRITE_SIZE

_NAMED = ("auto", "punks", "synthetic")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
_NAMED_AT_MOST = 10


def load(path: Path) -> Raw:
    """A sheet where `path` is a file, a folder's images where it is a folder. Raises UserError."""
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _sheet(path)
    nearest = difflib.get_close_matches(str(path), _NAMED, n=1)
    hint = f" (perhaps you meant {nearest[0]})" if nearest else ""
    raise UserError(
        f"data.source: expected auto, punks, synthetic, hub:OWNER/NAME, or the path of a sheet or a folder, "
        f"got {str(path)!r}, where there is no file{hint}"
    )


def _sheet(path: Path) -> Raw:
    try:
        sheet = to_rgba(_open(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    height, width, _ = sheet.shape
    if height % SPRITE_SIZE or width % SPRITE_SIZE:
        raise UserError(
            f"{path}: expected a sheet of 24x24 tiles, so a width and height that 24 divides, got {width}x{height}: "
            "give a folder for images of other sizes"
        )
    rows, columns = height // SPRITE_SIZE, width // SPRITE_SIZE
    tiles = sheet.reshape(rows, SPRITE_SIZE, columns, SPRITE_SIZE, 4).swapaxes(1, 2)
    tiles = tiles.reshape(-1, SPRITE_SIZE, SPRITE_SIZE, 4)
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
            images.append(to_rgba(_open(file)))
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
    numbers = [re.findall(r"\d{1,15}", file.stem)[-1:] for file in files]
    if all(numbers) and len({int(number[0]) for number in numbers}) == len(files):
        pairs = sorted((int(number[0]), file) for number, file in zip(numbers, files, strict=True))
        return [file for _, file in pairs], [number for number, _ in pairs]
    ordered = sorted(files, key=lambda file: [(part.isdigit(), part.zfill(15)) for part in re.split(r"(\d+)", file.name)])
    return ordered, list(range(len(ordered)))


def _open(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path)
            image.load()
    except UnidentifiedImageError as error:
        raise UserError("expected an image, got something Pillow cannot identify") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(f"expected at most {Image.MAX_IMAGE_PIXELS} pixels, got more") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"expected a whole image, got: {' '.join(str(error).split())}") from error
    return image


def to_rgba(image: Image.Image) -> UInt8[np.ndarray, "h w 4"]:
    """A still 8-bit image as RGBA. Raises UserError for any other, saying which."""
    if getattr(image, "n_frames", 1) > 1:
        raise UserError("expected a still image, got an animated one: save one frame")
    if image.mode not in _MODES:
        raise UserError(f"expected 8-bit RGB, RGBA, grey or palette pixels, got mode {image.mode}: convert it")
    return np.asarray(image.convert("RGBA"))


def stack(images: list[np.ndarray], names: list[str], where: str) -> UInt8[np.ndarray, "n h w 4"]:
    """Images of one size as one array. Raises UserError, naming the first that differs."""
    height, width, _ = images[0].shape
    for name, image in zip(names, images, strict=True):
        if image.shape != images[0].shape:
            raise UserError(
                f"{where}: expected images of one size, got {names[0]} of {width}x{height} "
                f"and {name} of {image.shape[1]}x{image.shape[0]}"
            )
    return np.stack(images)
