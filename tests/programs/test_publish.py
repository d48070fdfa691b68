"""publish, and models that are loaded from a folder or from a stand-in hub."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

import flax_punkvae
from flax_punkvae.config import Config
from flax_punkvae.errors import UserError
from flax_punkvae.experiments import evaluate, explore, publish, sample, train
from flax_punkvae.trained import published, runs
from flax_punkvae.trained.model import Model
from flax_punkvae.training import checkpoints
from helpers import pages
from helpers.descriptions import DESCRIPTION
from helpers.model_hub import ModelHub, commit_of

FILES = {"README.md", "config.json", "model.safetensors", "samples.png"}


@pytest.fixture(scope="module", params=["sprites", "pictures"])
def run(request: pytest.FixtureRequest) -> Path:
    return pages.trained(request.param)


@pytest.fixture(scope="module")
def folder(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("publish") / "published"
    assert publish.main([str(run), "--to", str(to), "--license", "cc0-1.0"]) == 0
    return to


@pytest.fixture
def hub() -> Iterator[ModelHub]:
    with ModelHub(lfs=("model.safetensors",)) as running:
        yield running


def with_hub(hub: ModelHub, cwd: Path, *arguments: str, offline: bool = False, token: bool = True) -> tuple[int, str]:
    """(exit status, output) of a program, given by name or as text, that knows no other hub."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = {
        **ours,
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(cwd / "hf"),
        "HF_HUB_OFFLINE": str(int(offline)),
        "HF_HUB_DISABLE_XET": "1",
        # A connection to any other address fails.
        **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:1"),
        "no_proxy": "127.0.0.1",
        **({"HF_TOKEN": hub.token} if token else {}),
    }
    program, *rest = arguments
    python = ("-c", program) if "\n" in program else ("-m", f"flax_punkvae.experiments.{program}")
    command = [sys.executable, *python, *rest]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=200)
    return done.returncode, done.stdout + done.stderr


# Prints the digest of each model, or the error.
LOADS = """
import sys, flax_punkvae
for name in sys.argv[1:]:
    try:
        print("=", flax_punkvae.load(name).description.params_sha256)
    except flax_punkvae.errors.UserError as error:
        print("= error:", error)
"""


def loaded(hub: ModelHub, cwd: Path, *names: str, offline: bool = False) -> list[str]:
    """The digests of the parameters of these models, or what `load` says, in one process."""
    code, said = with_hub(hub, cwd, LOADS, *names, offline=offline, token=False)
    assert code == 0, said
    return [line.removeprefix("= ") for line in said.splitlines() if line.startswith("= ")]


def test_a_published_model_is_the_run_without_its_images(run: Path, folder: Path, tmp_path: Path):
    """Oracle: the run itself."""
    assert {file.name for file in folder.iterdir()} >= FILES - {"samples.png"}
    model, original = flax_punkvae.load(folder), flax_punkvae.load(run)
    assert model.description.params_sha256 == original.description.params_sha256
    np.testing.assert_array_equal(model.sample(5, seed=3), original.sample(5, seed=3))
    sprites = original.to_sprites(original.sample(3))
    for mine, theirs in zip(model.encode(sprites), original.encode(sprites), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(model.is_new(sprites), original.is_new(sprites))
    # The weights are plain: any reader of safetensors finds the names of Flax.
    with safetensors.safe_open(folder / "model.safetensors", "numpy") as opened:
        names = opened.keys()
        assert all(name.startswith(("params.", "model.")) for name in names)
        assert len(opened.metadata()["tensors_sha256"]) == 64
    text = (folder / "config.json").read_text() + (folder / "README.md").read_text()
    assert str(run) not in text and str(tmp_path.parent) not in text


def test_the_card_is_for_people_and_for_the_hub(run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder.parent)
    text = (folder / "README.md").read_text()
    head = yaml.safe_load(text.split("---")[1])
    assert head["license"] == "cc0-1.0" and head["pipeline_tag"] == "unconditional-image-generation"
    assert {"flax", "jax", "vae", "pixel-art"} <= set(head["tags"])
    described = flax_punkvae.load(run).description
    assert described.images_sha256 in text and described.params_sha256 in text
    # The lines that load it are lines that work.
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    assert isinstance(names["sprites"], np.ndarray) and len(names["sprites"]) == 8


def test_images_of_the_set_are_published_only_if_asked_for(run: Path, tmp_path: Path):
    """Oracle: the set. Eight held-out images, in order, in the first row."""
    assert publish.main([str(run), "--to", str(tmp_path / "to"), "--with-images"]) == 0
    opened = runs.open_run(run)
    expected = opened.dataset.pictures(opened.test_indices[:8])
    scale = -(-96 // expected.shape[1])
    with Image.open(tmp_path / "to" / "reconstructions.png") as image:
        row = np.asarray(image)[8 : 8 + scale * expected.shape[1]]
    step = scale * expected.shape[2] + 8
    for number, picture in enumerate(expected):
        np.testing.assert_array_equal(row[::scale, 8 + number * step : step * (number + 1) : scale], picture)
    assert "(reconstructions.png)" in (tmp_path / "to" / "README.md").read_text()


def test_its_samples_are_new(run: Path, folder: Path):
    model = flax_punkvae.load(run)
    if not (folder / "samples.png").exists():
        pytest.skip("after one epoch, all pictures are the same")
    with Image.open(folder / "samples.png") as image:
        grid = np.asarray(image)
    tiles = [
        grid[8 + 104 * y : 104 * (y + 1), 8 + 104 * x : 104 * (x + 1)][::4, ::4] for y in range(3) for x in range(8)
    ]
    assert model.is_new(np.stack(tiles)).all()


def test_an_evaluation_goes_with_it(run: Path, tmp_path: Path):
    step = flax_punkvae.load(run).description.step
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    assert evaluate.main([str(copy), "--iwae-samples", "1", "--iwae-images", "2"]) == 0
    assert publish.main([str(copy), "--to", str(tmp_path / "to")]) == 0
    text = (tmp_path / "to" / "README.md").read_text()
    assert json.loads((tmp_path / "to" / "evaluation.json").read_text())["run"]["step"] == step
    assert "| measure | value |" in text and yaml.safe_load(text.split("---")[1])["model-index"]


def test_the_programs_take_it(run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.chdir(tmp_path)
    assert sample.main([str(folder), "--count", "2"]) == 0
    assert sample.main([str(run), "--count", "2", "--output", "theirs"]) == 0
    assert (tmp_path / "samples/prior-seed0/0001.png").read_bytes() == (tmp_path / "theirs/0001.png").read_bytes()
    assert explore.main([str(folder), "reconstruct", "3", "4"]) == 0
    assert (tmp_path / "explore/reconstruct-3-4.png").is_file()
    with pytest.raises(UserError, match="does not hold the images"):
        explore.main([str(folder), "reconstruct", "3", "--data.source", "punks"])
    with pytest.raises(UserError, match="leave --checkpoint out"):
        sample.main([str(folder), "--checkpoint", "last"])
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def damage(folder: Path, how: str) -> str:
    """Damage a copy of a published model; what the error must say."""
    config, weights = folder / "config.json", folder / "model.safetensors"
    facts = json.loads(config.read_text())
    if how == "cut":
        weights.write_bytes(weights.read_bytes()[:-9])
    elif how == "a byte":
        content = bytearray(weights.read_bytes())
        content[-5] ^= 1
        weights.write_bytes(content)
        return "the digest of its tensors differs"
    elif how == "another's":
        tensors = safetensors.numpy.load(weights.read_bytes())
        name = next(name for name in tensors if name.startswith("params."))
        tensors[name] = tensors[name] + 1
        weights.write_bytes(safetensors.numpy.save(tensors))
    elif how == "not JSON":
        config.write_text("{")
    elif how == "a field":
        del facts["image_shape"]
        config.write_text(json.dumps(facts))
    elif how == "version":
        config.write_text(json.dumps({**facts, "format": 2}))
        return "update flax_punkvae"
    else:
        config.write_text(json.dumps({"model_type": "bert"}))
        return "does not describe a model"
    return "damaged"


@pytest.mark.parametrize("how", ["cut", "a byte", "another's", "not JSON", "a field", "version", "kind"])
def test_what_is_damaged_or_unknown_is_one_line(folder: Path, tmp_path: Path, how: str):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    says = damage(copy, how)
    with pytest.raises(UserError, match=says) as caught:
        flax_punkvae.load(copy)
    assert "\n" not in str(caught.value)


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": lambda array: array,
    "Fortran": np.asfortranarray,
    "transposed": np.transpose,
    "reversed": lambda array: array[::-1],
    "strided": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
}


@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=4, max_side=5), elements=st.floats(width=32)),
    st.sampled_from(sorted(LAYOUTS)),
)
def test_tensors_are_stored_as_they_read(array: np.ndarray, layout: str):
    """A Fortran-ordered or strided array would come back as garbage. Read by safetensors itself, and by `read`."""
    laid_out = LAYOUTS[layout](array)
    described = dataclasses.replace(DESCRIPTION, params_sha256=checkpoints.digest({"a": {"x": laid_out}}))
    model = Model(described, {"a": {"x": laid_out}}, "last")
    with tempfile.TemporaryDirectory() as folder:
        for name, content in published.files(model, Config(), {}).items():
            Path(folder, name).write_bytes(content)
        found = published.read(Path(folder)).params["a"]["x"]
        stored = safetensors.numpy.load(Path(folder, "model.safetensors").read_bytes())["params.a.x"]
    assert found.tobytes() == stored.tobytes() == laid_out.tobytes() and found.shape == laid_out.shape


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--to", "hub:nobody"), "is not the name of a model"),
        (("--to", "hub:a/b"), "--license is needed for an upload"),
        (("--to", "hub:a/b", "--license", "mit"), "add --yes"),
        (("--to", "new", "--private"), "--private is for an upload"),
        (("--to", "new", "--revision", "x"), "--revision is for an upload"),
    ],
)
def test_bad_flags_are_one_line(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple, says: str):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(says)):
        publish.main([str(run), *flags])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(run: Path, folder: Path):
    with pytest.raises(UserError, match="is not empty"):
        publish.main([str(run), "--to", str(folder)])


def test_by_way_of_the_hub(hub: ModelHub, tmp_path: Path):
    """Uploaded in one commit, regular files and LFS; downloaded once, and then used offline."""
    run = pages.trained("sprites")
    code, said = with_hub(
        hub, tmp_path, "publish", str(run), "--to", "hub:o/m", "--license", "mit", "--yes", "--private"
    )
    assert code == 0 and "uploaded to hub:o/m" in said, said
    assert hub.private["o/m"] and sum(path.endswith("/commit/main") for _, path in hub.asked) == 1
    assert set(hub.branches["o/m"]["main"]) >= FILES - {"samples.png"} and len(hub.objects) == 1
    code, said = with_hub(hub, tmp_path, "sample", "hub:o/m", "--count", "2", "--output", "a", token=False)
    assert code == 0, said
    asked = len(hub.asked)
    code, said = with_hub(hub, tmp_path, "sample", "hub:o/m@main", "--count", "2", "--output", "b", offline=True)
    assert code == 0 and len(hub.asked) == asked, said
    assert sample.main([str(run), "--count", "2", "--output", str(tmp_path / "c")]) == 0
    for name in ("0000.png", "0001.png"):
        assert len({(tmp_path / each / name).read_bytes() for each in "abc"}) == 1
    # A branch of its own; the main one stays as it is.
    before = dict(hub.branches["o/m"]["main"])
    flags = ("--to", "hub:o/m", "--revision", "v2", "--license", "mit", "--yes")
    code, said = with_hub(hub, tmp_path, "publish", str(run), *flags)
    assert code == 0 and set(hub.branches["o/m"]) == {"main", "v2"} and hub.branches["o/m"]["main"] == before, said


def test_an_upload_without_a_token_is_one_line(hub: ModelHub, tmp_path: Path):
    upload = ("publish", str(pages.trained("sprites")), "--to", "hub:o/m", "--license", "mit", "--yes")
    code, said = with_hub(hub, tmp_path, *upload, token=False)
    assert code == 2 and "the hub needs a token" in said and "Traceback" not in said


def folder_of(kind: str, to: Path) -> dict[str, bytes]:
    """The files of a published model of this kind."""
    assert publish.main([str(pages.trained(kind)), "--to", str(to)]) == 0
    return {file.name: file.read_bytes() for file in to.iterdir()}


def test_what_the_hub_does_not_have_is_one_line(hub: ModelHub, tmp_path: Path):
    files = folder_of("sprites", tmp_path / "folder")
    hub.branches = {"o/m": {"main": files}, "o/other": {"main": {"README.md": b""}}, "o/bad": {"main": files}}
    hub.damaged.add("model.safetensors")
    expected = {
        "hub:o/unknown": "has no public model or revision of this name",
        "hub:o/m@v9": "has no public model or revision of this name",
        "hub:m": "is not the name of a model",
        "hub:o/other": "holds no model of flax_punkvae",
        "hub:o/bad": "the published model is damaged (the digest of its tensors differs): get it again",
    }
    for line, says in zip(loaded(hub, tmp_path, *expected), expected.values(), strict=True):
        assert line.startswith("error: ") and says in line and len(line) < 700


def test_connections_that_drop_are_taken_up_again_or_are_one_line(hub: ModelHub, tmp_path: Path):
    files = folder_of("sprites", tmp_path / "folder")
    hub.branches["o/m"] = {"main": files}
    digest = json.loads(files["config.json"])["params_sha256"]
    hub.drops["model.safetensors"] = 100
    (line,) = loaded(hub, tmp_path, "hub:o/m")
    assert line.startswith("error: hub:o/m: cannot be downloaded, and no copy is cached")
    assert hub.drops["model.safetensors"] < 100
    hub.drops["model.safetensors"] = 2
    assert loaded(hub, tmp_path, "hub:o/m") == [digest] and hub.drops["model.safetensors"] == 0


def test_a_branch_that_moves_is_followed_and_a_commit_stays(hub: ModelHub, tmp_path: Path):
    old, new = folder_of("sprites", tmp_path / "old"), folder_of("drawn", tmp_path / "new")
    before, after = (json.loads(files["config.json"])["params_sha256"] for files in (old, new))
    hub.branches["o/m"] = {"main": old}
    assert loaded(hub, tmp_path, "hub:o/m") == [before]
    hub.branches["o/m"] = {"main": new, "kept": old}
    names = ("hub:o/m", f"hub:o/m@{commit_of(old)}", "hub:o/m@kept")
    assert loaded(hub, tmp_path, *names) == [after, before, before]
    assert loaded(hub, tmp_path, *names, offline=True) == [after, before, before]


def test_a_published_model_is_fine_tuned(folder: Path, run: Path, tmp_path: Path):
    """At a learning rate of almost nothing, the loss stays that of the model; the run remembers where it began."""
    few = ("--train.epochs", "1", "--train.learning-rate", "1e-30", "--data.split-seed", "1")
    arguments = ("--init", str(folder), "--data.source", "synthetic", *few, "--run-dir", str(tmp_path / "tuned"))
    assert train.main(arguments) == 0
    original, tuned = flax_punkvae.load(run), flax_punkvae.load(tmp_path / "tuned")
    z = np.random.default_rng(0).standard_normal((4, original.description.model.latent)).astype(np.float32)
    np.testing.assert_array_equal(tuned.encode(original.decode(z))[0], original.encode(original.decode(z))[0])
    facts = json.loads((tmp_path / "tuned" / "run.json").read_text())
    assert facts["init"]["params_sha256"] == original.description.params_sha256
    assert facts["config"]["init"] == str(folder)
    to = tmp_path / "again"
    assert publish.main([str(tmp_path / "tuned"), "--to", str(to)]) == 0
    assert f"- Fine-tuned from {folder.name}, step {original.description.step}" in (to / "README.md").read_text()
    assert str(tmp_path) not in (to / "config.json").read_text() + (to / "README.md").read_text()


@pytest.mark.parametrize(
    ("init", "line"),
    [
        ("missing", "missing holds no run (config.toml and run.json): name a run directory"),
        ("hub:me", "'hub:me' is not the name of a model: write hub:OWNER/NAME or hub:OWNER/NAME@REVISION"),
    ],
)
def test_a_model_to_fine_tune_that_is_not_there_is_one_line(init: str, line: str, tmp_path: Path):
    with pytest.raises(UserError) as caught:
        train.main(["--init", init, "--run-dir", str(tmp_path / "run")])
    assert str(caught.value) == line
    assert not (tmp_path / "run").exists()
