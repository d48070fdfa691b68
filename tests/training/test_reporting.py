"""What a run writes: metrics.jsonl, TensorBoard, grids, lines."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flax_punkvae.errors import UserError
from flax_punkvae.training.reporting import Report, losses_text, seconds_text

LOSSES = {"loss": 411.05, "mse": 322.48, "kl": 26.05}


def record(epoch: int) -> dict[str, float | int]:
    losses = {f"{part}/{name}": value for part in ("train", "test") for name, value in LOSSES.items()}
    return {"epoch": epoch, "step": 125 * epoch, "seconds": 60.0, **losses, "test/active_units": 17}


def report(run_dir: Path, first_step: int = 0) -> Report:
    return Report(run_dir, epochs=30, steps_per_epoch=125, batch_size=64, first_step=first_step)


@pytest.mark.parametrize(("seconds", "text"), [(4.25, "4.2s"), (60.0, "1m00s"), (185.9, "3m05s"), (3725.0, "1h02m")])
def test_durations(seconds: float, text: str):
    assert seconds_text(seconds) == text


def test_losses():
    assert losses_text({"test/" + name: value for name, value in LOSSES.items()}, "test/") == (
        "loss 411.05 (mse 322.48, kl 26.05)"
    )


def test_an_epoch_is_a_line_a_grid_and_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    grid = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    with report(tmp_path) as output:
        output.steps(125, LOSSES, 2.0)
        output.epoch(record(1), grid)
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == record(1)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "images" / "epoch-0001.png")), grid)
    events = b"".join(path.read_bytes() for path in (tmp_path / "tensorboard").iterdir())
    assert all(name.encode() in events for name in record(1) if "/" in name)
    printed = capsys.readouterr().out
    assert "epoch 1/30 step 125/125 32.0 images/s loss 411.05 (mse 322.48, kl 26.05)" in printed
    assert "test loss 411.05 (mse 322.48, kl 26.05)  17 active latents  1m00s" in printed
    assert printed.startswith("first step in 2.0s, including compiling") and printed.count("first step") == 1
    assert "\x1b" not in printed


def test_epochs_after_the_restored_step_are_dropped(tmp_path: Path):
    lines = [json.dumps(record(epoch)) for epoch in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"epoch": 4, "st')
    with report(tmp_path, first_step=2 * 125 + 17):
        pass
    assert (tmp_path / "metrics.jsonl").read_text() == "\n".join(lines[:2]) + "\n"


NO_RECORDS = [
    b"5",
    b"[]",
    b'"step"',
    b"null",
    b'{"epoch": 1}',
    b'{"epoch": 1, "step": null}',
    b'{"epoch": 1, "step": "125"}',
    b'{"epoch": 1, "step": NaN}',
    b'{"epoch": 1, "step": ',
    b'{"epoch": "\xff", "step": 125}',
    b"\xff\xfe\x00",
    b"[" * 100_000,
]


@pytest.mark.parametrize("damaged", NO_RECORDS, ids=[str(line[:30]) for line in NO_RECORDS])
def test_a_damaged_line_costs_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str], damaged: bytes):
    """Oracle: the other lines, byte for byte."""
    lines = [json.dumps(record(epoch)).encode() for epoch in (1, 2)]
    (tmp_path / "metrics.jsonl").write_bytes(b"\r\n".join([lines[0], damaged, b"", lines[1], damaged]))
    with report(tmp_path, first_step=2 * 125):
        pass
    assert (tmp_path / "metrics.jsonl").read_bytes() == b"".join(line + b"\n" for line in lines)
    assert capsys.readouterr().out == f"{tmp_path / 'metrics.jsonl'}: skipped unreadable lines: 1\n"


@pytest.mark.parametrize("name", ["metrics.jsonl", "images", "tensorboard", "images/epoch-0001.png"])
def test_a_link_out_of_the_run_is_not_followed(tmp_path: Path, name: str):
    """Oracle: what the link leads to is as it was; a link within the run is none of this."""
    run, outside = tmp_path / "run", tmp_path / "outside"
    (run / "images" if "/" in name else run).mkdir(parents=True)
    outside.mkdir()
    (run / name).symlink_to(outside)
    with pytest.raises(UserError, match="a symbolic link leads out of the run directory"), report(run) as output:
        output.epoch(record(1), np.zeros((2, 2, 3), np.uint8))
    assert not any(outside.iterdir())


def test_one_test_image_tells_nothing_of_collapse(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Over one image no latent varies, so that its record has no active units."""
    of_one = {name: value for name, value in record(1).items() if name != "test/active_units"}
    with report(tmp_path) as output:
        output.epoch({**of_one, "test/kl": 0.1}, np.zeros((2, 2, 3), np.uint8))
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {**of_one, "test/kl": 0.1}
    printed = capsys.readouterr().out
    assert "test loss 411.05" in printed and "collapse" not in printed and "active" not in printed


@pytest.mark.parametrize("part", ["validation", "test"])
@pytest.mark.parametrize("resumed", [0, 1, 2, 4, 6])
def test_a_run_past_its_best_says_so_once(tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str, resumed: int):
    """Oracle: by hand. Of 30 20 22 23 40 10 40 the lowest is 20 up to the fourth, which is 15 % above it.

    The third is not more than 10 % above it. However often the run is resumed, no later one counts; nor does the other
    part, which is at its worst at the third.
    """
    other = "test" if part == "validation" else "train"

    def losses(epoch: int, loss: float) -> dict[str, float | int]:
        extra = {f"{part}/{name}": value for name, value in LOSSES.items()}
        return {**record(epoch), **extra, f"{part}/loss": loss, f"{other}/loss": 90.0 if epoch == 3 else 1.0}

    epochs = [losses(number, loss) for number, loss in enumerate((30.0, 20.0, 22.0, 23.0, 40.0, 10.0, 40.0), 1)]
    for first, last in ((0, resumed), (resumed, 7)):
        with report(tmp_path, first_step=125 * first) as output:
            for line in epochs[first:last]:
                output.epoch(line, np.zeros((2, 2, 3), np.uint8))
    printed = capsys.readouterr().out
    assert printed.count("past its best") == 1
    assert f"the {part} loss, 23.00, is 15% above that of epoch 2, 20.00" in printed.replace("15 %", "15%")
    (line,) = [line for line in printed.splitlines() if "past its best" in line]
    assert ("checkpoint of epoch 2 is kept" in line) == (part == "validation")
    before, after = printed.split(line)
    assert "epoch 4/30" in before and "epoch 5/30" in after and "epoch 5/30" not in before


def test_losses_while_beta_rises_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The first is the lowest, of a beta that was still small; after the ramp they fall."""
    with Report(tmp_path, epochs=4, steps_per_epoch=125, batch_size=64, first_step=0, ramp=250) as output:
        for epoch, loss in enumerate((20.0, 60.0, 50.0, 40.0), 1):
            output.epoch({**record(epoch), "test/loss": loss}, np.zeros((2, 2, 3), np.uint8))
    assert "past its best" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kl", "active", "warned"), [(26.0, 17, False), (0.6, 1, False), (0.02, 3, True), (7.0, 0, True)]
)
def test_collapse_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kl: float, active: int, warned: bool
):
    with report(tmp_path) as output:
        output.epoch({**record(1), "test/kl": kl, "test/active_units": active}, np.zeros((2, 2, 3), np.uint8))
    printed = capsys.readouterr().out
    assert ("warning: posterior collapse" in printed) == warned
    assert not warned or f"{kl:.2f} nats per image and {active} of them are active" in printed
