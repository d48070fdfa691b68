"""Sets of sprites in the forms in which people have them: each function writes one and returns it as a source.

The sprites are made-up characters of 16x16 pixels with a transparent background, unless the form is about another.
"""

import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from helpers import sheet_forms
from helpers.characters import columns, enlarged, opaque, sprites
from helpers.sources import png16, tiled, write

Form = Callable[[Path, int], Path]


def _folder(path: Path, images: Iterable[np.ndarray], name: str = "{:03d}.png", **options: Any) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(path / name.format(number), **options)
    return path


def flat(path: Path, count: int) -> Path:
    return _folder(path, sprites(count))


def classes(path: Path, count: int) -> Path:
    for number, part in enumerate(np.array_split(sprites(count), 3)):
        _folder(path / ("knights", "mages", "thieves")[number], part)
    return path


def nested(path: Path, count: int) -> Path:
    for number, part in enumerate(np.array_split(sprites(count), 4)):
        _folder(path / "assets" / ("heroes", "monsters")[number // 2] / ("day", "night")[number % 2], part)
    (path / "assets" / "empty").mkdir()
    return path


def trimmed(path: Path, count: int) -> Path:
    """As an editor exports them: each cut to what is drawn."""
    images = []
    for pixels in sprites(count):
        rows, columns = (np.flatnonzero(pixels[..., 3].any(axis)) for axis in (1, 0))
        images.append(pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    return _folder(path, images)


def enlarged_folder(path: Path, count: int) -> Path:
    return _folder(path, [enlarged(pixels, 10) for pixels in sprites(count)])


def frames(count: int, seed: int = 0) -> list[np.ndarray]:
    """Four frames of each animation: the second is two pixels higher, the fourth repeats the first."""
    found = []
    for pixels in sprites(count, seed):
        jump = np.roll(pixels, -2, axis=0)
        found.append(np.stack([pixels, jump, np.roll(jump, 1, axis=1), pixels]))
    return found


def _animations(path: Path, count: int, suffix: str, **options: Any) -> Path:
    path.mkdir()
    for number, animation in enumerate(frames(max(count // 3, 2))):
        images = [Image.fromarray(pixels) for pixels in animation]
        images[0].save(
            path / f"walk{number}.{suffix}", save_all=True, append_images=images[1:], duration=100, **options
        )
    return path


def gifs(path: Path, count: int) -> Path:
    return _animations(path, count, "gif", disposal=2)


def apngs(path: Path, count: int) -> Path:
    return _animations(path, count, "png")


def webps(path: Path, count: int) -> Path:
    return _animations(path, count, "webp", lossless=True, exact=True)


def deep(path: Path, count: int) -> Path:
    """RGBA of 16 bits per sample."""
    path.mkdir()
    for number, pixels in enumerate(sprites(count)):
        (path / f"{number}.png").write_bytes(png16(pixels))
    return path


def grey(path: Path, count: int) -> Path:
    images = [np.asarray(Image.fromarray(pixels).convert("L")) for pixels in opaque(count)]
    return _folder(path, images)


def palette(path: Path, count: int) -> Path:
    path.mkdir()
    for number, pixels in enumerate(opaque(count)):
        Image.fromarray(pixels).convert("P", palette=Image.Palette.ADAPTIVE).save(path / f"{number}.png")
    return path


def jpeg(path: Path, count: int) -> Path:
    return _folder(path, opaque(count), "{:03d}.jpg", quality=90)


def jpeg_enlarged(path: Path, count: int) -> Path:
    """Enlarged before they were saved: their blocks are not of one colour."""
    return _folder(path, [enlarged(pixels, 4) for pixels in opaque(count)], "{:03d}.JPG", quality=90)


def archive(path: Path, count: int) -> Path:
    """A download: one folder in a ZIP archive, with what macOS adds."""
    path.mkdir()
    folder = classes(path / "My Pack 1.0", count)
    with zipfile.ZipFile(path / "my pack.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(folder.rglob("*.png")):
            packed.write(file, file.relative_to(path).as_posix())
            packed.writestr(f"__MACOSX/{file.relative_to(path).parent.as_posix()}/._{file.name}", b"junk")
        packed.writestr("My Pack 1.0/License.txt", "CC0")
    return path / "my pack.zip"


def strays(path: Path, count: int) -> Path:
    """With a preview and a sheet beside the sprites, and what file managers leave."""
    _folder(path, sprites(count), "sprite {:03d}.png")
    write(path / "preview.png", enlarged(tiled(sprites(count), columns(count)), 3))
    write(path / "Sheet.png", tiled(sprites(count), columns(count)))
    (path / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (path / "readme.txt").write_text("by me")
    return path


def unicode_names(path: Path, count: int) -> Path:
    return _folder(path, sprites(count), "Grün Held ☆ ({}).PNG")


def soft_edges(path: Path, count: int) -> Path:
    images = []
    for pixels in sprites(count):
        alpha = Image.fromarray(pixels[..., 3]).filter(ImageFilter.BoxBlur(1))
        images.append(np.dstack([pixels[..., :3], np.minimum(pixels[..., 3], np.asarray(alpha))]))
    return _folder(path, images)


def truecolour(path: Path, count: int) -> Path:
    """With shading: hardly two pixels are of one colour."""
    random = np.random.default_rng(0)
    pixels = sprites(count).astype(int)
    light = np.linspace(30, -30, 16)[:, None] + random.normal(0, 4, (count, 16, 16))
    pixels[..., :3] = np.clip(pixels[..., :3] + light[..., None], 0, 255)
    return _folder(path, pixels.astype(np.uint8))


FORMS: dict[str, Form] = {
    "flat folder": flat,
    "folder per class": classes,
    "nested folders": nested,
    "trimmed exports": trimmed,
    "enlarged 10 times": enlarged_folder,
    "animated GIFs": gifs,
    "animated PNGs": apngs,
    "animated WebPs": webps,
    "16-bit PNGs": deep,
    "grey PNGs": grey,
    "palette PNGs": palette,
    "JPEGs": jpeg,
    "JPEGs, enlarged 4 times": jpeg_enlarged,
    "sheet of 16x16 tiles": sheet_forms.sheet,
    "sheet with a spacing": sheet_forms.sheet_spacing,
    "sheet with margin and spacing": sheet_forms.sheet_gaps,
    "sheet enlarged 10 times": sheet_forms.sheet_enlarged,
    "sheet with a background and empty cells": sheet_forms.sheet_opaque,
    "sheet with grid lines": sheet_forms.sheet_lines,
    "sheet with Aseprite's JSON": sheet_forms.aseprite,
    "tileset of Tiled": sheet_forms.tileset,
    "ZIP archive": archive,
    "stray previews": strays,
    "names in Unicode": unicode_names,
    "soft edges": soft_edges,
    "truecolour": truecolour,
}
