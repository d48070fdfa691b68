"""Bad input, as the training program meets it: every row one line, exit status 2, nothing made.

What each line must name is held by the tests of the module that refuses; here every row of theirs goes through the
program. Rows that need a process of their own are in test_programs.py.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flax_punkvae.config import TrainConfig
from flax_punkvae.errors import UserError, run_program
from flax_punkvae.experiments import train
from helpers.bad_input import BAD_FLAGS, BAD_IMAGES, BAD_PRESETS
from helpers.hub_server import HubServer
from helpers.hub_sets import MALFORMED, WRONG, environment, home, on_blue, server

__all__ = ["home", "on_blue", "server"]  # fixtures

Row = Callable[[Path], list[str]]


def preset(content: str | bytes) -> Row:
    def make(folder: Path) -> list[str]:
        (folder / "bad.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
        return ["--config", "bad.toml"]

    return make


def sheet(content: bytes) -> Row:
    def make(folder: Path) -> list[str]:
        (folder / "bad.png").write_bytes(content)
        return ["--data.source", "bad.png"]

    return make


def drawn(height: int, width: int, value: int) -> Row:
    def make(folder: Path) -> list[str]:
        Image.fromarray(np.full((height, width, 4), value, np.uint8)).save(folder / "bad.png")
        return ["--data.source", "bad.png"]

    return make


def images(*contents: tuple[int, int] | bytes) -> Row:
    def make(folder: Path) -> list[str]:
        (folder / "images").mkdir()
        for number, content in enumerate(contents):
            path = folder / "images" / f"{number}.png"
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                # None is a copy of another.
                Image.new("RGB", content, (number, 0, 0)).save(path)
        return ["--data.source", "images/"]

    return make


def noise(side: int) -> Row:
    """Images of more colours than a palette holds, as sprites."""

    def make(folder: Path) -> list[str]:
        (folder / "images").mkdir()
        for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (4, side, side, 3), np.uint8)):
            Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        return ["--data.source", "images/", *INDICES, "--data.colours", "65536"]

    return make


INDICES = ("--data.render", "indices", "--model.likelihood", "categorical", "--train.batch-size", "2")

ROWS: dict[str, Row] = {
    **{f"flags {' '.join(flags)}": lambda _, flags=flags: list(flags) for flags, _ in BAD_FLAGS},
    **{f"preset {text!r}": preset(text) for text, _ in BAD_PRESETS},
    "preset of other bytes": preset(b"\xff\xfe"),
    "preset that is missing": lambda _: ["--config", "missing.toml"],
    "preset that is a folder": lambda _: ["--config", "."],
    **{f"image: {name}": sheet(content) for name, (content, _) in BAD_IMAGES.items()},
    **{f"sheet of {h}x{w}": drawn(h, w, 255) for h, w in ((48, 49), (47, 48), (1, 1), (23, 23), (24, 24))},
    "empty sheet": drawn(48, 48, 0),
    "empty folder": images(),
    "folder of one image": images((24, 24)),
    "folder of two sizes": images((24, 24), (24, 24), (60, 60)),
    "folder with a few bad files": images((24, 24), b"", (24, 24), b"text"),
    "folder of a bomb": images((24, 24), BAD_IMAGES["a bomb"][0]),
    "no such source": lambda _: ["--data.source", "no-such.png"],
    "a source that is text": lambda folder: [*sheet(b"a note, not an image")(folder), "--data.render", "crisp"],
    "a source misspelt": lambda _: ["--data.source", "synthetc"],
    "bf16 on a CPU": lambda _: ["--train.precision", "bf16"],
    "a compilation cache below a file": lambda folder: [
        *preset("seed = 1")(folder),
        "--compilation-cache",
        "bad.toml/x",
    ],
    "a resume of nothing": lambda _: ["--resume"],
    "a resume of no run": lambda _: ["--resume", "--run-dir", "."],
    "a run in a file": lambda folder: [*preset("seed = 1")(folder), "--run-dir", "bad.toml"],
    "a run among other files": lambda folder: [*preset("seed = 1")(folder), "--run-dir", "."],
    "a shift out of the image": lambda folder: [*images((16, 16), (16, 16))(folder), *INDICES, "--data.shift", "16"],
    "sprites of too many colours": noise(128),
    "sprites that are photographs": noise(130),
    "sprites that cannot be halved so often": lambda folder: [*images((20, 20), (20, 20), (20, 20))(folder), *INDICES],
    "a sheet of other tiles": lambda folder: [*drawn(48, 48, 255)(folder), "--data.tile", "32", "32"],
    "a likelihood of other images": lambda folder: [*images((24, 24), (24, 24))(folder), *INDICES[:2]],
    "another backend": lambda _: ["--device", "gpu"],
    "processes without a coordinator": lambda _: ["--processes", "2"],
    "a coordinator without a port": lambda _: ["--coordinator", "here", "--processes", "2", "--process", "0"],
    "a process too many": lambda _: ["--coordinator", "here:1", "--processes", "2", "--process", "2"],
}


@pytest.mark.parametrize("row", ROWS.values(), ids=[name[:60].encode("unicode_escape").decode() for name in ROWS])
def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], row: Row):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train", *row(tmp_path)])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        run_program(train.main)
    printed = capsys.readouterr()
    assert stop.value.code == 2
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert printed.out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_fitted_batches_that_devices_cannot_share_are_refused_with_a_size_that_they_can():
    """Oracle: by hand. For sizes of 64, 56, 48, 40, 32 and 24, 257 images make batches of 52, 52, 43, 37, 29 and 24."""
    fitted = TrainConfig(batch_size=64, fit_batches=True)
    train._check_batches(fitted, 257, 4)
    with pytest.raises(UserError, match=r"257 training images make batches of 52, .* 8 devices: choose 24"):
        train._check_batches(fitted, 257, 8)
    with pytest.raises(UserError, match=r"3 training images make batches of 3, .* 8 devices: choose fewer devices"):
        train._check_batches(TrainConfig(), 3, 8)


# Every name is asked for in one process, which imports `datasets` once; waits between retries are not made.
SCRIPT = """
import json, sys, time
from pathlib import Path
time.sleep = lambda seconds: None
from flax_punkvae.errors import UserError
from flax_punkvae.experiments import train
for name in json.loads(sys.argv[1]):
    before = sorted(Path().rglob("*"))
    try:
        print(json.dumps([train.main(["--data.source", "hub:" + name]), "", False]))
    except UserError as error:
        print(json.dumps(["UserError", str(error), sorted(Path().rglob("*")) == before]))
"""


def test_bad_hub_sets(server: HubServer, home: Path, tmp_path: Path):
    (tmp_path / "o" / "here").mkdir(parents=True)
    names = [*WRONG, *(name for name in MALFORMED if "\0" not in name)]
    command = [sys.executable, "-c", SCRIPT, json.dumps(names)]
    env = environment(home / "bad", server.address)
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) == len(names)
    for name, (outcome, message, untouched) in zip(names, outcomes, strict=True):
        assert outcome == "UserError" and untouched, name
        assert message and "\n" not in message, name
