"""Frames of animations as viewers show them, and what becomes of them in a set."""

import io
from pathlib import Path

import numpy as np
import pytest

from flax_punkvae import data
from flax_punkvae.config import DataConfig
from flax_punkvae.data import animations, decode, files
from helpers.animated import Frame, apng, gif
from helpers.characters import sprites
from helpers.forms import FORMS, frames
from helpers.sources import refusal, write

FORMATS = {"animated GIFs": "gif", "animated PNGs": "png", "animated WebPs": "webp"}


def read(content: bytes, which: animations.Frames = "all") -> list[np.ndarray]:
    return list(animations.read(io.BytesIO(content), which))


def block(height: int, width: int, *colour: int) -> np.ndarray:
    return np.tile(np.array(colour, np.uint8), (height, width, 1))


def test_frames_of_an_apng_lie_on_what_is_under_them():
    """Oracle: the specification (APNG, dispose_op and blend_op), painted by hand."""
    red, blue, half = (255, 0, 0, 255), (0, 0, 255, 255), (0, 255, 0, 128)
    made = apng(
        [
            Frame(block(4, 4, *red), 0, 0),
            # Over: the red shows through. Then to transparent black (1).
            Frame(block(2, 2, *half), 1, 1, dispose=1, blend=1),
            # Source: it replaces, transparent as it is. Then to what was before (2).
            Frame(block(1, 2, *half), 0, 0, dispose=2, blend=0),
            Frame(block(1, 1, *blue), 3, 3),
        ]
    )
    found = read(made)
    expected = np.tile(block(4, 4, *red), (4, 1, 1, 1))
    expected[1, 1:3, 1:3] = found[1][1, 1]
    expected[2:, 1:3, 1:3] = 0
    expected[2, 0, :2] = half
    expected[3, 3, 3] = blue
    np.testing.assert_array_equal(np.stack(found), expected)
    # Green of alpha 128 / 255 over red, to the rounding of Pillow.
    assert np.abs(found[1][1, 1].astype(int) - (127, 128, 0, 255)).max() <= 1
    assert decode.head(io.BytesIO(made)) == ((4, 4), 4, False)
    np.testing.assert_array_equal(read(made, "first"), [block(4, 4, *red)])


def test_a_picture_for_other_viewers_is_no_frame():
    animation = [Frame(block(3, 3, level, 9, 9, 255), 0, 0) for level in (10, 20)]
    made = apng(animation, still=block(3, 3, 77, 77, 77, 255))
    assert [frame[0, 0, 0] for frame in read(made)] == [10, 20]
    assert [frame[0, 0, 0] for frame in read(made, "first")] == [10]
    found = decode.head(io.BytesIO(made))
    assert found and found.frames == 2


def test_frames_of_a_gif_lie_on_what_is_under_them():
    """Oracle: GIF89a, section 23 (disposal methods), painted by hand; the transparent index 5 leaves what is there."""
    palette = np.arange(128)[:, None] * (1, 2, 0)

    def indices(*rows: list[int]) -> np.ndarray:
        return np.array(rows, np.uint8)

    made = gif(
        [
            Frame(np.full((3, 4), 7, np.uint8), 0, 0, dispose=1),
            Frame(indices([9, 5], [9, 9]), 1, 0, dispose=3),
            Frame(indices([11]), 3, 2, dispose=2),
            Frame(indices([13]), 0, 0, dispose=1),
        ],
        palette,
        (4, 3),
        5,
    )
    shown = np.full((4, 3, 4), 7)
    shown[1, :2, 1:3] = [[9, 7], [9, 9]]
    shown[2, 2, 3] = 11
    shown[3, 2, 3] = -1
    shown[3, 0, 0] = 13
    expected = np.zeros((4, 3, 4, 4), np.uint8)
    expected[shown >= 0, :3] = palette[shown[shown >= 0]]
    expected[shown >= 0, 3] = 255
    found = np.stack(read(made))
    found[found[..., 3] == 0] = 0
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("form", FORMATS)
def test_frames_are_images_of_one_group(tmp_path: Path, form: str):
    """Oracle: the frames that were saved, without the fourth of each, which repeats the first."""
    source = FORMS[form](tmp_path / "set", 9)
    raw = files.load(source)
    opaque = np.concatenate([animation[:3] for animation in frames(3)])
    if form == "animated GIFs":
        opaque = opaque[..., 3] >= 128, opaque
        visible = (raw.pixels[..., 3] == 255) & opaque[0]
        assert visible.sum() > 0.95 * opaque[0].sum()
    else:
        drawn = opaque[..., 3] > 0
        np.testing.assert_array_equal(raw.pixels[drawn], opaque[drawn])
        np.testing.assert_array_equal(raw.pixels[..., 3], opaque[..., 3])
    assert raw.groups is not None and raw.groups.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    # Numbers of the repeats are not given to others.
    assert raw.ids.tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    suffix = FORMATS[form]
    assert raw.files[:4] == (f"walk0.{suffix}#0", f"walk0.{suffix}#1", f"walk0.{suffix}#2", f"walk1.{suffix}#0")
    assert "12 frames of 3 animations (--data.frames)" in raw.notes
    assert "left out 3 frames, each the repeat of an earlier one of its animation" in raw.notes
    first = raw.first(4)
    assert first.groups is not None and first.groups.tolist() == [0, 0, 0, 1]
    stills = files.load(source, config=DataConfig(frames="first", render="indices"))
    assert stills.ids.tolist() == [0, 1, 2] and stills.files == () and stills.groups is None
    np.testing.assert_array_equal(stills.pixels[..., 3], raw.pixels[[0, 3, 6], ..., 3])


def test_one_animation_is_a_set_and_its_names_are_those_of_frames(tmp_path: Path):
    source = FORMS["animated PNGs"](tmp_path / "set", 6) / "walk1.png"
    dataset = data.load(DataConfig(source=str(source), render="indices"))
    assert dataset.ids.tolist() == [0, 1, 2]
    assert dataset.provenance()["files"] == {str(number): f"walk1.png#{number}" for number in range(3)}
    # All are of one animation, so that they cannot be on one side of the split.
    assert files.load(source).groups is None


def test_animations_among_stills(tmp_path: Path):
    source = FORMS["animated PNGs"](tmp_path / "set", 6)
    write(source / "still7.png", sprites(20)[-1])
    raw = files.load(source)
    assert raw.files[0] == "still7.png" and raw.groups is not None
    assert raw.ids.tolist() == [0, 1, 2, 3, 5, 6, 7]
    assert raw.groups.tolist() == [0, 1, 1, 1, 2, 2, 2]


def test_a_damaged_frame_is_named(tmp_path: Path):
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder / "good.png", sprites(1)[0])
    content = apng([Frame(sprites(1)[0], 0, 0), Frame(sprites(2)[1], 0, 0)])
    (folder / "bad.png").write_bytes(content[:-60])
    message = refusal(files.load, folder)
    assert "1 of 2 images cannot be read: bad.png (damaged: " in message
