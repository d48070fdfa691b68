"""The page's program: it starts, says where it is, and stops."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from flax_punkvae.errors import UserError
from flax_punkvae.experiments import page
from helpers import pages

COMMAND = (sys.executable, "-W", "error", "-m", "flax_punkvae.experiments.page")


@pytest.fixture(scope="module")
def run() -> Path:
    return pages.trained("pictures")


@pytest.fixture
def started(run: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with subprocess.Popen(
        [*COMMAND, str(run), "--port", "0", "--no-open"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.findall(r"is at (http://127\.0\.0\.1:\d+/) \(stop with Ctrl-C\)", line):
            return found[0]
    raise AssertionError(process.stderr and process.stderr.read())


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_a_run_until_it_is_stopped(started: subprocess.Popen[str], how: signal.Signals, tmp_path: Path):
    where = address(started)
    with urllib.request.urlopen(f"{where}api/model", timeout=30) as answer:
        assert json.load(answer)["name"] == "pictures"
    # While the library is still being filled.
    started.send_signal(how)
    out, err = started.communicate(timeout=20)
    assert started.returncode == 0 and out.strip().endswith("stopped") and err == ""
    assert (tmp_path / "cache").is_dir()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="finds processes in /proc")
def test_the_process_that_lays_out_the_map_ends_with_it(started: subprocess.Popen[str]):
    where = address(started)

    def laying_out() -> list[str]:
        return [pid for pid in os.listdir("/proc") if pid.isdigit() and is_child(pid)]

    def is_child(pid: str) -> bool:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return False
        return f"PPid:\t{started.pid}\n" in status

    def progress() -> str:
        with urllib.request.urlopen(f"{where}api/progress", timeout=30) as answer:
            return json.load(answer)["progress"]

    pages.wait(lambda: "t-SNE" in progress() and bool(laying_out()))
    (child,) = laying_out()
    started.send_signal(signal.SIGINT)
    started.communicate(timeout=20)
    assert started.returncode == 0
    pages.wait(lambda: not Path(f"/proc/{child}").exists(), 10)


def test_a_port_in_use(run: Path, capsys: pytest.CaptureFixture[str]):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{port} .*choose another --port"):
            page.main([str(run), "--port", str(port), "--no-open"])
    capsys.readouterr()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--port", "65536"), "--port: 65536 is out of range"),
        (("--port", "-1"), "--port: -1 is out of range"),
        (("--port", "some"), "port"),
        (("--host", "nowhere.invalid", "--port", "0"), "cannot listen on nowhere.invalid"),
        (("--checkpoint", "9999"), "9999"),
    ],
)
def test_bad_flags_are_one_line(run: Path, flags: tuple[str, ...], says: str):
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        page.main([str(run), "--no-open", *flags])
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_run(tmp_path: Path):
    with pytest.raises(UserError, match="no run"):
        page.main([str(tmp_path), "--no-open"])


def test_without_the_extra_it_says_how_to_install_it(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UserError, match=re.escape("pip install '.[page]'")):
        page.main([str(run), "--no-open"])
