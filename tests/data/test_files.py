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
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from flax_punkvae import data
from flax_punkvae import images as im
from flax_punkvae.config import DataConfig
from flax_punkvae.data import decode, files, rendering
from flax_punkvae.data.decode import read_rgba
from helpers.bad_input import saved
from helpers.sources import opaque, png, refusal, write, write_folder

_RANDOM = np.random.default_rng(0)
PHOTO = Image.fromarray(_RANDOM.integers(0, 256, (6, 10, 3), np.uint8))
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


@pytest.mark.parametrize(("kind", "count"), [(0, 1), (2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("transparent", [False, True])
def test_16_bits_are_brought_to_8(kind: int, count: int, transparent: bool):
    """Oracle: the high byte of each sample, and the first pixel's colour, in all bits, as the transparent one."""
    samples = np.random.default_rng(kind).integers(0, 2**16, (3, 8, count))
    # Of one colour in 8 bits, but not in 16.
    samples[1, 1] = samples[0, 0] ^ 1
    key = (b"tRNS", samples[0, 0].astype(">u2").tobytes())
    content = png(16, kind, [row.astype(">u2").tobytes() for row in samples], *[key] * (transparent and kind < 4))
    levels = samples >> 8
    alpha = levels[..., -1:] if kind >= 4 else np.full((3, 8, 1), 255)
    if transparent and kind < 4:
        alpha[0, 0] = 0
    colours = levels[..., : 3 if kind & 2 else 1]
    expected = np.concatenate([np.broadcast_to(colours, (3, 8, 3)), alpha], axis=-1)
    np.testing.assert_array_equal(read_rgba(io.BytesIO(content)), expected)
    assert decode.head(io.BytesIO(content)) == ((3, 8), 1, True)


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
    for name in ("a.xcf", "b.xcf", "notes.TXT", "LICENSE", ".DS_Store"):
        (folder / name).write_text("")
    dataset = data.load(DataConfig(source=str(folder), render="sprite"))
    assert dataset.notes == (
        "left out 1 link to folders, 4 files of other formats (.xcf, .txt, no suffix) and 3 hidden files",
    )
    assert dataset.files == () and "files" not in dataset.provenance()


def test_a_folder_of_folders_has_their_names_as_labels(tmp_path: Path):
    """Each image has the labels of all subfolders that it is in; the outermost holds all, so it is no label."""
    names = ["all/cats/1.png", "all/cats/2.png", "all/dogs/1.png", "all/dogs/small/10.png", "all/dogs/small/9.png"]
    pixels = opaque(5, 8)
    for name, image in zip(names, pixels, strict=True):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, image)
    raw = files.load(tmp_path)
    assert raw.label_names == ("cats", "dogs", "dogs/small")
    # In natural order, folder by folder.
    assert raw.files == (*names[:3], "all/dogs/small/9.png", "all/dogs/small/10.png")
    np.testing.assert_array_equal(raw.pixels[:, ..., :3], pixels[[0, 1, 2, 4, 3]][..., :3])
    assert raw.labels.tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 1, 1]]
    assert "3 labels from the names of subfolders: cats, dogs, dogs/small" in raw.notes
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
    assert "in it, only 1 file of other formats (.txt): name the folder that" in message


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
    # Of sprites, only those are rendered that are needed.
    assert len(data.load(DataConfig(source="synthetic", synthetic_count=5)).images) == 5
