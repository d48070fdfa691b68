"""Images from the Hugging Face hub, through `datasets`."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from flax_punkvae.config import DataConfig
from flax_punkvae.data.decode import read_rgba
from flax_punkvae.data.raw import Raw, Unavailable, unlabelled
from flax_punkvae.data.rendering import gather
from flax_punkvae.errors import UserError

CRYPTOPUNKS = "huggingnft/cryptopunks"
_COLUMN = "image"
_SPLIT = "train"
_URL_COLUMN = "image_original_url"


def load(name: str, config: DataConfig | None = None) -> Raw:
    """The column `image` of the split `train` of `OWNER/NAME[@REVISION]`, ordered by punk number if the rows have one.

    With a config, images are kept no larger than it needs.

    Raises Unavailable if the hub or the set cannot be reached, UserError if the set is not as expected.
    """
    match = re.fullmatch(r"(\w[\w.-]*/\w[\w.-]*)(?:@(\S+))?", name, re.ASCII)
    if not match:
        raise UserError(
            f"data.source: {'hub:' + name!r} does not name a set: write hub:OWNER/NAME or hub:OWNER/NAME@REVISION"
        )
    repository, revision = match.groups()
    if Path(repository).is_dir():
        # `datasets` would read the folder instead of the hub.
        raise UserError(
            f"hub:{name}: there is a folder of that name here: read it with --data.source ./{repository}, or start the "
            "program in another directory"
        )
    rows, commit, notes = _download(repository, revision)
    if _COLUMN not in rows.column_names:
        raise UserError(
            f"hub:{name}: there is no column {_COLUMN!r}, only {', '.join(rows.column_names)}: choose a set of images"
        )
    ids, numbered = _punk_numbers(rows)
    order = np.argsort(ids, kind="stable")
    if not numbered:
        notes += (f"the {len(ids)} rows of the set do not each have a distinct punk number: ids are row positions",)

    def decoded() -> Iterator[tuple[str, UInt8[np.ndarray, "h w 4"]]]:
        for row in order.tolist():
            try:
                yield f"row {row}", read_rgba(_file(rows[row][_COLUMN]))
            except UserError as error:
                raise UserError(f"hub:{name}: row {row}: {error}") from error

    pixels, shape = gather(decoded(), len(order), f"hub:{name}", config)
    ids = ids[order][: len(pixels)]
    return unlabelled(pixels, ids, f"hub:{repository}@{commit}", notes=notes, shape=shape)


def _download(repository: str, revision: str | None) -> tuple[Any, str, tuple[str, ...]]:
    """The rows of the split (images still encoded), their commit, and a note about other splits."""
    # Imported here: it takes a second, and most runs do not need it.
    import datasets
    from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
    from datasets.packaged_modules.cache.cache import Cache

    what = f"hub:{repository}" + (f"@{revision}" if revision else "")
    try:
        builder = datasets.load_dataset_builder(repository, revision=revision)
        builder.download_and_prepare()
        rows: Any = builder.as_dataset(split=_SPLIT)
    except DatasetNotFoundError as error:
        raise Unavailable(
            f"{what}: the hub has no public set of this name ({_one_line(error)}): check owner and name"
        ) from error
    except ConnectionError as error:
        raise Unavailable(
            f"{what}: the hub cannot be reached and no copy is cached ({_one_line(error)}): check the network"
        ) from error
    except Exception as error:
        # Nothing of ours stands above. From below come errors of the file formats, of YAML, of Arrow and of an HTTP
        # client that has changed twice; this one hides the others.
        cause = error.__cause__ if isinstance(error, DatasetGenerationError) and error.__cause__ else error
        raise UserError(
            f"{what}: cannot read images from a split {_SPLIT!r} ({_one_line(cause)}): choose another set"
        ) from error
    if revision and isinstance(builder, Cache) and builder.hash != revision:
        # Offline, `datasets` takes whatever it loaded last.
        raise Unavailable(
            f"{what}: the hub cannot be reached, and the cached copy is of commit {builder.hash}: "
            "check the network, or ask for that commit"
        )
    if isinstance(rows.features.get(_COLUMN), datasets.Image):
        rows = rows.cast_column(_COLUMN, datasets.Image(decode=False))
    others = sorted((split, of.num_examples) for split, of in (builder.info.splits or {}).items() if split != _SPLIT)
    left_out = ", ".join(f"{split} ({count} rows)" for split, count in others)
    notes = (f"left out the set's other splits: {left_out}",) if others else ()
    return rows, str(builder.hash), notes


def _one_line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _file(value: Any) -> io.BytesIO | Path:
    """An encoded image of `datasets`, a dict of its bytes or, where it is a file of its own, its path in the cache.

    Raises UserError for any other path, which the set's author wrote: it would read this machine's files.
    """
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        return io.BytesIO(value["bytes"])
    if not (isinstance(value, dict) and isinstance(value.get("path"), str)):
        raise UserError(f"expected an image, got a value of type {type(value).__name__}")
    try:
        path = Path(value["path"]).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"not an image but a path that leads nowhere: {_one_line(error)}") from error
    if not any(path.is_relative_to(cache) for cache in _caches()):
        raise UserError(f"not an image but a path outside the hub's cache: {_one_line(value['path'])}")
    return path


def _caches() -> list[Path]:
    """Where `datasets` and `huggingface_hub` keep what they download and unpack."""
    from datasets.config import HF_DATASETS_CACHE
    from huggingface_hub.constants import HF_HUB_CACHE

    return [Path(cache).resolve() for cache in (HF_DATASETS_CACHE, HF_HUB_CACHE)]


def _punk_numbers(rows: Any) -> tuple[Int[np.ndarray, "n"], bool]:
    """Ids, whether they are the numbers in the rows' original addresses (`.../cryptopunk0042.png`); else positions."""
    if _URL_COLUMN in rows.column_names:
        found = [re.search(r"(\d{1,15})\.\w+$", str(address)) for address in rows[_URL_COLUMN]]
        numbers = [int(match[1]) for match in found if match]
        if len(set(numbers)) == len(rows):
            return np.array(numbers), True
    return np.arange(len(rows)), False
