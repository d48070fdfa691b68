"""`inspect` from its flags to its files, in this process; once as a program, without JAX."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flax_punkvae.data import synthetic
from flax_punkvae.errors import run_program
from flax_punkvae.experiments import inspect, train
from flax_punkvae.presets import read_preset
from helpers.sources import tiled, write, write_folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_last_line_trains_on_what_was_found(here: Path, capsys: pytest.CaptureFixture[str]):
    folder = here / "my heroes"
    write_folder(folder, {f"{place}.png": sprite for place, sprite in enumerate(synthetic.draw(30, 0)[0])})
    assert inspect.main(["my heroes/", "--data.split-seed", "7"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("data: folder my heroes, 30 images of 24x24")
    program, *arguments = shlex.split(last.removeprefix("python -m "))
    assert program == "flax_punkvae.experiments.train"
    # Read as `train` reads them: from anywhere, on the same images and split.
    options = train.read_options(arguments)
    assert (options.data.source, options.data.split_seed) == (str(folder), 7)
    assert options.data.render == "indices" and options.model.pixel_hidden
    text = Path(options.config or "").read_text()
    assert text.startswith("# folder my heroes, as `python -m flax_punkvae.experiments.inspect 'my heroes/'")
    # The comment says what was printed.
    assert all(f"# {line}\n" in text for line in lines if line.startswith(("colours", "training", "expect")))
    with Image.open(here / "inspected" / "my heroes" / "contact.png") as picture:
        assert picture.size[0] == 1200


def test_nothing_is_overwritten(here: Path, capsys: pytest.CaptureFixture[str]):
    small = ["synthetic", "--data.synthetic-count", "10"]
    for folder in ("synthetic", "synthetic-2"):
        assert inspect.main(small) == 0
        assert f"--config inspected/{folder}/config.toml" in capsys.readouterr().out.splitlines()[-1]
    (here / "full").mkdir()
    (here / "full" / "config.toml").write_text("mine")
    assert refused(["inspect", *small, "--to", "full"], capsys) == (
        "error: --to: full/config.toml exists: choose another folder, or remove it\n"
    )
    assert (here / "full" / "config.toml").read_text() == "mine"
    assert inspect.main([*small, "--to", "new/place"]) == 0
    assert read_preset(here / "new" / "place" / "config.toml").data.synthetic_count == 10


@pytest.mark.parametrize("render", ["reference", "crisp", "sprite"])
def test_other_renders_get_a_config_too(here: Path, render: str):
    assert inspect.main(["synthetic", "--data.synthetic-count", "30", "--data.render", render, "--to", "x"]) == 0
    config = read_preset(here / "x" / "config.toml")
    assert (config.data.render, config.model.likelihood) == (render, "gaussian")


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", arguments)
        run_program(inspect.main)
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["none.png"], "there is no file 'none.png'"),
        (["synthetic", "--data.source", "punks"], "synthetic and --data.source punks name two sets"),
        (["synthetic", "--data.test-fraction", "0"], "data.test_fraction"),
        (["synthetic", "--to", "file"], "--to: file is not a folder"),
        (["synthetic", "--data.synthetic-count", "9", "--to", "file/below"], "cannot be written"),
        (["large.png", "--data.tile", "130", "130"], "at most 128x128 pixels"),
        (["synthetic", "stray"], "stray"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_made(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
):
    (here / "file").touch()
    write(here / "large.png", tiled(np.random.default_rng(0).integers(0, 256, (4, 130, 130, 3), np.uint8), 2))
    before = sorted(here.rglob("*"))
    message = refused(["inspect", *arguments], capsys)
    assert expected in message and message.startswith("error: ") and message.count("\n") == 1
    assert sorted(here.rglob("*")) == before


def test_the_program_does_without_jax(here: Path):
    script = (
        "import json, sys\nfrom flax_punkvae.experiments.inspect import main\n"
        "main(['synthetic', '--data.synthetic-count', '20'])\n"
        "print(json.dumps([name in sys.modules for name in ('jax', 'flax', 'datasets', 'tensorboardX')]))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=here, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [False] * 4
