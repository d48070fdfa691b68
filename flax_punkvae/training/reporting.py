"""All output of a run: lines, the progress bar, metrics.jsonl, TensorBoard, image grids."""

import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]

from flax_punkvae import console
from flax_punkvae.images import save_png
from flax_punkvae.training.run_directory import inside

_METRICS = "metrics.jsonl"
_PLAIN_LINE_EVERY = 10.0
# Nats per image: less than the ln 2 = 0.69 needed to distinguish two kinds of images.
_COLLAPSED_KL = 0.5
# A held-out loss this many times the lowest so far is past its best.
_PAST_BEST = 1.1
# Metrics of a record other than the distortion.
_OTHERS = ("loss", "kl", "bits", "active_units")


def seconds_text(seconds: float) -> str:
    """Format a duration: `1h02m`, `3m05s` or `4.2s`."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{int(rest):02d}s" if minutes else f"{rest:.1f}s"


def losses_text(metrics: Mapping[str, float | int], prefix: str = "") -> str:
    """`loss 411.05 (mse 322.48, kl 26.05)` or, for example, `loss 26.26 (cross_entropy 8.01, kl 18.25), 37.89 bits`."""
    losses = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
    # Its name depends on the likelihood.
    distortion = next(name for name in losses if name not in _OTHERS)
    parts = f"{distortion} {losses[distortion]:.2f}, kl {losses['kl']:.2f}"
    return f"loss {losses['loss']:.2f} ({parts})" + (f", {losses['bits']:.2f} bits" if "bits" in losses else "")


class Report:
    """Write a training run's output: lines, bar, metrics.jsonl, grids, TensorBoard; a context that closes the bar.

    `ramp` is the number of steps over which beta rises: until then, losses say nothing about memorisation. Raises
    UserError if a symbolic link in the run directory leads out of it.
    """

    def __init__(
        self, run_dir: Path, epochs: int, steps_per_epoch: int, batch_size: int, first_step: int, ramp: int = 0
    ) -> None:
        self._run_dir = run_dir
        self._ramp = ramp
        self._epochs = epochs
        self._steps_per_epoch = steps_per_epoch
        self._batch_size = batch_size
        self._first_step = first_step
        self._started = time.monotonic()
        self._last_line = 0.0
        self._begun = False
        self._collapsed = False
        self._best: tuple[float, int] | None = None
        self._past_best = False
        for name in (_METRICS, "images", "tensorboard"):
            inside(run_dir, run_dir / name)
        records, unreadable = _keep_epochs(run_dir / _METRICS, first_step)
        for kept in records:
            self._watch(kept)
        for name in ("images", "tensorboard"):
            (run_dir / name).mkdir(exist_ok=True)
        # Not tensorboardX's SummaryWriter: its thread dies silently when the disk is full.
        self._events = EventsWriter(str(run_dir / "tensorboard" / "events"), f".{os.getpid()}")
        # Hides events after the restored step, which an interrupted run left.
        self._event(first_step + 1, session_log=SessionLog(status=SessionLog.START))
        self._console = console.terminal()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[losses]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task(
            "first step", total=epochs * steps_per_epoch, completed=first_step, losses="compiling"
        )
        if unreadable:
            self.say(f"{run_dir / _METRICS}: skipped unreadable lines: {unreadable}")

    def __enter__(self) -> "Report":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()
        # After an error, closing may fail too, as on a full disk; the first error is already being raised.
        with contextlib.nullcontext() if error is None else contextlib.suppress(OSError):
            self._events.close()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, soft_wrap=True)

    def steps(self, step: int, losses: dict[str, float], seconds_per_step: float) -> None:
        """Report progress: `step` steps are done in all, the last with these losses."""
        if not self._begun:
            self._begun = True
            self.say(
                f"first step in {seconds_text(seconds_per_step)}, including compiling or reading the compilation cache"
            )
        epoch, within = divmod(step - 1, self._steps_per_epoch)
        where = f"epoch {epoch + 1}/{self._epochs} step {within + 1}/{self._steps_per_epoch}"
        speed = f"{self._batch_size / seconds_per_step:.1f} images/s {losses_text(losses)}"
        self._progress.update(self._task, completed=step, description=where, losses=speed)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line >= _PLAIN_LINE_EVERY:
            self._last_line = now
            done = step - self._first_step
            left = (self._epochs * self._steps_per_epoch - step) * (now - self._started) / done
            self.say(f"{where} {speed} {seconds_text(left)} left")

    def epoch(self, record: dict[str, float | int], grid: UInt8[np.ndarray, "h w c"]) -> None:
        """Report the end of an epoch: `record` is its line in metrics.jsonl."""
        epoch, step = int(record["epoch"]), int(record["step"])
        with (self._run_dir / _METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
        save_png(grid, inside(self._run_dir, self._run_dir / "images" / f"epoch-{epoch:04d}.png"))
        for name, value in record.items():
            if "/" in name:
                self._event(step, summary=summary.scalar(name, value))
        image = summary.image("originals, reconstructions, samples", grid, dataformats="HWC")
        self._event(step, summary=image)
        self._events.flush()
        # Absent if there is only one test image, over which nothing can vary.
        active = record.get("test/active_units")
        parts = [part for part in ("train", "validation", "test") if f"{part}/loss" in record]
        fields = [f"epoch {epoch}/{self._epochs}", *(f"{part} {losses_text(record, f'{part}/')}" for part in parts)]
        fields += [f"{active} active latents"] if active is not None else []
        self.say("  ".join([*fields, seconds_text(record["seconds"])]))
        collapsed = active is not None and (record["test/kl"] < _COLLAPSED_KL or active == 0)
        if collapsed and not self._collapsed:
            self.say(
                f"warning: posterior collapse: the latents hold {record['test/kl']:.2f} nats per image and "
                f"{active} of them are active, so the decoder output is nearly the same for every image. This is "
                "often temporary in the first epochs; if it lasts, try another --seed, a smaller --train.beta or "
                "--train.learning-rate"
            )
        self._collapsed = collapsed
        if warning := self._watch(record):
            self.say(warning)

    def _watch(self, record: dict[str, Any]) -> str:
        """A warning if this is the run's first record whose held-out loss is 10 % above the lowest so far, else empty.

        Without validation images it looks at the test images: it selects nothing, and their loss is printed anyway.
        """
        part = "validation" if "validation/loss" in record else "test"
        loss, epoch = record.get(f"{part}/loss"), record.get("epoch")
        if not isinstance(loss, float) or not isinstance(epoch, int) or record["step"] <= self._ramp:
            return ""
        if self._best is None or loss < self._best[0]:
            self._best = loss, epoch
        best, best_epoch = self._best
        if self._past_best or loss <= _PAST_BEST * best or best <= 0:
            return ""
        self._past_best = True
        kept = (
            f"The checkpoint of epoch {best_epoch} is kept: you may stop here (Ctrl-C). For a better one"
            if part == "validation"
            else "Programs open the last checkpoint; --data.validation-fraction 0.1 keeps the best. For a better one"
        )
        return (
            f"warning: past its best: the {part} loss, {loss:.2f}, is {loss / best - 1:.0%} above that of epoch "
            f"{best_epoch}, {best:.2f}, so the model memorises its training images. {kept}, train on more images, or "
            "with --data.shift 1 (as in experiments/own_sprites/config.toml)"
        )

    def _event(self, step: int, **content: Any) -> None:
        self._events.write_event(Event(wall_time=time.time(), step=step, **content))


def _keep_epochs(path: Path, last_step: int) -> tuple[list[dict[str, Any]], int]:
    """Drop the records of epochs after the restored step, which will be run again, and lines that are no records.

    Returns the records kept and the number of the latter, except the last line: a kill may leave it half-written.
    """
    if not path.exists():
        return [], 0
    lines = [line for line in path.read_bytes().splitlines() if line.strip()]
    records = [_record(line) for line in lines]
    kept = [
        (line, record) for line, record in zip(lines, records, strict=True) if record and record["step"] <= last_step
    ]
    new = path.with_name(f".{path.name}.{os.getpid()}")
    inside(path.parent, new).write_bytes(b"".join(line + b"\n" for line, _ in kept))
    new.replace(path)
    return [record for _, record in kept], records[:-1].count(None)


def _record(line: bytes) -> dict[str, Any] | None:
    """The record in a line of metrics.jsonl; None if it is none, such as one without a step."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None
