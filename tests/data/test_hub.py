"""The hub: the real `datasets`, in a process of its own, against a stand-in hub on this machine.

`datasets` and `huggingface_hub` read HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE when they are imported, hence the process;
it starts slowly, hence one process for all cases that share these three.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flax_punkvae.data import hub, synthetic
from flax_punkvae.errors import UserError
from helpers.hub_server import HubServer
from helpers.hub_sets import GOOD, MALFORMED, NUMBERS, PARQUET, WRONG, environment, home, on_blue, photos, server
from helpers.sources import refusal

__all__ = ["home", "on_blue", "server"]  # fixtures

# What comes of each name: an error's class and message, or the images. The waits between retries are counted, not made.
SCRIPT = """
import json, sys, time
waits = []
time.sleep = waits.append
from flax_punkvae.data import hub
from flax_punkvae.errors import UserError
for name in json.loads(sys.argv[1]):
    try:
        raw = hub.load(name)
        answer = {"source": raw.source, "ids": raw.ids.tolist(), "files": raw.files}
        answer["groups"] = None if raw.groups is None else raw.groups.tolist()
        answer |= {"notes": raw.notes, "shape": raw.pixels.shape, "pixels": raw.pixels.tobytes().hex()}
    except UserError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    answer["waits"] = len(waits)
    waits.clear()
    print(json.dumps(answer))
"""


def ask(home: Path, endpoint: str, *names: str, offline: bool = False) -> list[dict[str, Any]]:
    """What `hub.load` said to each name, in one process started in the folder `home`."""
    command = [sys.executable, "-c", SCRIPT, json.dumps(names)]
    env = environment(home, endpoint, offline)
    done = subprocess.run(command, env=env, cwd=home, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(names)
    return answers


@pytest.fixture(scope="module")
def online(server: HubServer, home: Path) -> dict[str, dict[str, Any]]:
    """What each name gave with the hub there, after which `home` holds a cache. v1 comes before what follows main."""
    names = (f"{hub.CRYPTOPUNKS}@v1", *GOOD, *WRONG)
    return dict(zip(names, ask(home, server.address, *names), strict=True))


def pixels(answer: dict[str, Any]) -> np.ndarray:
    assert "error" not in answer, answer
    return np.frombuffer(bytes.fromhex(answer["pixels"]), np.uint8).reshape(answer["shape"])


def test_rows_come_by_punk_number(online: dict[str, dict[str, Any]], server: HubServer, on_blue: np.ndarray):
    answer = online[hub.CRYPTOPUNKS]
    assert answer["ids"] == sorted(NUMBERS)
    # Oracle: the package's sprites of these numbers, over the background.
    np.testing.assert_array_equal(pixels(answer)[..., :3], on_blue[np.argsort(NUMBERS)])
    assert (pixels(answer)[..., 3] == 255).all()
    assert answer["source"] == f"hub:{hub.CRYPTOPUNKS}@{server.commits[hub.CRYPTOPUNKS, 'main'].sha}"


def test_the_revision_asked_for_is_the_one_requested(online: dict[str, dict[str, Any]], server: HubServer):
    answer = online[f"{hub.CRYPTOPUNKS}@v1"]
    commit = server.commits[hub.CRYPTOPUNKS, "v1"].sha
    assert answer["source"] == f"hub:{hub.CRYPTOPUNKS}@{commit}"
    assert answer["ids"] == [0, 1]
    asked = {path for _, path in server.asked}
    resolve = f"/datasets/{hub.CRYPTOPUNKS}/resolve"
    assert {f"{resolve}/v1/README.md", f"{resolve}/{commit}/{PARQUET}"} <= asked


def test_a_repository_of_image_files(online: dict[str, dict[str, Any]], on_blue: np.ndarray):
    np.testing.assert_array_equal(pixels(online["o/folder"])[..., :3], on_blue)


def test_rows_without_numbers_of_their_own_keep_their_order(online: dict[str, dict[str, Any]], on_blue: np.ndarray):
    assert online["o/twice"]["ids"] == [0, 1]
    np.testing.assert_array_equal(pixels(online["o/twice"])[..., :3], on_blue[:2])


def test_transparency_is_kept(online: dict[str, dict[str, Any]]):
    np.testing.assert_array_equal(pixels(online["o/rgba"]), synthetic.draw(2, 0)[0])


def test_rows_are_read_upright(online: dict[str, dict[str, Any]]):
    # Oracle: the photograph, which was saved upside down and says so.
    np.testing.assert_array_equal(pixels(online["o/splits"])[0, :, :, :3], photos()[0])


def test_frames_of_rows_are_images(online: dict[str, dict[str, Any]]):
    answer = online["o/animated"]
    assert answer["ids"] == list(range(6)) and answer["groups"] == [0, 0, 0, 1, 1, 1]
    assert answer["files"][2:4] == ["row 0#2", "row 1#0"]
    assert "6 frames of 2 animations (--data.frames)" in answer["notes"]


def test_left_out_splits_are_reported(online: dict[str, dict[str, Any]]):
    positions = "the 2 rows do not each have a distinct punk number: ids are row positions"
    assert online["o/splits"]["notes"] == ["left out the other splits: test (3 rows)", positions]
    assert online["o/photos"]["notes"] == [positions]
    assert online[hub.CRYPTOPUNKS]["notes"] == []


def test_a_row_may_only_name_files_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache, outside = tmp_path / "cache", tmp_path / "cache-of-others.png"
    (cache / "blobs").mkdir(parents=True)
    inside = cache / "blobs" / "1.png"
    inside.write_bytes(b"inside")
    outside.write_bytes(b"outside")
    (cache / "in.png").symlink_to("blobs/1.png")
    (cache / "out.png").symlink_to(outside)
    monkeypatch.setattr(hub, "_caches", lambda: [cache])
    monkeypatch.chdir(tmp_path)
    for path in (inside, cache / "in.png", cache / "blobs" / ".." / "in.png"):
        assert hub._file({"bytes": None, "path": str(path)}) == inside
    for path in (outside, cache / "out.png", cache / ".." / outside.name, outside.name, "", "/etc/passwd", "a\0b"):
        assert "path" in refusal(hub._file, {"bytes": None, "path": str(path)})
    for url in (f"file://{inside}", f"zip://1.png::{inside}", "https://x/1.png", "hf://datasets/o/x/1.png"):
        assert "outside the hub's cache" in refusal(hub._file, {"bytes": None, "path": url})


def test_images_that_are_no_sprites(online: dict[str, dict[str, Any]]):
    np.testing.assert_array_equal(pixels(online["o/photos"])[:, ::14, ::14, :3], photos())


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line(online: dict[str, dict[str, Any]], name: str):
    kind, expected = WRONG[name]
    assert online[name]["error"] == kind, online[name]
    message = online[name]["message"]
    assert expected in message
    assert message.startswith(f"hub:{name}: ")
    assert "\n" not in message


def test_a_dropped_connection_was_tried_again(online: dict[str, dict[str, Any]]):
    assert online["o/dropped"]["waits"] > 0


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_names(name: str):
    with pytest.raises(
        UserError, match="is not a dataset name: write hub:OWNER/NAME or hub:OWNER/NAME@REVISION"
    ) as error:
        hub.load(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("offline", [True, False], ids=["offline variable", "dead endpoint"])
def test_without_the_hub(online: dict[str, dict[str, Any]], server: HubServer, home: Path, offline: bool):
    commit = server.commits[hub.CRYPTOPUNKS, "main"].sha
    names = (hub.CRYPTOPUNKS, f"{hub.CRYPTOPUNKS}@{commit}", f"{hub.CRYPTOPUNKS}@v1", "o/unknown")
    # Port 9 is closed, and would discard what it got.
    cached, pinned, other, unknown = ask(home, "http://127.0.0.1:9", *names, offline=offline)
    for answer in (cached, pinned):
        assert {**answer, "waits": 0} == {**online[hub.CRYPTOPUNKS], "waits": 0}
    assert other["error"] == unknown["error"] == "Unavailable"
    assert f"the cached copy is of commit {commit}" in other["message"]
    assert unknown["message"].startswith("hub:o/unknown: the hub cannot be reached and no copy is cached (")
    assert "\n" not in other["message"] + unknown["message"]
    assert (unknown["waits"] > 0) != offline
