"""Model: opened from a run without its images, and what it answers, held against the images themselves."""

import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

import flax_punkvae
from flax_punkvae import data, images
from flax_punkvae.config import DataConfig
from flax_punkvae.errors import UserError
from flax_punkvae.experiments import explore, sample, train
from flax_punkvae.trained.model import Model
from flax_punkvae.trained.runs import open_run
from flax_punkvae.training import checkpoints, description, run_directory, sums
from helpers.descriptions import DESCRIPTION
from helpers.programs import PICTURES

PRESET = Path(__file__).parents[2] / "experiments" / "sprite" / "config.toml"
RENDERS = {
    "reference": PICTURES[4:],
    "indices": (
        *("--config", str(PRESET), "--model.hidden", "16", "--model.latent", "4"),
        *("--train.batch-size", "7", "--train.checkpoint-every", "1"),
        # After two epochs, the autoregressive decoder draws the same sprite from all latents.
        *("--model.pixel-hidden", "0"),
    ),
}


@pytest.fixture(scope="module")
def sprites() -> np.ndarray:
    """Forty sprites."""
    return data.load(DataConfig(source="synthetic", synthetic_count=40, render="sprite")).images[:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, sprites: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("model") / "sprites"
    path.mkdir()
    for number, sprite in enumerate(sprites):
        Image.fromarray(sprite).save(path / f"{number:02d}.png")
    return path


@pytest.fixture(scope="module", params=RENDERS)
def run(request: pytest.FixtureRequest, folder: Path) -> Path:
    """A run of two epochs on the folder."""
    path = folder.parent / request.param
    arguments = (*RENDERS[request.param], "--data.source", str(folder))
    assert train.main([*arguments, "--train.epochs", "2", "--run-dir", str(path)]) == 0
    return path


@pytest.fixture
def moved(run: Path, folder: Path, tmp_path: Path) -> Path:
    """A copy of the run whose images are nowhere."""
    copy = Path(shutil.copytree(run, tmp_path / "copy", ignore=shutil.ignore_patterns("samples")))
    config = copy / "config.toml"
    config.write_text(config.read_text().replace(str(folder), str(tmp_path / "gone")))
    return copy


def forget_models(run: Path) -> None:
    """Make the checkpoints those of a run that was saved before they held a description of the model."""
    for checkpoint in (run / "checkpoints").iterdir():
        shutil.rmtree(checkpoint / "model")
        sums.write(checkpoint, ("state", "meta"))


def test_it_opens_without_its_images_and_says_what_it_is(run: Path, moved: Path, sprites: np.ndarray):
    model = flax_punkvae.load(str(moved))
    facts = run_directory.read_facts(run)
    described = model.description
    train_indices, _ = data.split(40, 0.2, 0)
    assert described.params_sha256 == facts["params_sha256"] == checkpoints.digest(model.params)
    assert (described.step, described.epochs) == (facts["final_step"], 2.0) == (8, 2.0)
    assert described.images_sha256 == facts["data"]["sha256"] and described.source == facts["data"]["source"]
    np.testing.assert_array_equal(described.train_indices, train_indices)
    colours = {tuple(colour) for colour in sprites[train_indices].reshape(-1, 3).tolist()}
    assert described.palette is not None and {tuple(colour) for colour in described.palette.tolist()} == colours
    config = run_directory.read_config(run)
    assert (described.model, described.train, described.seed) == (config.model, config.train, config.seed)
    assert model.notes == ("checkpoint: step 8 (last)",)
    assert flax_punkvae.load(moved, checkpoint=4).description.step == 4


def test_sampling_encoding_and_decoding_follow_from_the_parameters(run: Path, moved: Path):
    """Oracle: the run opened with its images, and a second Model in the same process."""
    model, again, opened = flax_punkvae.load(moved), flax_punkvae.load(moved), open_run(run)
    # Re-encoded, the samples of a model of two epochs are all the same.
    drawn = model.sample(5, seed=3, reencode=0)
    size = (128, 128, 3) if run.name == "reference" else (24, 24, 3)
    assert drawn.shape == (5, *size) and drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn, again.sample(9, seed=3, reencode=0)[:5])
    assert not np.array_equal(drawn, model.sample(5, seed=4, reencode=0))
    positions = np.array([0, 7, 39])
    originals = opened.dataset.pictures(positions)
    for mine, theirs in zip(model.encode(originals), opened.encode(positions), strict=True):
        assert mine.dtype == np.float32 and mine.shape == (3, 4)
        np.testing.assert_array_equal(mine, theirs)
    decoded = model.decode(model.encode(originals)[0])
    assert decoded.shape == (3, *size) and decoded.dtype == np.uint8


def test_samples_are_reencoded(run: Path, moved: Path):
    """Oracle: decoded and encoded by hand, twice."""
    model = flax_punkvae.load(moved)
    drawn = model.sample(5, seed=3, reencode=0)
    once = model.decode(model.encode(drawn)[0])
    assert not np.array_equal(once, drawn)
    np.testing.assert_array_equal(model.sample(5, seed=3, reencode=1), once)
    twice = model.decode(model.encode(once)[0])
    np.testing.assert_array_equal(model.sample(5, seed=3, reencode=2), twice)
    np.testing.assert_array_equal(model.sample(5, seed=3), drawn if run.name == "reference" else twice)
    if run.name == "reference":
        # After two epochs, it encodes all of its samples alike.
        return
    new = model.sample(3, temperature=20.0, new=True, reencode=1)
    assert model.is_new(new).all() and len(np.unique(model.to_sprites(new), axis=0)) == 3


def test_a_completion_has_the_known_pixels(run: Path, moved: Path, sprites: np.ndarray):
    """Oracle: the sprite itself. A colour outside the palette is snapped; the seed decides the rest."""
    model = flax_punkvae.load(moved)
    known = np.broadcast_to(np.arange(24) < 12, (24, 24))
    given = sprites[0].copy()
    given[3, 4] += 1
    completed = model.complete(given, known, count=3, seed=1, steps=2)
    assert completed.shape == (3, 24, 24, 3)
    np.testing.assert_array_equal(
        completed[:, known], np.broadcast_to(model.to_sprites(given[None])[0][known], (3, 288, 3))
    )
    np.testing.assert_array_equal(model.to_sprites(completed), completed)
    np.testing.assert_array_equal(model.complete(given, known, count=3, seed=1, steps=2), completed)
    other = model.complete(given, known, count=3, seed=2, steps=2)
    # After two epochs, the reference decodes everything alike.
    assert np.array_equal(other, completed) == (run.name == "reference")


def test_sprites_are_taken_for_their_images(moved: Path, sprites: np.ndarray):
    model = flax_punkvae.load(moved)
    rendered = images.render(sprites[:4], model.description.render)
    np.testing.assert_array_equal(model.encode(sprites[:4])[0], model.encode(rendered)[0])
    np.testing.assert_array_equal(model.to_sprites(rendered), sprites[:4])
    np.testing.assert_array_equal(model.is_new(sprites), model.is_new(images.render(sprites, model.description.render)))


def test_new_is_what_is_no_training_sprite(moved: Path, sprites: np.ndarray):
    """Oracle: the bytes of the sprites themselves; one pixel in another colour of the palette makes a sprite new."""
    model = flax_punkvae.load(moved)
    train_indices, _ = data.split(40, 0.2, 0)
    known = {sprite.tobytes() for sprite in sprites[train_indices]}
    assert model.is_new(sprites).tolist() == [sprite.tobytes() not in known for sprite in sprites]
    assert model.is_new(sprites).any()
    changed = sprites[train_indices[:3]].copy()
    assert model.description.palette is not None
    other = model.description.palette[(model.description.palette != changed[0, 5, 5]).any(-1)][0]
    changed[:, 5, 5] = other
    assert model.is_new(changed).tolist() == [sprite.tobytes() not in known for sprite in changed]
    new = model.sample(3, temperature=20.0, new=True)
    assert model.is_new(new).all() and len(np.unique(model.to_sprites(new), axis=0)) == 3


@pytest.mark.parametrize("run", ["reference"], indirect=True)
def test_without_a_temperature_all_samples_of_a_normal_prior_are_the_same(run: Path):
    model = flax_punkvae.load(run)
    assert np.ptp(model.sample(2, temperature=0.0), axis=0).max() == 0
    with pytest.raises(UserError, match="found only 1 of 2 new and distinct sprites in 40 draws"):
        model.sample(2, temperature=0.0, new=True)
    assert "kernel" not in repr(model) and len(repr(model)) < 2000


BAD = {
    "model.sample(0)": "expected count from 1 to ",
    "model.sample(1, seed=-1)": "expected seed from 0 to ",
    "model.sample(1, temperature=float('nan'))": "expected a temperature from 0 to 100, got nan",
    "model.sample(1, reencode=101)": "expected reencode from 0 to 100, got 101",
    "model.sample(1, having='pipe')": "expected a sequence of labels, got a string",
    "model.sample(1, having=['pipe'])": "has no labels, so 'pipe' is unknown",
    "model.complete(sprites[0, :20], known)": "expected a uint8 RGB sprite [24, 24, 3], got uint8 [20, 24, 3]",
    "model.complete(sprites[0], known[:20])": "expected known pixels as bool [24, 24], got bool [20, 24]",
    "model.complete(sprites[0], known)": "no pixel is known: sample new sprites instead",
    "model.complete(sprites[0], ~known)": "every pixel is known, so there is nothing to fill in",
    "model.complete(sprites[0], known, count=0)": "expected count from 1 to 1000, got 0",
    "model.encode(sprites.astype('float32'))": "expected uint8 RGB [n, 24, 24, 3]",
    "model.encode(sprites[:, :20])": "got uint8 [40, 20, 24, 3]",
    "model.encode(sprites[0])": "got uint8 [24, 24, 3]",
    "model.is_new(sprites[:0])": "expected at least one image, got none",
    "model.decode(np.zeros((2, 5)))": "expected latents of shape [n, 4], got [2, 5]",
    "flax_punkvae.load('nowhere')": "nowhere holds no run",
    "flax_punkvae.load(where, checkpoint='first')": "'first' is not valid: use last, best or a step number",
    "flax_punkvae.load(where, checkpoint=3)": "has no checkpoint of step 3: choose one of 4, 8",
}
# In a process of its own, where no annotation is checked, as in a notebook; the package is imported without JAX.
SCRIPT = """
import json, sys
import flax_punkvae
assert "jax" not in sys.modules
import numpy as np
where = sys.argv[1]
model, sprites = flax_punkvae.load(where), np.zeros((40, 24, 24, 3), np.uint8)
known = np.zeros((24, 24), bool)
errors = {}
for code in json.loads(sys.argv[2]):
    try:
        eval(code)
    except flax_punkvae.errors.UserError as error:
        errors[code] = str(error)
print(json.dumps(errors))
"""


def test_bad_arguments_are_one_line(moved: Path):
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(moved), json.dumps(list(BAD))]
    done = subprocess.run(command, cwd=moved.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    errors = json.loads(done.stdout)
    for code, expected in BAD.items():
        assert expected in errors[code] and "\n" not in errors[code]


def test_samples_are_certified_without_the_images(run: Path, moved: Path, tmp_path: Path, capsys):
    """Oracle: the certificates with the images at hand, in all that needs none."""
    assert sample.main([str(moved), "--count", "4", "--output", str(tmp_path / "without")]) == 0
    printed = capsys.readouterr().out
    assert "the nearest training images were not looked up (" in printed and " new " in printed
    assert sample.main([str(run), "--count", "4", "--output", str(tmp_path / "with")]) == 0
    alone, beside = (json.loads((tmp_path / way / "samples.json").read_text()) for way in ("without", "with"))
    for row, full in zip(alone.pop("samples"), beside.pop("samples"), strict=True):
        assert {"nearest", "pixels_differ", "of_pixels"} == set(full) - set(row)
        assert row == {name: full[name] for name in row} and row["new"] == (full["pixels_differ"] > 0)
    assert alone == beside
    for file in ("0000.png", "0003.png", "grid.png"):
        assert (tmp_path / "without" / file).read_bytes() == (tmp_path / "with" / file).read_bytes()


@pytest.mark.parametrize("more", [("--data.source", "gone"), ("--from", "gaussian")])
def test_images_that_are_asked_for_must_be_there(moved: Path, tmp_path: Path, more: tuple[str, ...]):
    with pytest.raises(UserError, match=r"there is no file .*gone'"):
        sample.main([str(moved), "--count", "1", *more, "--output", str(tmp_path / "out")])
    with pytest.raises(UserError, match=r"there is no file .*gone'"):
        explore.main([str(moved), "reconstruct", "1"])
    assert not (tmp_path / "out").exists()


def test_images_that_have_moved_are_looked_up_where_they_are(moved: Path, folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert sample.main([str(moved), "--count", "1", "--data.source", str(folder), "--output", str(out)]) == 0
    assert "nearest" in json.loads((out / "samples.json").read_text())["samples"][0]


def test_other_images_in_their_place_are_noticed(moved: Path, folder: Path, tmp_path: Path, capsys):
    other = Path(shutil.copytree(folder, tmp_path / "gone"))
    path = other / f"{data.split(40, 0.2, 0)[0][2]:02d}.png"
    with Image.open(path) as image:
        pixels = np.asarray(image).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    with pytest.raises(UserError, match="does not hold the images that"):
        sample.main([str(moved), "--count", "1", "--data.source", str(other), "--output", str(tmp_path / "a")])
    assert sample.main([str(moved), "--count", "1", "--output", str(tmp_path / "b")]) == 0
    assert "does not hold the images that" in capsys.readouterr().out
    assert "nearest" not in json.loads((tmp_path / "b" / "samples.json").read_text())["samples"][0]


@pytest.mark.parametrize("source", ["hub:somebody/sprites", "auto"])
def test_nothing_is_fetched_without_being_asked_for(
    moved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, source: str
):
    monkeypatch.setattr("flax_punkvae.data.hub.load", lambda *_: pytest.fail("the hub was asked"))
    monkeypatch.setattr("flax_punkvae.data.punks.is_installed", lambda: False)
    config = moved / "config.toml"
    config.write_text(config.read_text().replace(str(tmp_path / "gone"), source))
    assert sample.main([str(moved), "--count", "1", "--output", str(tmp_path / "out")]) == 0
    name = "huggingnft/cryptopunks" if source == "auto" else "somebody/sprites"
    assert f"were not looked up: add --data.source hub:{name} to fetch them" in capsys.readouterr().out


def test_a_run_of_before_opens_through_its_images(run: Path, moved: Path, tmp_path: Path, capsys):
    """Oracle: the same run with its descriptions; it is resumed too, and saves one then.

    A palette model of before has another decoder, so it does not.
    """
    old = Path(shutil.copytree(run, tmp_path / "old"))
    forget_models(old)
    if run.name == "indices":
        with pytest.raises(UserError, match="old was trained with an older version, whose decoder was another"):
            flax_punkvae.load(old)
        return
    model, new = flax_punkvae.load(old), flax_punkvae.load(run)
    assert model.notes[0].startswith("opened with its training images") and model.notes[1:] == new.notes
    for field in dataclasses.fields(model.description):
        mine, theirs = (getattr(opened.description, field.name) for opened in (model, new))
        np.testing.assert_equal(mine, theirs)
    np.testing.assert_array_equal(model.sample(3), new.sample(3))
    assert sample.main([str(old), "--count", "2", "--output", str(tmp_path / "out")]) == 0
    assert "opened with its training images" in capsys.readouterr().out
    forget_models(moved)
    with pytest.raises(UserError, match=r"there is no file .*gone'"):
        flax_punkvae.load(moved)
    shutil.rmtree(old / "checkpoints" / "8")
    assert train.main(["--run-dir", str(old), "--resume"]) == 0
    assert flax_punkvae.load(old).notes == new.notes
    assert flax_punkvae.load(old).description.params_sha256 == new.description.params_sha256


def test_a_palette_run_without_its_lists_of_colours_is_said_to_be_older(run: Path, tmp_path: Path):
    """Loading and resuming: both say what to do."""
    if run.name == "reference":
        return
    old = Path(shutil.copytree(run, tmp_path / "old"))
    for checkpoint in (old / "checkpoints").iterdir():
        path = checkpoint / "model" / "model.safetensors"
        content = safetensors.numpy.load(path.read_bytes())
        path.write_bytes(safetensors.numpy.save({k: v for k, v in content.items() if k != "colours_at"}))
        sums.write(checkpoint, ("state", "meta", "model"))
    said = "the model was trained with an older version, train it again"
    with pytest.raises(UserError, match=said):
        flax_punkvae.load(old)
    with pytest.raises(UserError, match=said):
        train.main(["--run-dir", str(old), "--resume", "--train.epochs", "2"])


def test_a_description_of_other_parameters_is_damage(moved: Path):
    """Oracle: by hand; all files agree with their sums."""
    newest = moved / "checkpoints" / "8"
    facts = json.loads((newest / "model" / "model.json").read_text())
    facts["params_sha256"] = "0" * 64
    (newest / "model" / "model.json").write_text(json.dumps(facts))
    sums.write(newest, ("state", "meta", "model"))
    model = flax_punkvae.load(moved)
    assert model.description.step == 4
    assert model.notes[0] == "skipped damaged checkpoint 8 (damaged: the digest of its parameters differs)"


@given(
    palette=st.none() | arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.just(3))),
    indices=arrays.arrays(np.int64, st.integers(2, 9), elements=st.integers(0, 2**40)),
    names=st.lists(st.text(max_size=9), max_size=3),
    step=st.integers(0, 2**40),
    patience=st.integers(0, 9),
)
def test_a_description_is_read_as_it_was_written(palette, indices, names: list[str], step: int, patience: int):
    digests = np.random.default_rng(step).integers(0, 256, (len(indices), 32), np.uint8)
    written = dataclasses.replace(
        DESCRIPTION,
        train=dataclasses.replace(DESCRIPTION.train, patience=patience),
        palette=palette,
        train_indices=indices,
        train_digests=digests,
        label_names=tuple(names),
    ).at(step, "f" * 64)
    directory = Path(tempfile.mkdtemp()) / "model"
    description.write(directory, written)
    found = description.read(directory)
    shutil.rmtree(directory.parent)
    for field in dataclasses.fields(written):
        np.testing.assert_equal(getattr(found, field.name), getattr(written, field.name))


def test_the_module_is_compiled_once_for_equal_models(moved: Path):
    one, other = flax_punkvae.load(moved), flax_punkvae.load(moved)
    assert isinstance(one, Model) and one.module == other.module and hash(one.module) == hash(other.module)
