"""export: the files for other programs, and what is refused."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import onnxruntime
import pytest
from jax import export as jax_export
from PIL import Image

import flax_punkvae
from flax_punkvae.errors import UserError
from flax_punkvae.experiments import export, publish
from flax_punkvae.publishing import stablehlo
from helpers import pages


@pytest.fixture(scope="module", params=["drawn", "pictures"])
def run(request: pytest.FixtureRequest) -> Path:
    return pages.trained(request.param)


def test_onnx_graphs_decode_what_the_model_decodes(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Oracle: the model. From a published folder, which a user of the graphs may have got."""
    assert publish.main([str(run), "--to", str(tmp_path / "folder")]) == 0
    assert export.main([str(tmp_path / "folder"), "--format", "onnx", "--to", str(tmp_path / "graphs")]) == 0
    said = capsys.readouterr().out
    assert "encoder.onnx, mean: greatest difference from JAX" in said and f"written to {tmp_path / 'graphs'}" in said
    model = flax_punkvae.load(run)
    session = onnxruntime.InferenceSession(tmp_path / "graphs" / "decoder.onnx", providers=["CPUExecutionProvider"])
    z = np.random.default_rng(1).standard_normal((3, model.description.model.latent)).astype(np.float32)
    if model.index_palette is None:
        (image,) = session.run(None, {"z": z})
        np.testing.assert_allclose(255 * np.asarray(image), model.decode(z).astype(float), atol=0.51)
    else:
        assert model.description.support
        uniform = np.full((3, len(model.description.support.open)), -1, np.float32)
        indices, margin = map(np.asarray, session.run(None, {"z": z, "uniform": uniform}))
        same = (model.index_palette[indices] == model.decode(z)).all(axis=-1)
        # A tie may fall to another colour, and then so may all that comes after it.
        clear = np.logical_and.accumulate(margin.reshape(3, -1) > 1e-4, axis=1).reshape(same.shape)
        assert same[clear].all() and clear.mean() > 0.2


def test_stablehlo_runs_without_this_package_and_says_what_it_takes(run: Path, tmp_path: Path):
    """Oracle: the model."""
    assert export.main([str(run), "--format", "stablehlo", "--to", str(tmp_path / "programs")]) == 0
    facts = json.loads((tmp_path / "programs" / stablehlo.FACTS).read_text())
    assert facts["jax"] == jax.__version__ and facts["platforms"] == ["cpu", "cuda", "tpu"]
    files = {program["file"] for program in facts["programs"]}
    assert files == {file.name for file in (tmp_path / "programs").iterdir()} - {stablehlo.FACTS}
    model = flax_punkvae.load(run)
    width = model.description.model.latent
    assert facts["programs"][1]["takes"] == {"z": f"float32 ['b', {width}]"}
    decoder = jax_export.deserialize(bytearray((tmp_path / "programs" / "decoder.stablehlo").read_bytes()))
    for count in (1, 4):
        z = np.random.default_rng(1).standard_normal((count, width)).astype(np.float32)
        decoded, expected = np.asarray(decoder.call(z)), model.decode(z)
        if model.index_palette is None:
            np.testing.assert_allclose(255 * decoded, expected.astype(float), atol=0.51)
        else:
            assert (model.index_palette[decoded[..., 0]] == expected).all(axis=-1).mean() > 0.99


def test_programs_that_differ_from_the_model_are_refused(run: Path):
    model = flax_punkvae.load(run)
    other = jax.tree.map(lambda leaf: leaf + 0.1, model.params)
    content = stablehlo.files(dataclasses.replace(model, params=other))
    with pytest.raises(
        UserError, match=r"^encoder.stablehlo differs from the model by \S+: do not use it; update jax$"
    ):
        stablehlo.check(model, content)


def test_an_atlas_of_new_samples(tmp_path: Path):
    """Oracle: `Model.sample`."""
    run = pages.trained("drawn")
    assert export.main([str(run), "--format", "png-atlas", "--to", str(tmp_path / "a.png"), "--count", "5"]) == 0
    listed = json.loads((tmp_path / "a.json").read_text())
    with Image.open(tmp_path / listed["image"]) as image:
        atlas = np.asarray(image)
    assert atlas.shape == (48, 72, 3) and listed["count"] == 5 and listed["tile"] == [24, 24]
    model = flax_punkvae.load(run)
    for frame, sprite in zip(listed["frames"], model.sample(5, seed=0, new=True), strict=True):
        x, y = frame["x"], frame["y"]
        np.testing.assert_array_equal(atlas[y : y + frame["h"], x : x + frame["w"]], sprite)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--format", "onnx", "--to", "full"), "--to: full is not empty: choose a new or empty folder"),
        (("--format", "png-atlas", "--to", "x"), "--to: x is not the name of a PNG file: end it with .png"),
        (("--format", "png-atlas", "--to", "full/a.png"), "--to: full/a.png exists: choose another name"),
        (
            ("--format", "png-atlas", "--to", "b.png", "--count", "0"),
            "--count: 0 is out of range: choose a whole number from 1 to 10000",
        ),
        (
            ("--format", "png-atlas", "--to", "b.png", "--seed", "-1"),
            "--seed: -1 is out of range: choose a whole number from 0 to 2147483647",
        ),
        (("--format", "onnx", "--to", "new"), "nothing holds no run (config.toml and run.json): name a run directory"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.png").write_bytes(b"")
    with pytest.raises(UserError) as caught:
        export.main(["nothing", *arguments])
    assert str(caught.value) == line
    assert {path.name for path in tmp_path.iterdir()} == {"full"}


def test_a_page_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """From a run and from the folder that it is, which is a published model; what the page does is in test_offline."""
    pages.measure_few(monkeypatch, 0)
    run = pages.trained("drawn")
    monkeypatch.chdir(tmp_path)
    assert export.main([str(run), "--format", "page", "--to", "one"]) == 0
    assert {"index.html", "page.json", "config.json", "model.safetensors"} < {x.name for x in Path("one").iterdir()}
    assert export.main(["one", "--format", "page", "--to", "two", "--with-images", "--data.source", "synthetic"]) == 0
    assert Path("two/model.safetensors").read_bytes() == Path("one/model.safetensors").read_bytes()
    assert Path("two/map/0.png").is_file() and not Path("one/map").exists()
    assert flax_punkvae.load("one").description.params_sha256 == flax_punkvae.load(run).description.params_sha256


def test_a_page_is_for_models_of_sprites_in_a_palette():
    with pytest.raises(UserError, match=r"^the page without Python takes models of sprites in a palette"):
        export.main([str(pages.trained("pictures")), "--format", "page", "--to", "nowhere"])
    assert not Path("nowhere").exists()
