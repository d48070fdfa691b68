"""Sheets that a file beside them describes: JSON of Aseprite and TexturePacker, XML, Tiled's tilesets and maps."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flax_punkvae import data
from flax_punkvae.config import DataConfig
from flax_punkvae.data import files
from helpers.characters import sprites
from helpers.forms import FORMS
from helpers.sources import refusal, tiled, write


def entry(left: int, top: int, width: int, height: int, **other: Any) -> dict[str, Any]:
    return {"frame": {"x": left, "y": top, "w": width, "h": height}, "rotated": False, "trimmed": False, **other}


def describe(folder: Path, frames: object, name: str = "hero.json", **meta: object) -> None:
    (folder / name).write_text(json.dumps({"frames": frames, "meta": {"image": "hero.png", **meta}}), encoding="utf-8")


def test_trimmed_frames_are_put_back_and_tags_are_groups(tmp_path: Path):
    """Oracle: the sprites before they were trimmed and packed."""
    sheet = FORMS["sheet with Aseprite's JSON"](tmp_path / "set", 8)
    raw = files.load(sheet)
    np.testing.assert_array_equal(raw.pixels, sprites(8))
    assert raw.groups is not None and raw.groups.tolist() == [0] * 4 + [1] * 4
    assert raw.files[1] == "hero.png#hero 1.aseprite"
    assert "8 sprites of 1 sheet, where a file beside it says" in raw.notes
    # The description and the folder are sources, too.
    for source in (sheet.with_suffix(".json"), sheet.parent):
        np.testing.assert_array_equal(files.load(source).pixels, raw.pixels)
    first = files.load(sheet, config=DataConfig(frames="first", render="indices"))
    np.testing.assert_array_equal(first.pixels, raw.pixels[[0, 4]])


def test_frames_by_name_are_grouped_by_what_their_names_share(tmp_path: Path):
    content = sprites(4)
    write(tmp_path / "hero.png", tiled(content, 4))
    names = ["run 0.png", "run 1.png", "jump_01.png", "jump_02.png"]
    describe(tmp_path, {name: entry(16 * place, 0, 16, 16) for place, name in enumerate(names)})
    raw = files.load(tmp_path / "hero.png")
    np.testing.assert_array_equal(raw.pixels, content)
    assert raw.groups is not None and raw.groups.tolist() == [0, 0, 1, 1]
    # A tile that is given is meant.
    assert files.load(tmp_path / "hero.png", (16, 16)).files == ()


def test_turned_frames_are_upright(tmp_path: Path):
    """TexturePacker turns them clockwise, and writes the size that they had before."""
    wide = sprites(2)[:, 3:13]
    write(tmp_path / "hero.png", np.concatenate([np.rot90(wide[0], -1), np.rot90(wide[1], -1)]))
    describe(tmp_path, [entry(0, 16 * n, 16, 10, rotated=True, filename=f"{n}") for n in (0, 1)])
    np.testing.assert_array_equal(files.load(tmp_path / "hero.png").pixels, wide)


def test_an_xml_atlas(tmp_path: Path):
    content = sprites(3)
    part = np.pad(content[2, 4:, 2:], ((0, 4), (0, 0), (0, 0)))
    write(tmp_path / "sheet.png", np.concatenate([content[0], content[1], part], axis=1))
    (tmp_path / "sheet.xml").write_text(
        '<TextureAtlas imagePath="sheet.png"><SubTexture name="a.png" x="0" y="0" width="16" height="16"/>'
        '<SubTexture name="b.png" x="16" y="0" width="16" height="16"/><SubTexture name="c.png" x="32" y="0" '
        'width="14" height="12" frameX="-2" frameY="-4" frameWidth="16" frameHeight="16"/></TextureAtlas>'
    )
    expected = content.copy()
    expected[2, :4] = expected[2, :, :2] = 0
    np.testing.assert_array_equal(files.load(tmp_path / "sheet.png").pixels, expected)


@pytest.mark.parametrize("embedded", [False, True])
def test_tilesets_and_maps(tmp_path: Path, embedded: bool):
    source = FORMS["tileset of Tiled"](tmp_path / "set", 12)
    content = sprites(12)
    tileset = source.read_text().split("\n", 1)[1]
    layer = '<layer><data encoding="csv">1,2</data></layer>'
    inner = tileset if embedded else '<tileset firstgid="1" source="tiles.tsx"/>'
    (source.parent / "level.tmx").write_text(f"<map>{inner}{layer}</map>")
    if embedded:
        source.unlink()
    for given in (source.parent / "level.tmx", source.parent, source):
        if given.exists():
            raw = files.load(given)
            np.testing.assert_array_equal(raw.pixels, content)
            assert raw.groups is None and raw.files[2] == "sheet.png#2"


def test_other_files_beside_are_no_descriptions(tmp_path: Path):
    sheet = FORMS["sheet of 16x16 tiles"](tmp_path / "set", 9)
    for name, text in {
        "sheet.json": '{"attributes": [], "frames": 3}',
        "broken.json": '{"frames": {',
        "deep.json": '"frames"' + "[" * 100_000,
        "list.json": '["frames"]',
        "sheet.xml": "<root/>",
        "other.tmx": "<map><tileset>",
        "outside.tsx": '<tileset tilewidth="8" tileheight="8"><image source="../sheet.png"/></tileset>',
        "absolute.tsx": f'<tileset tilewidth="8" tileheight="8"><image source="{sheet}"/></tileset>',
        "itself.tsx": '<tileset source="itself.tsx"/>',
    }.items():
        (sheet.parent / name).write_text(text)
    np.testing.assert_array_equal(files.load(sheet).pixels, sprites(9))


REGIONS: dict[str, tuple[object, str]] = {
    "outside of the sheet": ([entry(60, 0, 16, 16)], "0 is outside of the sheet: export the sheet"),
    "no numbers": ([{"frame": {"x": 0, "y": 0, "w": "wide", "h": 1}}], "0 has no whole numbers x, y, w, h"),
    "no frame": ([{}], "0 has no whole numbers"),
    "of no size": ([entry(0, 0, 0, 16)], "0 has an impossible size or place"),
    "huge": (
        [entry(0, 0, 4, 4, trimmed=True, sourceSize={"w": 10**9, "h": 1}, spriteSourceSize={"x": 0, "y": 0})],
        "0 has an impossible size or place",
    ),
}


@pytest.mark.parametrize(("frames", "expected"), REGIONS.values(), ids=list(REGIONS))
def test_impossible_descriptions_are_refused(tmp_path: Path, frames: object, expected: str):
    write(tmp_path / "hero.png", tiled(sprites(4), 4))
    describe(tmp_path, frames)
    message = refusal(files.load, tmp_path / "hero.png")
    assert expected in message and "hero." in message


def test_sources_that_describe_nothing(tmp_path: Path):
    bomb = '<!DOCTYPE t [<!ENTITY a "aaaa">]><tileset><image source="a.png"/></tileset>'
    for name, text, expected in (
        ("a.tsx", bomb, "a document type (<!DOCTYPE>) is not read: remove it"),
        ("b.tsx", '<tileset tilewidth="8" tileheight="8"><image source="b.png"/></tileset>', "(b.png) is not in its"),
        ("c.json", "{}", "it describes no sheet in its folder: name a sheet"),
        ("d.aseprite", "", "export a sheet and its JSON with Aseprite"),
    ):
        (tmp_path / name).write_text(text)
        message = refusal(files.load, tmp_path / name)
        assert message.startswith(f"{tmp_path / name}: ") and expected in message


def test_a_sheet_outside_of_the_folder_is_not_read(tmp_path: Path):
    (tmp_path / "set").mkdir()
    write(tmp_path / "sheet.png", tiled(sprites(4), 2))
    for path in ("../sheet.png", str(tmp_path / "sheet.png"), "..\\sheet.png", "x/../../sheet.png"):
        text = f'<tileset tilewidth="16" tileheight="16"><image source="{path}"/></tileset>'
        (tmp_path / "set" / "a.tsx").write_text(text)
        assert "it describes no sheet in its folder" in refusal(files.load, tmp_path / "set" / "a.tsx")


def test_files_of_aseprite_in_a_folder_are_named(tmp_path: Path):
    source = FORMS["flat folder"](tmp_path / "set", 4)
    (source / "hero.aseprite").write_bytes(b"")
    notes = data.load(DataConfig(source=str(source), render="indices")).notes
    assert "left out 1 file of other formats (.aseprite); export a sheet and its JSON with Aseprite" in notes[0]
