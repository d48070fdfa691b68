"""Images of a run by number and by name."""

from pathlib import Path

import numpy as np
import pytest

from flax_punkvae import data
from flax_punkvae.config import DataConfig
from flax_punkvae.errors import UserError
from flax_punkvae.trained import runs
from flax_punkvae.trained.runs import OpenedRun
from helpers import pages
from helpers.sources import write


def run_of(folder: Path, *names: str) -> OpenedRun:
    """A run whose images are these files."""
    for place, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True)
        pixels = np.full((8, 8, 3), place, np.uint8)
        pixels[3, 5] = 255
        write(folder / name, pixels)
    dataset = data.load(DataConfig(source=str(folder), render="sprite"))
    return runs.open_run(pages.trained("sprites"))._replace(dataset=dataset)


def test_a_file_name_is_as_good_as_a_number(tmp_path: Path):
    run = run_of(tmp_path, "tools/axe.png", "tools/saw.png", "toys/ball.png", "toys/saw.png")
    assert [run.number(name) for name in ("0", "axe.png", "tools/saw.png", "ball.png", "toys/saw.png")] == [
        0,
        0,
        1,
        2,
        3,
    ]
    with pytest.raises(
        UserError, match=r"^2 images of the run have the name 'saw.png', tools/saw.png and toys/saw.png for"
    ):
        run.number("saw.png")
    with pytest.raises(
        UserError, match=r"^no images of the run have the name 'bell.png': perhaps you meant toys/ball.png$"
    ):
        run.number("bell.png")


def test_a_name_with_its_number_is_that_number(tmp_path: Path):
    run = run_of(tmp_path, "punk7.png", "punk12.png")
    assert run.dataset.files == () and run.number("punk12.png") == run.number("12") == 12
    with pytest.raises(UserError, match=r"^no images of the run have the name 'punk.png': give a number$"):
        run.number("punk.png")
