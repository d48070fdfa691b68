"""The programs on a model of transparent sprites: what they write is transparent."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flax_punkvae import images
from flax_punkvae.experiments import evaluate, explore, export, sample
from flax_punkvae.measures import critic
from flax_punkvae.publishing import folder, onnx_graphs, stablehlo
from flax_punkvae.trained import runs
from flax_punkvae.training import run_directory
from helpers import pages, transparent

SIZE = transparent.SIZE


@pytest.fixture(scope="module")
def run() -> Path:
    return pages.trained("transparent")


def pixels(file: Path | io.BytesIO) -> np.ndarray:
    with Image.open(file) as opened:
        assert opened.mode == "RGBA"
        return np.asarray(opened)


def test_the_grids_of_training_are_transparent(run: Path):
    """Oracle: the first test sprites, in the first row."""
    opened = runs.open_run(run)
    grid = pixels(run / "images" / "epoch-0010.png")
    first = images.enlarge(transparent.sprites(pages.COUNT)[opened.test_indices[:1]], 128 // SIZE)[0]
    np.testing.assert_array_equal(grid[2:130, 2:130], first)
    assert (grid[:2] == 0).all()


def test_sampled_files_are_the_models_samples(run: Path, tmp_path: Path):
    assert sample.main([str(run), "--count", "9", "--output", str(tmp_path / "out")]) == 0
    expected = runs.load(run).sample(9)
    for number, sprite in enumerate(expected):
        np.testing.assert_array_equal(pixels(tmp_path / "out" / f"{number:04d}.png"), sprite)
    grid, scale = pixels(tmp_path / "out" / "grid.png"), 256 // SIZE
    np.testing.assert_array_equal(grid[8 : 8 + 256, 8 : 8 + 256], images.enlarge(expected[:1], scale)[0])
    assert (grid[:8] == 0).all()
    assert all("nearest" in row for row in json.loads((tmp_path / "out" / "samples.json").read_text())["samples"])


def test_explored_and_exported_pictures_are_transparent(run: Path, tmp_path: Path):
    assert explore.main([str(run), "reconstruct", "3", "--output", str(tmp_path / "sheet.png")]) == 0
    sheet = pixels(tmp_path / "sheet.png")
    original = images.enlarge(transparent.sprites(pages.COUNT)[3:4], 2 * 128 // SIZE)[0]
    np.testing.assert_array_equal(sheet[4:260, 4:260], original)
    assert export.main([str(run), "--format", "png-atlas", "--count", "3", "--to", str(tmp_path / "a.png")]) == 0
    atlas = pixels(tmp_path / "a.png")
    assert atlas.shape == (2 * SIZE, 2 * SIZE, 4) and (atlas[SIZE:, SIZE:] == 0).all() and (atlas[..., 3] == 255).any()


def test_exports_name_their_colours_with_alpha(run: Path):
    onnx = pytest.importorskip("onnx")
    model = runs.load(run)
    assert model.description.palette is not None
    expected = ["#" + bytes(colour).hex() for colour in model.description.palette]
    assert expected[0] == "#00000000"
    for content in onnx_graphs.files(model).values():
        told = {each.key: each.value for each in onnx.load_from_string(content).metadata_props}
        assert json.loads(told["palette"]) == expected
    assert json.loads(stablehlo.files(model)[stablehlo.FACTS])["palette"] == expected


def test_a_published_models_card_and_pictures(run: Path):
    opened = runs.open_run(run)
    facts = run_directory.read_facts(run)
    content, _ = folder.files(opened.model, opened.config, facts, None, None, "mine", None, "me/mine", opened)
    assert "# uint8 RGBA" in content[folder.CARD].decode()
    for name in (folder.SAMPLES, folder.IMAGES):
        picture = pixels(io.BytesIO(content[name]))
        assert (picture[:8] == 0).all() and (picture[..., 3] == 255).any()


def test_all_measures_take_transparent_sprites(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(critic, "EPOCHS", 1)
    monkeypatch.setattr(critic, "LEAST_STEPS", 1)
    quick = ("--iwae-images", "2", "--iwae-samples", "1")
    assert evaluate.main([str(run), *quick, "--output", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert {"random"} == set(found["sample_fidelity"]) & {"random", "trained"}
    assert "label_frequencies" not in found
    rows = found["copying"]["rows"]
    assert rows["held-out (floor)"]["exact_copies"] == 0
    # Oracle: by hand, with all four channels.
    opened, sprites = runs.open_run(run), transparent.sprites(pages.COUNT)
    train, test = sprites[opened.train_indices], sprites[opened.test_indices]
    differing = [(train != sprite).any(-1).sum((1, 2)).min() for sprite in test]
    assert rows["held-out (floor)"]["median_pixels_to_nearest"] == np.median(differing)
    windows = [
        all(
            (train[:, y : y + 3, x : x + 3] == sprite[y : y + 3, x : x + 3]).all((1, 2, 3)).any()
            for y in range(SIZE - 2)
            for x in range(SIZE - 2)
        )
        for sprite in test
    ]
    local = found["local_validity"]
    measured = local["rows"]["held-out (floor)"].get("3", local["no_power"].get("3"))
    assert measured == pytest.approx(np.mean(windows))
