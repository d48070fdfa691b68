"""A run's checkpoints through whatever may happen to them: a state machine, held against a plain record.

PUNKVAE_LIFE_RUNS sets how many runs of it (default 10).
"""

import contextlib
import functools
import gc
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import hypothesis
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from flax_punkvae import presets
from flax_punkvae.config import Config, ModelConfig
from flax_punkvae.errors import UserError
from flax_punkvae.model.vae import PunkVAE
from flax_punkvae.training import checkpoints, description, retention, sums
from flax_punkvae.training.state import TrainState
from helpers.descriptions import DESCRIPTION

STRAY = (".DS_Store", "._state", "Thumbs.db", "desktop.ini", "notes.txt", "8 copy", "008", "SHA256SUMS~")
losses = st.none() | st.integers(0, 5).map(float)
picks = st.integers(0, 10**6)


def state_of(step: int, value: float) -> TrainState:
    params = {"w": jnp.full((3, 2), value), "b": jnp.arange(4.0)}
    arrays = {"step": jnp.full((), step, jnp.int32), "params": params, "opt_state": (jnp.full(3, -value),)}
    rest = {"model": PunkVAE(ModelConfig()), "tx": optax.identity(), "beta": 1.0, "beta_warmup": 0}
    rest |= {"auxiliary": 0.0, "auxiliary_steps": 1}
    return TrainState(**arrays, **rest, mesh=None)


def save(directory: Path, state: TrainState, loss: float | None) -> None:
    meta = {"totals": {}, "best": None, "validation_loss": loss}
    checkpoints.save(directory, state, meta, DESCRIPTION)


def value_of(state: TrainState) -> float:
    return float(np.asarray(state.params["w"])[0, 0])


def config_of(table: Any, _: Path) -> Config:
    """`presets.from_run`, which takes half of the time of a read, and whose tables are all the same here."""
    return _config_of(json.dumps(table))


@functools.cache
def _config_of(table: str) -> Config:
    return presets.from_run(json.loads(table), Path("a description"))


@pytest.fixture(scope="module", autouse=True)
def _frozen() -> Iterator[None]:
    """The collections of `teardown` pass over what other tests have left, which is much."""
    gc.freeze()
    yield
    gc.unfreeze()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, with line endings of sums made alike, since these do not matter."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {
        name: content.replace(b"\r\n", b"\n") if name == "SHA256SUMS" else content for name, content in files.items()
    }


class Crash(BaseException):
    """The end of a process in the middle of a save."""


class Parsed(BaseException):
    """Like a failed assertion, but for code that takes any Exception for damage."""


class Life(RuleBasedStateMachine):
    """`saved` is the record: step to (value, validation loss, the bytes of its files when it was saved)."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp()) / "checkpoints"
        self.saved: dict[int, tuple[float, float | None, dict[str, bytes]]] = {}
        self.step, self.value = 0, 0.0
        self.saving: int | None = None
        self.patches = contextlib.ExitStack()
        for module, name in ((checkpoints, "_read_state"), (checkpoints, "_read_model"), (retention, "_read_meta")):
            self.patches.enter_context(mock.patch.object(module, name, self.parsing(getattr(module, name))))
        self.patches.enter_context(mock.patch.object(description, "from_run", config_of))

    def parsing(self, real):
        """`real`, which no damaged checkpoint must reach."""

        def read(checkpoint: Path, **more):
            step = int(checkpoint.name)
            if step in self.saved and step != self.saving and not self.is_whole(step):
                there, saved = contents(checkpoint), self.saved[step][2]
                changed = {name: (there.get(name), saved[name]) for name in saved if there.get(name) != saved[name]}
                raise Parsed(f"{checkpoint.name} is damaged and was parsed: (now, when saved) {changed}")
            return real(checkpoint, **more)

        return read

    def teardown(self) -> None:
        self.patches.close()
        gc.collect()
        shutil.rmtree(self.directory.parent)

    # The record.

    def on_disk(self) -> list[int]:
        if not self.directory.exists():
            return []
        names = [path.name for path in self.directory.iterdir() if path.is_dir()]
        return sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)

    def is_whole(self, step: int) -> bool:
        if step not in self.saved or step not in self.on_disk():
            return False
        there = contents(self.directory / str(step))
        return all(there.get(name) == content for name, content in self.saved[step][2].items())

    def whole(self) -> list[int]:
        return [step for step in self.on_disk() if self.is_whole(step)]

    def best(self, among: list[int]) -> int | None:
        measured = [(loss, step) for step in among if (loss := self.saved[step][1]) is not None]
        return min(measured)[1] if measured else None

    def pick(self, number: int, what: str = "") -> Path | None:
        """One of the checkpoints or, of those in it, one of its files."""
        steps = self.on_disk()
        if not steps:
            return None
        checkpoint = self.directory / str(steps[number % len(steps)])
        if not what:
            return checkpoint
        files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
        return files[number // len(steps) % len(files)] if files else None

    def listing(self) -> dict[str, str]:
        return {
            str(path.relative_to(self.directory)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.directory.rglob("*")
            if path.is_file()
        }

    # What happens.

    # No rule has a precondition, since Orbax's random file names would make it differ from run to run.

    @initialize(first=losses, second=losses)
    def begin(self, first: float | None, second: float | None) -> None:
        self.save(1, first)
        self.save(2, second)

    @rule(further=st.integers(1, 3), loss=losses)
    def save(self, further: int, loss: float | None) -> None:
        self.step, self.value = self.step + further, self.value + 1
        self.saving, before = self.step, self.whole()
        save(self.directory, state_of(self.step, self.value), loss)
        self.saved[self.step] = (self.value, loss, contents(self.directory / str(self.step)))
        whole = sorted({*before, self.step})
        keep = {*whole[-2:], *filter(None, [self.best(whole)])}
        assert keep <= set(self.whole())
        # Damaged ones go once they are older than two whole ones.
        assert all(step in keep or step >= sorted(keep)[-2] for step in self.on_disk() if len(whole) > 1)

    @rule(loss=losses)
    def save_again(self, loss: float | None) -> None:
        """A step that is there whole is left as it is; one that was damaged meanwhile is saved anew."""
        if self.step in self.on_disk():
            self.saving = self.step
            was_whole, before = self.is_whole(self.step), contents(self.directory / str(self.step))
            save(self.directory, state_of(self.step, self.value), loss)
            if was_whole:
                assert contents(self.directory / str(self.step)) == before
            else:
                self.saved[self.step] = (self.value, loss, contents(self.directory / str(self.step)))
            assert self.is_whole(self.step)

    @rule(further=st.integers(1, 3), where=st.sampled_from(("in orbax", "before sums", "after sums", "in pruning")))
    def die_in_a_save(self, further: int, where: str) -> None:
        """The process dies; what it had saved before is there, and it is resumed."""
        step, before = self.step + further, self.whole()
        self.saving = step
        target = {
            "in orbax": (ocp.Checkpointer, "save"),
            "before sums": (sums, "write"),
            "after sums": (retention, "prune"),
            "in pruning": (shutil, "rmtree"),
        }[where]
        with mock.patch.object(*target, side_effect=Crash), contextlib.suppress(Crash):
            save(self.directory, state_of(step, self.value + 1), None)
            assert where == "in pruning"
        if where in ("after sums", "in pruning"):
            self.saved[step] = (self.value + 1, None, contents(self.directory / str(step)))
        assert set(before[-1:]) <= set(self.whole())
        self.resume()

    @rule(which=picks, place=picks, bit=st.integers(0, 7))
    def flip_a_bit(self, which: int, place: int, bit: int) -> None:
        path = self.pick(which, "file")
        if path and path.stat().st_size:
            content = bytearray(path.read_bytes())
            content[place % len(content)] ^= 1 << bit
            path.write_bytes(content)

    @rule(which=picks, cut=st.booleans())
    def lose_a_file(self, which: int, cut: bool) -> None:
        if path := self.pick(which, "file"):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]) if cut else path.unlink()

    @rule(which=picks)
    def lose_an_item_before_the_sums_are_made(self, which: int) -> None:
        checkpoint = self.pick(which)
        if checkpoint and (checkpoint / "meta").exists():
            shutil.rmtree(checkpoint / "meta")
            sums.write(checkpoint, ())

    @rule(which=picks, folder=picks, name=st.sampled_from(STRAY))
    def a_stray_file(self, which: int, folder: int, name: str) -> None:
        if checkpoint := self.pick(which):
            folders = sorted([checkpoint, *(path for path in checkpoint.rglob("*") if path.is_dir()), self.directory])
            path = folders[folder % len(folders)] / name
            if not path.exists():
                path.write_bytes(b"stray")

    @rule(which=picks)
    def another_line_ending(self, which: int) -> None:
        checkpoint = self.pick(which)
        if checkpoint and (path := checkpoint / "SHA256SUMS").exists():
            path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))

    @rule(step=st.integers(1, 30), name=st.sampled_from(("saving", "deleting", "orbax-checkpoint-tmp", "saving.x")))
    def a_leftover(self, step: int, name: str) -> None:
        (self.directory / f"{step}.{name}" / "state").mkdir(parents=True, exist_ok=True)

    # What is read.

    def expected(self, which: retention.Which) -> int | None:
        whole = self.whole()
        if isinstance(which, int):
            return which if which in whole else None
        best = self.best(whole) if which == "best" else None
        return best if best is not None else max(whole, default=None)

    def opened(self, which: retention.Which) -> None:
        """The same step, without the state, held against the record."""
        expected = self.expected(which)
        try:
            found = checkpoints.read(self.directory, which)
        except UserError:
            found = None
        assert (found and found.step) == expected
        if found:
            assert float(found.params["w"][0, 0]) == self.saved[found.step][0]
            assert found.description is not None and found.description.step == found.step

    def restored(self, which: retention.Which = "last") -> checkpoints.Restored | None:
        """What a reader gets, held against the record; a reader changes nothing."""
        listing = self.listing() if self.directory.exists() else {}
        expected, there = self.expected(which), self.on_disk()
        found = None
        try:
            found = checkpoints.restore(self.directory, state_of(0, 0.0), which)
        except UserError as error:
            assert expected is None and there and "\n" not in str(error)
            found = error
        self.opened(which)
        assert (self.listing() if self.directory.exists() else {}) == listing
        if isinstance(found, checkpoints.Restored):
            assert int(found.state.step) == expected
            assert value_of(found.state) == self.saved[int(found.state.step)][0]
        else:
            assert expected is None
            cut_off = len(there) == 1 and not (self.directory / str(there[0]) / "SHA256SUMS").exists()
            assert (found is None) == (not there or cut_off) or isinstance(which, int)
        return found if isinstance(found, checkpoints.Restored) else None

    @rule(which=st.sampled_from(("last", "best")))
    def read(self, which: retention.Which) -> None:
        self.saving = None
        self.restored(which)

    @rule(which=picks)
    def read_a_step(self, which: int) -> None:
        self.saving = None
        if checkpoint := self.pick(which):
            self.restored(int(checkpoint.name))

    @rule()
    def resume(self) -> None:
        self.saving = None
        found = self.restored()
        if found is None and len(self.on_disk()) > 1:
            # Only damaged ones: the run cannot go on, and another is started.
            shutil.rmtree(self.directory)
            self.saved.clear()
        self.step, self.value = (int(found.state.step), value_of(found.state)) if found else (0, 0.0)
        retention.tidy(self.directory, self.step)
        assert all(step <= self.step for step in self.on_disk())
        if self.directory.exists():
            leftovers = [path.name for path in self.directory.iterdir() if "saving" in path.name or "tmp" in path.name]
            assert leftovers == []


# A restore that fails half-way leaves tasks of the libraries' own to the garbage collector.
TestLife = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")(Life.TestCase)
TestLife.settings = hypothesis.settings(
    max_examples=int(os.environ.get("PUNKVAE_LIFE_RUNS", "6")), stateful_step_count=25, deadline=None
)
