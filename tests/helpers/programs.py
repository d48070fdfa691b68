"""The training program: as a subprocess, as a user runs it, and in this process, which is faster."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from flax_punkvae.errors import run_program
from flax_punkvae.experiments.train import main

TRAIN = (sys.executable, "-W", "error", "-m", "flax_punkvae.experiments.train")
_FEW = (
    *("--data.source", "synthetic", "--data.synthetic-count", "40", "--model.hidden", "8", "--model.latent", "4"),
    # One lane, since 7 is odd: with four, the step takes twice as long to compile.
    *("--train.batch-size", "7"),
)
# The reference model in small, and one of dense layers on sprites, which starts in half the time.
PICTURES = (*_FEW, "--model.encoder-widths", "4", "--model.decoder-widths")
SMALL = (*_FEW, "--data.render", "sprite", "--model.encoder-widths", "--model.decoder-widths")


def train(cwd: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TRAIN, *arguments], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )


def ended(
    cwd: Path, *arguments: str, program: Callable[[Sequence[str]], int] = main
) -> subprocess.CompletedProcess[str]:
    """What `train` returns, or another program's status and output, of a run in this process: two seconds less."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _left_as_it_was():
        sys.argv = ["program", *arguments]
        with pytest.raises(SystemExit) as stop:
            run_program(program)
    assert isinstance(stop.value.code, int)
    return subprocess.CompletedProcess(sys.argv, stop.value.code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _left_as_it_was() -> Iterator[None]:
    """Undo at the end what a program sets for its process, which would end after it."""
    argv, hook, interrupt = sys.argv, sys.unraisablehook, signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        sys.argv, sys.unraisablehook = argv, hook
        signal.signal(signal.SIGINT, interrupt)


def trained(cwd: Path, run_dir: str, *arguments: str) -> str:
    """Train in this process, which has traced and compiled much before; returns the digest."""
    with contextlib.chdir(cwd):
        assert main(["--run-dir", run_dir, *arguments]) == 0
        return json.loads(Path(run_dir, "run.json").read_text())["params_sha256"]


def trained_apart(cwd: Path, run_dir: str, *arguments: str) -> str:
    """Train in a process of its own; returns the digest it printed, which run.json must hold too."""
    done = train(cwd, "--run-dir", run_dir, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (digest,) = re.findall(r"^final parameters: SHA-256 ([0-9a-f]{64})$", done.stdout, re.MULTILINE)
    assert json.loads((cwd / run_dir / "run.json").read_text())["params_sha256"] == digest
    return digest


# Restrictions that a process puts on itself before it becomes the training program.
RESTRICTED = """
import ctypes, os, resource, sys
what, limit, *command = sys.argv[1:]
if what == "file size":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
elif os.geteuid() == 0:
    # Root may write anywhere by CAP_DAC_OVERRIDE (1), which PR_CAPBSET_DROP (24) takes from what it becomes.
    assert ctypes.CDLL(None).prctl(24, 1, 0, 0, 0) == 0
os.execv(command[0], command)
"""


def start(
    cwd: Path,
    *arguments: str,
    restricted: tuple[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    command = [*TRAIN, *arguments]
    if restricted:
        command = [sys.executable, "-c", RESTRICTED, *restricted, *command]
    env = {**os.environ, **(environment or {})}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, env=env, stdout=pipe, stderr=pipe, text=True, bufsize=1)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120.0) -> bool:
    """Whether the condition came true while the process ran."""
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        if condition():
            return True
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    return False
