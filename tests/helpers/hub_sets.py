"""The sets of the stand-in hub, good and bad, and the processes that ask for them."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from flax_punkvae.data import hub, synthetic
from helpers import all_punks
from helpers.bad_input import animated, bomb
from helpers.hub_server import HubServer

PARQUET = "data/train-00000-of-00001.parquet"


NUMBERS = [7804, 3, 9999, 0, 42, 635, 100, 2890, 12, 5822, 1, 4156]


def png(pixels: np.ndarray, scale: int = 14) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.repeat(scale, axis=0).repeat(scale, axis=1)).save(file, "PNG")
    return file.getvalue()


def upside_down(pixels: np.ndarray) -> bytes:
    """An image that is stored upside down, and whose EXIF says so."""
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 3
    Image.fromarray(pixels[::-1, ::-1]).save(file, "PNG", exif=exif)
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
    rgba = all_punks.load().pixels[NUMBERS].astype(float)
    alpha = rgba[..., 3:] / 255
    return np.rint(alpha * rgba[..., :3] + (1 - alpha) * np.array([0x63, 0x85, 0x96])).astype(np.uint8)


@pytest.fixture(scope="module")
def server(on_blue: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
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
        server.add("o/animated", {PARQUET: parquet({"image": images(animated("PNG"), animated("GIF"))})})
        server.add("o/no-column", {PARQUET: parquet({"picture": [1, 2], "id": [3, 4]}, image=False)})
        server.add("o/text", {PARQUET: parquet({"image": ["a", "b"]}, image=False)})
        server.add("o/no-train", {PARQUET.replace("train", "test"): parquet({"image": images(a, b)})})
        server.add("o/sizes", {PARQUET: parquet({"image": images(a, png(on_blue[1], scale=7))})})
        server.add("o/empty", {PARQUET: parquet({"image": []})})
        server.add("o/no-groups", {PARQUET: parquet({"image": []}, groups=False)})
        server.add("o/junk", {PARQUET: parquet({"image": images(a, b"junk")})})
        server.add("o/null", {PARQUET: parquet({"image": [*images(a), None]})})
        server.add("o/path", {PARQUET: parquet({"image": [*images(a), {"bytes": None, "path": "/nowhere/1.png"}]})})
        local = tmp_path_factory.mktemp("local") / "1.png"
        local.write_bytes(a)
        server.add("o/local", {PARQUET: parquet({"image": [{"bytes": None, "path": str(local)}, *images(a)]})})
        server.add("o/bomb", {PARQUET: parquet({"image": images(a, bomb(20_000))})})
        splits = {PARQUET: parquet({"image": images(*map(upside_down, photos()))})}
        splits[PARQUET.replace("train", "test")] = parquet({"image": images(a, a, a)})
        server.add("o/splits", splits)
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


GOOD = (hub.CRYPTOPUNKS, "o/folder", "o/twice", "o/rgba", "o/photos", "o/splits", "o/animated")


WRONG = {
    "o/unknown": ("Unavailable", "Dataset 'o/unknown' doesn't exist on the Hub"),
    f"{hub.CRYPTOPUNKS}@v2": ("Unavailable", "Revision 'v2' doesn't exist"),
    "o/dropped": ("UserError", "peer closed connection"),
    "o/no-column": ("UserError", "there is no column 'image', only picture, id"),
    "o/text": ("UserError", "row 0: expected an image, got a value of type str"),
    "o/no-train": ("UserError", "Unknown split \"train\". Should be one of ['test']."),
    "o/sizes": ("UserError", "expected images of one size, got row 0 of 336x336 and row 1 of 168x168"),
    "o/empty": ("UserError", "cannot read images from a split 'train' (BatchSize must be greater than 0"),
    "o/no-groups": ("UserError", 'Instruction "train" corresponds to no data!'),
    "o/junk": ("UserError", "row 1: not an image"),
    "o/null": ("UserError", "row 1: expected an image, got a value of type NoneType"),
    "o/path": ("UserError", "row 1: not an image but a path outside the hub's cache: /nowhere/1.png"),
    "o/local": ("UserError", "row 0: not an image but a path outside the hub's cache: "),
    "o/bomb": ("UserError", f"row 1: too large: more than {Image.MAX_IMAGE_PIXELS} pixels"),
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
