"""Image files as every viewer shows them, sheets and their grids, what a folder leaves out, and memory."""

import io
import itertools
import os
import struct
import tracemalloc
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from flax_punkvae import data
from flax_punkvae import images as im
from flax_punkvae.config import DataConfig
from flax_punkvae.data import files, rendering, synthetic
from flax_punkvae.data.decode import read_rgba
from helpers.bad_input import saved
from helpers.sources import png, refusal, tiled, write, write_folder

_RANDOM = np.random.default_rng(0)
PHOTO = Image.fromarray(_RANDOM.integers(0, 256, (6, 10, 3), np.uint8))
COLOURS = _RANDOM.integers(1, 256, (5, 4), np.uint8) | np.array([0, 0, 0, 255], np.uint8)


def opaque(count: int, side: int) -> np.ndarray:
    """Sprites of few colours, without a transparent pixel."""
    return COLOURS[np.random.default_rng(count).integers(0, len(COLOURS), (count, side, side))]


# Transparency of PNG. Oracle: the specification, sections 11.3.1.1 (tRNS) and 13.12 (samples to 8 bits).


def packed(samples: list[int], depth: int) -> bytes:
    bits = "".join(format(sample, f"0{depth}b") for sample in samples)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


@pytest.mark.parametrize(("depth", "key"), [(d, k) for d in (1, 2, 4, 8) for k in sorted({0, 1, 2**d // 3, 2**d - 1})])
def test_a_transparent_grey(depth: int, key: int):
    samples = [key if place % 2 == 0 else (key + 2**depth // 2) % 2**depth for place in range(8)]
    content = png(depth, 0, [packed(samples, depth)], (b"tRNS", struct.pack(">H", key)))
    levels = [sample * 255 // (2**depth - 1) for sample in samples]
    assert read_rgba(io.BytesIO(content))[0].tolist() == [
        [g, g, g, 255 * (s != key)] for g, s in zip(levels, samples, strict=True)
    ]


def test_a_transparent_rgb():
    pixels = [[1, 2, 3], [1, 2, 4], [0, 2, 3], [1, 0, 3]] * 2
    content = png(8, 2, [bytes(itertools.chain(*pixels))], (b"tRNS", struct.pack(">3H", 1, 2, 3)))
    assert read_rgba(io.BytesIO(content))[0].tolist() == [[*rgb, 255 * (rgb != [1, 2, 3])] for rgb in pixels]


@pytest.mark.parametrize("kind", [0, 2])
def test_a_transparent_colour_of_16_bits_is_refused(kind: int):
    count = 3 if kind else 1
    content = png(16, kind, [bytes(16 * count)], (b"tRNS", bytes(2 * count)))
    assert "convert it" in refusal(read_rgba, io.BytesIO(content))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_palette_with_alpha(depth: int):
    samples = [place % 2 for place in range(8)]
    chunks = (b"PLTE", bytes([9, 8, 7, 6, 5, 4])), (b"tRNS", bytes([77]))
    content = png(depth, 3, [packed(samples, depth)], *chunks)
    expected = [[9, 8, 7, 77], [6, 5, 4, 255]]
    assert read_rgba(io.BytesIO(content))[0].tolist() == [expected[sample] for sample in samples]


def test_transparency_masked_late_and_beside_alpha():
    grey = bytes(range(8))
    masked = png(8, 0, [grey], (b"tRNS", b"\1\3"))
    assert read_rgba(io.BytesIO(masked))[0, :, 3].tolist() == [255, 255, 255, 0, 255, 255, 255, 255]
    after_the_pixels = png(8, 0, [grey], (b"tRNS", b"\0\3"), late=True)
    assert (read_rgba(io.BytesIO(after_the_pixels))[..., 3] == 255).all()
    turned = png(8, 0, [grey], (b"eXIf", exif(3).tobytes().removeprefix(b"Exif\0\0")), (b"tRNS", b"\0\3"))
    assert read_rgba(io.BytesIO(turned))[0, :, 3].tolist() == [255, 255, 255, 255, 0, 255, 255, 255]


# Orientation. Oracle: Pillow's exif_transpose.


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    return made


def upright(content: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGBA"))


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize(
    ("form", "mode"), [("PNG", "RGB"), ("PNG", "P"), ("PNG", "L"), ("JPEG", "RGB"), ("WEBP", "RGB")]
)
def test_orientation(form: str, mode: str, orientation: int):
    content = saved(PHOTO.convert(mode), form, exif=exif(orientation))
    np.testing.assert_array_equal(read_rgba(io.BytesIO(content)), upright(content))


@pytest.mark.parametrize("zipped", [True, False])
def test_orientation_in_text(zipped: bool):
    xmp, profile, raw = PngInfo(), PngInfo(), exif(8).tobytes()
    xmp.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>', zip=zipped)
    profile.add_text("Raw profile type exif", f"\nexif\n{len(raw):8}\n{raw.hex()}\n", zip=zipped)
    for info in (xmp, profile):
        content = saved(PHOTO, "PNG", pnginfo=info)
        assert upright(content).shape == (10, 6, 4)
        np.testing.assert_array_equal(read_rgba(io.BytesIO(content)), upright(content))


def test_damaged_exif_is_ignored():
    for damaged in (b"nonsense", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff"):
        content = png(8, 0, [bytes(range(8))], (b"eXIf", damaged))
        assert read_rgba(io.BytesIO(content))[0, :, 0].tolist() == list(range(8))


def test_a_camera_s_jpeg_with_a_preview_is_its_picture():
    content = saved(PHOTO, "MPO", save_all=True, append_images=[PHOTO.resize((5, 3))])
    np.testing.assert_array_equal(
        read_rgba(io.BytesIO(content)), np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))
    )


# Text and profiles of PNG, which Pillow refuses where they are large.

LONG = b"x" * 2_000_000
TEXTS = {
    "text": [(b"tEXt", b"Comment\0" + LONG)],
    "compressed text": [(b"zTXt", b"Comment\0\0" + zlib.compress(LONG))],
    "international text": [(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(LONG))],
    "a colour profile": [(b"iCCP", b"name\0\0" + zlib.compress(LONG))],
    "many texts": [(b"tEXt", b"%d\0" % number + LONG[:1_000_000]) for number in range(70)],
    "many XMP packets": [(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + LONG[:1_000_000])] * 70,
    "an EXIF bomb": [(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(LONG))],
}


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("chunks", TEXTS.values(), ids=list(TEXTS))
def test_large_text_does_not_hide_the_pixels(chunks: list[tuple[bytes, bytes]], late: bool):
    content = png(8, 0, [bytes(range(8))], *chunks, late=late)
    assert read_rgba(io.BytesIO(content))[0, :, 0].tolist() == list(range(8))


# Sheets.


def test_empty_tiles_are_left_out_and_counted(tmp_path: Path):
    sprites = opaque(11, 8)
    sprites[[1, 2, 6]] = 0
    sheet = write(tmp_path / "sheet.png", tiled(sprites, 4))
    raw = files.load(sheet, (8, 8))
    drawn = [0, 3, 4, 5, 7, 8, 9, 10]
    assert raw.ids.tolist() == drawn
    np.testing.assert_array_equal(raw.pixels, sprites[drawn])
    assert raw.notes == ("left out 4 empty tiles of 12; ids are positions in the sheet",)
    dataset = data.load(DataConfig(source=str(sheet), tile=(8, 8), render="sprite", limit=3))
    assert (dataset.ids.tolist(), dataset.notes) == (drawn[:3], raw.notes)
    assert files.load(write(sheet, tiled(opaque(12, 8), 4)), (8, 8)).notes == ()


# (margin, spacing, columns): widths that 8 divides.
@pytest.mark.parametrize(
    ("margin", "spacing", "columns"), [(1, 1, 7), (0, 1, 9), (1, 2, 4), (2, 3, 5), (4, 0, 5), (3, 2, 6)]
)
@pytest.mark.parametrize("colour", [(0, 0, 0, 0), (255, 0, 255, 255)], ids=["transparent", "magenta"])
def test_a_sheet_with_margin_or_spacing_is_refused(
    tmp_path: Path, margin: int, spacing: int, columns: int, colour: tuple[int, int, int, int]
):
    pixels = tiled(opaque(columns**2 - 1, 8), columns, margin, spacing)
    assert pixels.shape[1] % 8 == 0
    pixels[pixels[..., 3] == 0] = colour
    sheet = write(tmp_path / "sheet.png", pixels)
    message = refusal(files.load, sheet, (8, 8))
    assert "would cut through the sprites" in message and "--data.margin and --data.spacing" in message
    # With what is around and between them, it is read as the plain sheet is.
    config = DataConfig(tile=(8, 8), margin=margin, spacing=spacing)
    plain = write(tmp_path / "plain.png", tiled(opaque(columns**2 - 1, 8), columns))
    found, expected = files.load(sheet, (8, 8), config), files.load(plain, (8, 8))
    count = len(expected.pixels)
    np.testing.assert_array_equal(found.pixels[:count], expected.pixels)
    # The last cell has the colour of the rest of the sheet.
    assert len(found.pixels) == count + (colour[3] > 0)
    wrong = refusal(files.load, sheet, (8, 8), DataConfig(tile=(8, 8), margin=margin, spacing=spacing + 1))
    assert f"no grid of tiles of 8x8 with a margin of {margin} and a spacing of {spacing + 1}" in wrong
    evidence = f"lines every {8 + spacing} pixels across" if spacing else "a transparent margin of 4 pixels"
    assert evidence.replace("transparent", "#ff00ff" if colour[3] else "transparent") in message


def test_a_strip_with_spacing_is_refused(tmp_path: Path):
    message = refusal(files.load, write(tmp_path / "strip.png", tiled(opaque(9, 8), 9, spacing=1)), (8, 8))
    assert "every 9 pixels across" in message


def test_small_tiles_cut_as_large_ones_are_refused(tmp_path: Path):
    sprites = opaque(36, 16)
    sprites[:, 0] = sprites[:, :, 0] = 0
    message = refusal(files.load, write(tmp_path / "sheet.png", tiled(sprites, 6)))
    assert "lines every 16 pixels across and every 16 down" in message


@given(
    side=st.sampled_from([8, 12, 16, 24]),
    count=st.integers(1, 40),
    columns=st.integers(1, 12),
    border=st.integers(0, 3),
    density=st.sampled_from([0.3, 0.7, 1.0]),
    solid=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)
@settings(max_examples=100)
def test_plain_sheets_are_not_refused(
    tmp_path_factory: pytest.TempPathFactory,
    side: int,
    count: int,
    columns: int,
    border: int,
    density: float,
    solid: bool,
    seed: int,
):
    random = np.random.default_rng(seed)
    sprites = opaque(count, side)
    sprites[random.random(sprites.shape[:3]) >= density] = 0
    sprites[random.random(count) < 0.2] = 0
    for edge in (
        sprites[:, :border],
        sprites[:, :, :border],
        sprites[:, side - border :],
        sprites[:, :, side - border :],
    ):
        edge[:] = 0
    if solid:
        sprites[sprites[..., 3] == 0] = (9, 9, 9, 255)
    sheet = write(tmp_path_factory.getbasetemp() / "plain.png", tiled(sprites, columns))
    drawn = sprites[..., 3].any((1, 2))
    raw = files.load(sheet, (side, side))
    assert raw.ids.tolist() == np.flatnonzero(drawn).tolist()
    np.testing.assert_array_equal(raw.pixels, sprites[drawn])


def test_gaps_within_sprites_are_no_other_grid(tmp_path: Path):
    sprites = opaque(16, 24)
    # Lines come every 8 pixels, and so every 16, but every 24 as well.
    sprites[:, ::8] = sprites[:, :, ::8] = 0
    np.testing.assert_array_equal(files.load(write(tmp_path / "sheet.png", tiled(sprites, 4))).pixels, sprites)


@pytest.mark.parametrize("background", [None, (99, 133, 150, 255)])
def test_characters_are_a_plain_sheet(tmp_path: Path, background: tuple[int, ...] | None):
    sprites = synthetic.draw(200, 0)[0]
    if background:
        sprites[sprites[..., 3] == 0] = background
    np.testing.assert_array_equal(files.load(write(tmp_path / "sheet.png", tiled(sprites, 20))).pixels, sprites)


# Folders.


def test_decomposed_names_keep_the_order(tmp_path: Path):
    names = ["a.png", "é.png", "f.png", "ö2.png", "ö10.png", "z.png"]
    pixels = opaque(len(names), 8)
    orders = []
    for form in ("NFC", "NFD"):
        content = {unicodedata.normalize(form, name): image for name, image in zip(names, pixels, strict=True)}
        assert len(set(content) & set(names)) == (6 if form == "NFC" else 3)
        orders.append(data.load(DataConfig(source=str(write_folder(tmp_path / form, content)), render="sprite")))
    assert orders[0].sha256 == orders[1].sha256
    assert orders[0].files == orders[1].files
    assert set(orders[0].files) == set(names)


def test_the_order_is_not_that_of_the_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names = ["b2.png", "B2.png", "b02.png", "a.png", "é.png", unicodedata.normalize("NFD", "é.png")]
    folder = write_folder(tmp_path / "images", dict(zip(names, opaque(6, 8), strict=True)))
    listed = sorted(folder.iterdir())
    expected = files.load(folder).pixels
    for order in itertools.islice(itertools.permutations(listed), 0, 720, 90):
        walked = (str(folder), [], [file.name for file in order])
        monkeypatch.setattr(os, "walk", lambda *_, walked=walked, **__: iter([walked]))
        np.testing.assert_array_equal(files.load(folder).pixels, expected)


def test_what_a_folder_leaves_out_is_counted(tmp_path: Path):
    folder = write_folder(tmp_path / "images", {f"{n}.png": image for n, image in enumerate(opaque(3, 8))})
    for name in ("one", "two.png", ".git", "__MACOSX"):
        (folder / name).mkdir()
    (folder / "back").symlink_to(folder)
    for name in ("a.tif", "b.tif", "notes.TXT", "LICENSE", ".DS_Store"):
        (folder / name).write_text("")
    dataset = data.load(DataConfig(source=str(folder), render="sprite"))
    assert dataset.notes == (
        "left out 1 link to folders, 4 files of other formats (.tif, .txt, no suffix) and 3 hidden files",
    )
    assert dataset.files == () and "files" not in dataset.provenance()


def test_a_folder_of_folders_has_their_names_as_labels(tmp_path: Path):
    """Each image has the labels of all subfolders that it is in; the outermost holds all, so it is none."""
    names = ["all/cats/1.png", "all/cats/2.png", "all/dogs/1.png", "all/dogs/small/10.png", "all/dogs/small/9.png"]
    pixels = opaque(5, 8)
    for name, image in zip(names, pixels, strict=True):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, image)
    raw = files.load(tmp_path)
    assert raw.label_names == ("all/cats", "all/dogs", "all/dogs/small")
    # In natural order, folder by folder.
    assert raw.files == (*names[:3], "all/dogs/small/9.png", "all/dogs/small/10.png")
    np.testing.assert_array_equal(raw.pixels[:, ..., :3], pixels[[0, 1, 2, 4, 3]][..., :3])
    assert raw.labels.tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 1, 1]]
    assert "3 labels from the names of subfolders: all/cats, all/dogs, all/dogs/small" in raw.notes
    first = files.load(tmp_path, config=DataConfig(limit=2, render="sprite"))
    assert data.load(DataConfig(source=str(tmp_path), render="sprite", limit=2)).labels.shape == (2, 3)
    assert len(first.labels) == len(first.pixels)


def test_numbers_across_folders_are_ids_if_they_are_distinct(tmp_path: Path):
    for name, image in zip(("b/3.png", "a/7.png", "b/5.png"), opaque(3, 8), strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, image)
    raw = files.load(tmp_path)
    assert raw.ids.tolist() == [3, 5, 7] and raw.files == ()
    assert raw.label_names == ("a", "b") and raw.labels.tolist() == [[0, 1], [0, 1], [1, 0]]


def test_a_folder_without_images(tmp_path: Path):
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "a.txt").write_text("")
    message = refusal(files.load, tmp_path)
    assert "in this folder, only 1 file of other formats (.txt): name the folder that" in message


def test_ids_without_numbers_are_told(tmp_path: Path):
    folder = write_folder(tmp_path / "images", dict(zip(("b.png", "a.png", "c.png"), opaque(3, 8), strict=True)))
    dataset = data.load(DataConfig(source=str(folder), render="sprite", limit=2))
    assert dataset.files == ("a.png", "b.png")
    assert dataset.provenance()["files"] == {"0": "a.png", "1": "b.png"}
    assert len(dataset.notes) == 1 and dataset.notes[0].startswith(
        "the 3 file names do not each contain a distinct number"
    )


def test_a_name_that_is_not_utf8(tmp_path: Path):
    folder = write_folder(tmp_path / "images", dict(zip(["a.png", "b\udcff.png"], opaque(2, 8), strict=True)))
    assert data.load(DataConfig(source=str(folder), render="sprite")).files == ("a.png", "b\\udcff.png")


@pytest.mark.parametrize("source", ["", " ", "\t\n"])
def test_an_empty_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str):
    write_folder(tmp_path / "images", dict(zip(["0.png", "1.png"], opaque(2, 8), strict=True)))
    monkeypatch.chdir(tmp_path / "images")
    assert refusal(data.load, DataConfig(source=source)).startswith("data.source is empty: name a sheet")
    assert len(data.load(DataConfig(source=".")).images) == 2


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_folder(tmp_path / "images", dict(zip(["0.png", "1.png"], opaque(2, 8), strict=True)))
    assert data.load(DataConfig(source="~/images", render="sprite")).source == f"folder {tmp_path}/images"
    assert "there is no file" in refusal(data.load, DataConfig(source="~nobody-of-this-name/images"))


# Memory, and what it must not change.


@pytest.mark.parametrize("render", ["reference", "sprite"])
def test_images_are_held_one_at_a_time(tmp_path: Path, render: im.Render):
    large = {f"{number}.png": np.full((600, 600, 4), number, np.uint8) for number in range(20)}
    folder = write_folder(tmp_path / "images", {name: image.repeat(2, 0)[:600] for name, image in large.items()})
    write(folder / "0.png", np.pad(np.zeros((576, 576, 4), np.uint8), ((0, 24), (0, 24), (0, 0)), constant_values=7))
    for name, image in large.items():
        image[3, 3] = 200
        write(folder / name, image)
    tracemalloc.start()
    try:
        if render == "sprite":
            assert "got 600x600: scale them down" in refusal(data.load, DataConfig(source=str(folder), render=render))
        else:
            data.load(DataConfig(source=str(folder), render=render))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # One image of 1.4 MB with its copies, and 20 of 48 KiB; all of them are 29 MB.
    assert peak < 12e6


@pytest.mark.parametrize("render", ["reference", "sprite"])
@pytest.mark.parametrize("limit", [None, 4, 2])
def test_sprites_among_others_are_rendered_like_these(tmp_path: Path, render: im.Render, limit: int | None):
    enlarged = im.enlarge(np.random.default_rng(0).integers(0, 256, (6, 24, 24, 4), np.uint8), 2)
    enlarged[2, :2, :2, 3] = 0
    enlarged[2, 0, 0, :3] = 9
    enlarged[3, 0, 0] = 77
    folder = write_folder(tmp_path / "images", {f"{n}.png": image for n, image in enumerate(enlarged)})
    # Oracle: all at once, over the background. The third is a sprite there; up to a limit of two all are.
    composed = im.over_background(enlarged[:limit], im.parse_colour("#638596"))
    sprites = composed[:, ::2, ::2] if limit == 2 else None
    expected = composed if sprites is None else sprites
    if render == "reference":
        expected = im.resize(composed) if sprites is None else im.render(sprites, render)
    config = DataConfig(source=str(folder), render=render, limit=limit)
    np.testing.assert_array_equal(data.load(config).images, expected)
    assert files.load(folder, config=config).read_as == (6, 48, 48, 4)


def test_more_images_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rendering, "_memory", lambda: 3 * 128 * 128 * 3)
    photos = {f"{number}.png": image for number, image in enumerate(opaque(4, 9))}
    folder = str(write_folder(tmp_path / "images", photos))
    assert "4 images need 0.0 GiB at 128x128, more than" in refusal(data.load, DataConfig(source=folder))
    assert len(data.load(DataConfig(source=folder, limit=3)).images) == 3
    assert "5 images need" in refusal(data.load, DataConfig(source="synthetic", synthetic_count=5))
