"""The hub: the real `datasets`, in a process of its own, against a stand-in hub on this machine.

`datasets` and `huggingface_hub` read HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE when they are imported, hence the process;
it starts slowly, hence one process for all cases that share these three.
"""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import HubServer
from PIL import Image

from flax_punkvae.data import hub, punks, synthetic
from flax_punkvae.errors import UserError

PARQUET = "data/train-00000-of-00001.parquet"
NUMBERS = [7804, 3, 9999, 0, 42, 635, 100, 2890, 12, 5822, 1, 4156]

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
        told = {"source": raw.source, "ids": raw.ids.tolist()}
        told |= {"shape": raw.pixels.shape, "pixels": raw.pixels.tobytes().hex()}
    except UserError as error:
        told = {"error": type(error).__name__, "message": str(error)}
    told["waits"] = len(waits)
    waits.clear()
    print(json.dumps(told))
"""


def png(pixels: np.ndarray, scale: int = 14) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.repeat(scale, axis=0).repeat(scale, axis=1)).save(file, "PNG")
    return file.getvalue()


def parquet(columns: dict[str, list], image: bool = True, groups: bool = True) -> bytes:
    """A file as the hub keeps it: images as structs of bytes and path, and the features in the schema's metadata."""
    table = pa.table(columns)
    kinds = {name: {"dtype": str(table.schema.field(name).type), "_type": "Value"} for name in table.column_names}
    if image:
        struct = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        table = table.set_column(0, "image", pa.array(columns["image"], struct))
        kinds["image"] = {"_type": "Image"}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": kinds}})})
    file = io.BytesIO()
    with pq.ParquetWriter(file, table.schema) as writer:
        if groups:
            writer.write_table(table)
    return file.getvalue()


def images(*contents: bytes | None) -> list[dict[str, Any]]:
    return [{"bytes": content, "path": None} for content in contents]


@pytest.fixture(scope="module")
def on_blue() -> np.ndarray:
    """The punks of NUMBERS over the blue of the hub, uint8 [12, 24, 24, 3]; by hand, not through images.py."""
    rgba = punks.load().pixels[NUMBERS].astype(float)
    alpha = rgba[..., 3:] / 255
    return np.rint(alpha * rgba[..., :3] + (1 - alpha) * np.array([0x63, 0x85, 0x96])).astype(np.uint8)


@pytest.fixture(scope="module")
def server(on_blue: np.ndarray) -> Iterator[HubServer]:
    with HubServer() as server:
        whole = {
            "image": images(*(png(sprite) for sprite in on_blue)),
            "id": [9000 + row for row in range(len(NUMBERS))],
            "token_metadata": ["https://x/token"] * len(NUMBERS),
            "image_original_url": [f"https://x/cryptopunk{number:04d}.png" for number in NUMBERS],
        }
        a, b = png(on_blue[0]), png(on_blue[1])
        server.add(hub.CRYPTOPUNKS, {PARQUET: parquet(whole)})
        server.add(hub.CRYPTOPUNKS, {PARQUET: parquet({"image": images(a, b)})}, revision="v1")
        folder = {f"train/{row:02d}.png": png(sprite) for row, sprite in enumerate(on_blue)}
        server.add("o/folder", folder)
        server.add("o/twice", {PARQUET: parquet({"image": images(a, b), "image_original_url": ["1.png", "1.png"]})})
        server.add("o/rgba", {PARQUET: parquet({"image": images(*map(png, synthetic.draw(2, 0)[0]))})})
        server.add("o/photos", {PARQUET: parquet({"image": images(*map(png, photos()))})})
        server.add("o/no-column", {PARQUET: parquet({"picture": [1, 2], "id": [3, 4]}, image=False)})
        server.add("o/text", {PARQUET: parquet({"image": ["a", "b"]}, image=False)})
        server.add("o/no-train", {PARQUET.replace("train", "test"): parquet({"image": images(a, b)})})
        server.add("o/sizes", {PARQUET: parquet({"image": images(a, png(on_blue[1], scale=7))})})
        server.add("o/empty", {PARQUET: parquet({"image": []})})
        server.add("o/no-groups", {PARQUET: parquet({"image": []}, groups=False)})
        server.add("o/junk", {PARQUET: parquet({"image": images(a, b"junk")})})
        server.add("o/null", {PARQUET: parquet({"image": [*images(a), None]})})
        server.add("o/path", {PARQUET: parquet({"image": [*images(a), {"bytes": None, "path": "/nowhere/1.png"}]})})
        server.add("o/other-file", {PARQUET: b"not parquet"})
        server.add(
            "o/two-schemas",
            {
                PARQUET.replace("1.p", "2.p"): parquet({"image": images(a, b)}),
                "data/train-00001-of-00002.parquet": parquet({"other": [1]}, image=False),
            },
        )
        server.add("o/nothing", {})
        server.add("o/script", {"script.py": b"print()"})
        server.add("o/yaml", {PARQUET: parquet(whole), "README.md": b"---\na: [1\n---\n"})
        server.add("o/dropped", {PARQUET: parquet(whole)}, dropped=PARQUET)
        yield server


def photos() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), np.uint8)


def environment(home: Path, endpoint: str, offline: bool = False) -> dict[str, str]:
    """The environment of a process whose hub is `endpoint`."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return {
        **ours,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": str(int(offline)),
        "PYTHONPATH": str(Path(hub.__file__).parents[2]),
        "no_proxy": "127.0.0.1",
    }


def ask(home: Path, endpoint: str, *names: str, offline: bool = False) -> list[dict[str, Any]]:
    """What `hub.load` said to each name, in one process started in the folder `home`."""
    command = [sys.executable, "-c", SCRIPT, json.dumps(names)]
    env = environment(home, endpoint, offline)
    done = subprocess.run(command, env=env, cwd=home, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == len(names)
    return told


GOOD = (hub.CRYPTOPUNKS, "o/folder", "o/twice", "o/rgba", "o/photos")
WRONG = {
    "o/unknown": ("Unavailable", "Dataset 'o/unknown' doesn't exist on the Hub"),
    f"{hub.CRYPTOPUNKS}@v2": ("Unavailable", "Revision 'v2' doesn't exist"),
    "o/dropped": ("UserError", "peer closed connection"),
    "o/no-column": ("UserError", "expected a column 'image', got the columns picture, id"),
    "o/text": ("UserError", "row 0: expected an image, got a value of type str"),
    "o/no-train": ("UserError", "Unknown split \"train\". Should be one of ['test']."),
    "o/sizes": ("UserError", "expected images of one size, got row 0 of 336x336 and row 1 of 168x168"),
    "o/empty": ("UserError", "expected a set with images in a split 'train', got: BatchSize must be greater than 0"),
    "o/no-groups": ("UserError", 'Instruction "train" corresponds to no data!'),
    "o/junk": ("UserError", "row 1: expected an image"),
    "o/null": ("UserError", "row 1: expected an image, got a value of type NoneType"),
    "o/path": ("UserError", "row 1: expected a whole image, got: [Errno 2] No such file or directory"),
    "o/other-file": ("UserError", "Parquet magic bytes not found"),
    "o/two-schemas": ("UserError", "Couldn't cast other: int64"),
    "o/nothing": ("UserError", "doesn't contain any data files"),
    "o/script": ("UserError", "Dataset scripts are no longer supported, but found script.py"),
    "o/yaml": ("UserError", "while parsing a flow sequence"),
    "o/here": ("UserError", "read it with --data.source ./o/here"),
    "o--o/name": ("UserError", "Cannot have -- or .. in repo_id"),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("hub")
    (home / "o" / "here").mkdir(parents=True)
    return home


@pytest.fixture(scope="module")
def online(server: HubServer, home: Path) -> dict[str, dict[str, Any]]:
    """What each name gave with the hub there, after which `home` holds a cache. v1 comes before what follows main."""
    names = (f"{hub.CRYPTOPUNKS}@v1", *GOOD, *WRONG)
    return dict(zip(names, ask(home, server.address, *names), strict=True))


def pixels(told: dict[str, Any]) -> np.ndarray:
    assert "error" not in told, told
    return np.frombuffer(bytes.fromhex(told["pixels"]), np.uint8).reshape(told["shape"])


def test_rows_come_by_punk_number(online: dict[str, dict[str, Any]], server: HubServer, on_blue: np.ndarray):
    told = online[hub.CRYPTOPUNKS]
    assert told["ids"] == sorted(NUMBERS)
    # Oracle: the package's sprites of these numbers, over the background.
    np.testing.assert_array_equal(pixels(told)[..., :3], on_blue[np.argsort(NUMBERS)])
    assert (pixels(told)[..., 3] == 255).all()
    assert told["source"] == f"hub:{hub.CRYPTOPUNKS}@{server.commits[hub.CRYPTOPUNKS, 'main'].sha}"


def test_the_revision_asked_for_is_the_one_requested(online: dict[str, dict[str, Any]], server: HubServer):
    told = online[f"{hub.CRYPTOPUNKS}@v1"]
    commit = server.commits[hub.CRYPTOPUNKS, "v1"].sha
    assert told["source"] == f"hub:{hub.CRYPTOPUNKS}@{commit}"
    assert told["ids"] == [0, 1]
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


def test_images_that_are_no_sprites(online: dict[str, dict[str, Any]]):
    np.testing.assert_array_equal(pixels(online["o/photos"])[:, ::14, ::14, :3], photos())


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line(online: dict[str, dict[str, Any]], name: str):
    kind, told = WRONG[name]
    assert online[name]["error"] == kind, online[name]
    message = online[name]["message"]
    assert told in message
    assert message.startswith(f"hub:{name}: ")
    assert "\n" not in message


def test_a_dropped_connection_was_tried_again(online: dict[str, dict[str, Any]]):
    assert online["o/dropped"]["waits"] > 0


MALFORMED = [
    "",
    "name",
    "a/b/c",
    "/b",
    "a/",
    "../b",
    "a/..",
    ".a/b",
    "a b/c",
    "a/b@",
    "a/b@c d",
    "a/b\n",
    "ä/b",
    "a\x00/b",
]


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_names(name: str):
    with pytest.raises(UserError, match="expected hub:OWNER/NAME, optionally with @REVISION, got 'hub:") as error:
        hub.load(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("offline", [True, False], ids=["offline variable", "dead endpoint"])
def test_without_the_hub(online: dict[str, dict[str, Any]], server: HubServer, home: Path, offline: bool):
    commit = server.commits[hub.CRYPTOPUNKS, "main"].sha
    names = (hub.CRYPTOPUNKS, f"{hub.CRYPTOPUNKS}@{commit}", f"{hub.CRYPTOPUNKS}@v1", "o/unknown")
    # Port 9 is closed, and would discard what it got.
    cached, pinned, other, unknown = ask(home, "http://127.0.0.1:9", *names, offline=offline)
    for told in (cached, pinned):
        assert {**told, "waits": 0} == {**online[hub.CRYPTOPUNKS], "waits": 0}
    assert other["error"] == unknown["error"] == "Unavailable"
    assert f"the cached copy is of commit {commit}" in other["message"]
    assert unknown["message"].startswith("hub:o/unknown: the hub cannot be reached and no copy is cached (")
    assert "\n" not in other["message"] + unknown["message"]
    assert (unknown["waits"] > 0) != offline
