"""What is said about a set before training on it."""

from pathlib import Path

import numpy as np
import pytest

from flax_punkvae import data
from flax_punkvae.config import DataConfig
from flax_punkvae.data import Dataset, inspection, punks, synthetic
from flax_punkvae.data.raw import Raw
from helpers import all_punks
from helpers.sources import tiled, write, write_folder


def lines(config: DataConfig) -> tuple[Dataset, str]:
    dataset = data.load(config)
    return dataset, "\n".join(inspection.summary(dataset, dataset.parts(config)) + inspection.details(dataset))


def test_a_folder_is_described(tmp_path: Path):
    sprites = synthetic.draw(40, 0)[0]
    changed = sprites[5].copy()
    changed[0, 0] = (1, 2, 3, 200)
    images = {f"hero {place}.png": sprite for place, sprite in enumerate(sprites)}
    images |= {"same.png": sprites[3], "nearly.png": changed, "mirrored.png": sprites[4, :, ::-1]}
    folder = write_folder(tmp_path / "set", images)
    dataset, text = lines(DataConfig(source=str(folder), render="indices"))
    assert dataset.sprites is not None
    pixels = dataset.sprites.reshape(-1, 4)
    for expected in (
        f"data: folder {folder}, 42 images of 24x24, SHA-256 {dataset.sha256}",
        "left out 1 exact copy of other images, such as same.png (of hero 3.png)",
        "split: 34 training, 8 test images",
        # Oracle: sets of colours.
        f"colours: {len({tuple(pixel) for pixel in pixels.tolist()})} in all, ",
        f"transparency: {(pixels[:, 3] == 0).mean():.2%} of pixels are transparent, ",
        "near copies, at most 2% of pixels differ: 1, such as nearly.png and hero 5.png",
        "near copies, mirrored: 1, such as mirrored.png and hero 4.png",
    ):
        assert expected in text, text
    assert "moved by one pixel" not in text and "verified" not in text


def test_colours_of_a_sprite(tmp_path: Path):
    sprites = synthetic.draw(30, 0)[0]
    each = [len(np.unique(sprite.reshape(-1, 4), axis=0)) for sprite in sprites]
    _, text = lines(DataConfig(source=str(write(tmp_path / "sheet.png", tiled(sprites, 6))), render="indices"))
    assert f" in all, {min(each)} to {max(each)} in a sprite" in text
    assert "near copies: none" in text


def test_labels_and_groups_are_counted(monkeypatch: pytest.MonkeyPatch):
    sprites, labels, names = synthetic.draw(30, 0)
    groups = np.arange(30) // 4
    monkeypatch.setattr(data, "_read", lambda _: Raw(sprites, np.arange(30), labels, names, "own", groups=groups))
    _, text = lines(DataConfig(source="own/", render="indices"))
    most = labels.sum(0).argmax()
    assert f"labels: {len(names)}: {names[most]} ({labels.sum(0).max()}), " in text
    assert "; 30 images are in 8 groups, never on both sides" in text


@pytest.mark.parametrize(
    ("source", "own"),
    [
        ("auto", False),
        ("punks", False),
        ("synthetic", False),
        ("hub:huggingnft/cryptopunks", False),
        ("hub:huggingnft/cryptopunks@main", False),
        ("hub:huggingnft/others", True),
        ("punks/", True),
        ("a/synthetic", True),
    ],
)
def test_own_sets(source: str, own: bool):
    assert data.is_own(source) == own


def test_lines_about_punks_are_for_punks(tmp_path: Path):
    pixels = all_punks.load().pixels.copy()
    assert data.load(DataConfig(source="punks", render="sprite")).verification == punks.VERIFIED
    sheet = write(tmp_path / "punks.png", tiled(pixels, 100))
    dataset = data.load(DataConfig(source=str(sheet), render="sprite"))
    assert dataset.verification == punks.VERIFIED and dataset.provenance()["verification"] == punks.VERIFIED
    # A set of the punks' number and size, which is another one.
    pixels[17, 3, 5] = (1, 2, 3, 255)
    sheet = write(tmp_path / "other.png", tiled(pixels, 100))
    dataset = data.load(DataConfig(source=str(sheet), render="sprite"))
    assert dataset.verification == "" and "verification" not in dataset.provenance()
