"""Images as arrays: sprites over a background, rendering at 128x128 and its inverse, palettes, grids, PNG.

A sprite is a character, of 24x24 pixels or another size. An image is the model's input: the sprite itself, in RGB or as
palette indices, or a rendering of a 24x24 sprite at 128x128. Colours are RGB or, with `transparency`, RGBA.
"""

import io
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeGuard

import numpy as np
from jaxtyping import Float, Int, Integer, UInt, UInt8, UInt32
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from flax_punkvae import resampling
from flax_punkvae.colours import nearest
from flax_punkvae.resampling import CRISP_BORDER, CRISP_SCALE, IMAGE_SIZE, SPRITE_SIZE

# The names of colours by their number of channels.
MODES = {3: "RGB", 4: "RGBA"}
# Side to which small images are enlarged for viewing.
_VIEWING_SIZE = 128
# Number of pixels processed at once where wider integers are needed.
_AT_ONCE = 2**18

Render = Literal["reference", "crisp", "sprite", "indices"]


def enlarges(how: Render) -> TypeGuard[Literal["reference", "crisp"]]:
    """Whether a rendering turns sprites into larger images; the others leave them as they are."""
    return how in ("reference", "crisp")


def to_uint8(images: Float[np.ndarray, "*n h w c"]) -> UInt8[np.ndarray, "*n h w c"]:
    """Round floats in [0, 1] to 0..255; values outside are clipped."""
    return np.round(np.clip(images, 0.0, 1.0) * 255.0).astype(np.uint8)


def parse_colour(text: str) -> tuple[int, int, int]:
    """Parse `#rrggbb` as three numbers 0..255."""
    red, green, blue = bytes.fromhex(text.removeprefix("#"))
    return red, green, blue


def over_background(rgba: UInt8[np.ndarray, "*n 4"], colour: tuple[int, int, int]) -> UInt8[np.ndarray, "*n 3"]:
    """Composite over one opaque colour: (alpha * rgb + (255 - alpha) * colour) / 255, rounded to the nearest."""
    pixels = rgba.reshape(-1, 4)
    composed = np.empty((len(pixels), 3), np.uint8)
    for start in range(0, len(pixels), _AT_ONCE):
        part, found = pixels[start : start + _AT_ONCE], composed[start : start + _AT_ONCE]
        found[:] = part[:, :3]
        found[part[:, 3] == 0] = colour
        # Few pixels of most sprites are translucent, and only these need arithmetic.
        soft = np.flatnonzero((part[:, 3] > 0) & (part[:, 3] < 255))
        alpha = part[soft, 3:].astype(np.uint16)
        found[soft] = (alpha * part[soft, :3] + (255 - alpha) * np.array(colour, np.uint16) + 127) // 255
    return composed.reshape(*rgba.shape[:-1], 3)


def enlarge(images: UInt8[np.ndarray, "n h w c"], scale: int) -> UInt8[np.ndarray, "n hs ws c"]:
    """Enlarge every pixel to a block of scale x scale (nearest neighbour)."""
    return images.repeat(scale, axis=1).repeat(scale, axis=2)


def resize(images: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n 128 128 3"]:
    """Resize each image to 128x128 with Pillow's antialiased bilinear filter; images of that size are unchanged."""
    size = (IMAGE_SIZE, IMAGE_SIZE)
    if images.shape[1:3] == size:
        return images
    resized = np.empty((len(images), *size, 3), np.uint8)

    def one(index: int) -> None:
        resized[index] = np.asarray(Image.fromarray(images[index]).resize(size, Image.Resampling.BILINEAR))

    # Pillow resizes outside the interpreter lock, so threads use every core.
    with ThreadPoolExecutor() as pool:
        # The loop raises any exceptions of the threads.
        for _ in pool.map(one, range(len(images)), chunksize=1):
            pass
    return resized


def render(sprites: UInt8[np.ndarray, "n h w c"], how: Render) -> UInt8[np.ndarray, "n hi wi c"]:
    """Render sprites as the model's images, in their colours.

    `sprite` and `indices` leave them unchanged. The others turn 24x24 into 128x128: `reference` enlarges 14 times
    (nearest), as the hub stores them, then applies `resize`; `crisp` enlarges 5 times (nearest) and repeats the edge
    pixels into a 4-pixel border, which `read_crisp` inverts exactly.
    """
    if not enlarges(how):
        return sprites
    if how == "crisp":
        border = (CRISP_BORDER, CRISP_BORDER)
        return np.pad(enlarge(sprites, CRISP_SCALE), ((0, 0), border, border, (0, 0)), mode="edge")
    return resampling.reference(sprites)


def read_crisp(images: UInt8[np.ndarray, "n 128 128 3"]) -> UInt8[np.ndarray, "n 24 24 3"]:
    """Recover the sprites of `crisp` images: the centre of every 5x5 block."""
    centre = CRISP_BORDER + CRISP_SCALE // 2
    end = IMAGE_SIZE - CRISP_BORDER
    return images[:, centre:end:CRISP_SCALE, centre:end:CRISP_SCALE]


def read_sprites(images: UInt8[np.ndarray, "n hi wi c"], how: Render) -> UInt8[np.ndarray, "n h w c"]:
    """Read sprites from images by sampling the centre of every sprite pixel; exact for rendered images.

    A sprite pixel is 5.33 pixels wide in a `reference` image, and resizing mixes only pixels within 1 of its edges.
    """
    if not enlarges(how):
        return images
    if how == "crisp":
        return read_crisp(images)
    centre = ((np.arange(SPRITE_SIZE) + 0.5) * IMAGE_SIZE / SPRITE_SIZE).astype(int)
    return images[:, centre[:, None], centre]


def palette_of(
    sprites: UInt8[np.ndarray, "n h w c"], positions: Int[np.ndarray, "m"] | None = None
) -> UInt8[np.ndarray, "p c"]:
    """The distinct colours of the sprites, in ascending order of red, green, blue and, if they have it, alpha.

    With positions, of the sprites there.
    """
    count, height, width, channels = sprites.shape
    positions = np.arange(count) if positions is None else positions
    step = max(_AT_ONCE // max(height * width, 1), 1)
    chosen = (sprites[positions[start : start + step]] for start in range(0, len(positions), step))
    parts = (_runs(packed(part.reshape(-1, channels)))[0] for part in chosen)
    if channels == 4:
        found = np.zeros(0, np.uint32)
        for part in parts:
            # Two sorted runs, which this sort merges. NumPy's `unique` and `union1d` are many times slower here.
            both = np.sort(np.concatenate([found, np.sort(part)]), kind="stable")
            found = _runs(both)[0]
        return unpacked(found, 4)
    # Without sorting: a table of all colours, which RGBA has too many of.
    present = np.zeros(2**24, bool)
    for part in parts:
        present[part] = True
    return unpacked(np.flatnonzero(present).astype(np.uint32), 3)


def _runs(numbers: UInt32[np.ndarray, "n"]) -> tuple[UInt32[np.ndarray, "r"], Int[np.ndarray, "r"]]:
    """(value, length) of each run of equal numbers: sprites have far fewer of them than pixels."""
    starts = np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1]))
    return numbers[starts], np.diff(np.append(starts, len(numbers)))


def to_indices(sprites: UInt8[np.ndarray, "n h w c"], palette: UInt8[np.ndarray, "p c"]) -> UInt[np.ndarray, "n h w"]:
    """The index of each pixel's nearest palette colour, as `colours.nearest` finds it; ties take the first.

    Indices have the smallest type that fits: uint8 up to 256 colours, uint16 up to 65,536.
    """
    known, first = np.unique(packed(palette), return_index=True)
    colours = palette_of(sprites)
    numbers = packed(colours)
    at = np.searchsorted(known, numbers).clip(max=len(known) - 1)
    chosen, others = first[at], known[at] != numbers
    chosen[others] = nearest(colours[others], palette)
    chosen = chosen.astype(np.min_scalar_type(len(palette) - 1))
    pixels = sprites.reshape(-1, sprites.shape[-1])
    indices = np.empty(len(pixels), chosen.dtype)
    for start in range(0, len(pixels), _AT_ONCE):
        values, lengths = _runs(packed(pixels[start : start + _AT_ONCE]))
        indices[start : start + _AT_ONCE] = chosen[np.searchsorted(numbers, values)].repeat(lengths)
    return indices.reshape(sprites.shape[:-1])


def snap(sprites: UInt8[np.ndarray, "n h w c"], palette: UInt8[np.ndarray, "p c"]) -> UInt8[np.ndarray, "n h w c"]:
    """Replace every pixel by the nearest palette colour."""
    return palette[to_indices(sprites, palette)]


def to_colours(
    images: Float[np.ndarray, "n h w _"] | Integer[np.ndarray, "n h w _"], palette: UInt8[np.ndarray, "p c"] | None
) -> UInt8[np.ndarray, "n h w c"]:
    """Convert images of a dataset or a model to colours for viewing; with a palette, they are its indices."""
    if palette is not None:
        return palette[images[..., 0]]
    return images if images.dtype == np.uint8 else to_uint8(images)


def packed(pixels: UInt8[np.ndarray, "*n c"]) -> UInt32[np.ndarray, "*n"]:
    """Each colour as one number, in the order of its channels: colours are equal if these are, and sort as they do."""
    if pixels.shape[-1] == 4:
        return np.ascontiguousarray(pixels).view(">u4")[..., 0].astype(np.uint32)
    number = pixels[..., 0].astype(np.uint32)
    for channel in range(1, pixels.shape[-1]):
        number = number << 8 | pixels[..., channel]
    return number


def unpacked(numbers: UInt32[np.ndarray, "p"], channels: int) -> UInt8[np.ndarray, "p c"]:
    """The colours of these numbers: the inverse of `packed`."""
    shifts = 8 * np.arange(channels - 1, -1, -1, dtype=np.uint32)
    return (numbers[:, None] >> shifts & 255).astype(np.uint8)


def shrink_to_sprites(images: UInt8[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n 24 24 c"] | None:
    """The 24x24 sprites of which the images are exact nearest-neighbour enlargements; None if they are not."""
    _, height, width, _ = images.shape
    scale, rest = divmod(height, SPRITE_SIZE)
    if height != width or rest or not scale:
        return None
    rows = images[:, ::scale]
    sprites = rows[:, :, ::scale]
    # Check without copying the images: every row of a block equals its first, then every column.
    same = all(np.array_equal(images[:, i::scale], rows) for i in range(1, scale))
    same = same and all(np.array_equal(rows[:, :, i::scale], sprites) for i in range(1, scale))
    return sprites if same else None


def enlarge_for_viewing(images: UInt8[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n hs ws c"]:
    """Enlarge small images by the largest whole factor that fits 128x128; others are unchanged."""
    return enlarge(images, max(_VIEWING_SIZE // max(images.shape[1:3]), 1))


def grid(images: UInt8[np.ndarray, "n h w c"], columns: int, gap: int = 2) -> UInt8[np.ndarray, "gh gw c"]:
    """Arrange images in reading order, with `gap` pixels between and around them.

    These and empty cells are white or, among RGBA images, transparent.
    """
    count, height, width, channels = images.shape
    rows, between = -(-count // columns), 0 if channels == 4 else 255
    cells = np.full((rows * columns, height + gap, width + gap, channels), between, np.uint8)
    cells[:count, gap:, gap:] = images
    sheet = cells.reshape(rows, columns, height + gap, width + gap, channels).swapaxes(1, 2)
    sheet = sheet.reshape(rows * (height + gap), columns * (width + gap), channels)
    return np.pad(sheet, ((0, gap), (0, gap), (0, 0)), constant_values=between)


def to_png(image: UInt8[np.ndarray, "h w c"], texts: Mapping[str, str] | None = None) -> bytes:
    """The PNG file of one RGB or RGBA image, with text chunks of these names."""
    file, chunks = io.BytesIO(), PngInfo()
    for name, text in (texts or {}).items():
        chunks.add_text(name, text)
    Image.fromarray(image).save(file, format="PNG", pnginfo=chunks)
    return file.getvalue()


def save_png(image: UInt8[np.ndarray, "h w c"], path: Path) -> None:
    """Write one RGB or RGBA image."""
    path.write_bytes(to_png(image))
