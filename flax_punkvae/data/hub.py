"""Load images from the Hugging Face hub with `datasets`."""

import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from flax_punkvae.config import DataConfig
from flax_punkvae.data import pictures, scaling
from flax_punkvae.data.raw import Raw, Unavailable, unlabelled
from flax_punkvae.data.rendering import gather
from flax_punkvae.data.trees import Tree
from flax_punkvae.errors import UserError

CRYPTOPUNKS = "huggingnft/cryptopunks"
_COLUMN = "image"
_SPLIT = "train"
_URL_COLUMN = "image_original_url"


def load(name: str, config: DataConfig | None = None) -> Raw:
    """Load column `image` of split `train` of `OWNER/NAME[@REVISION]`, ordered by punk number if the rows have one.

    With a config, images are reduced to what it needs as they are read.

    Raises Unavailable if the hub or the dataset cannot be reached, UserError if the dataset is not as expected.
    """
    match = re.fullmatch(r"(\w[\w.-]*/\w[\w.-]*)(?:@(\S+))?", name, re.ASCII)
    if not match:
        raise UserError(
            f"data.source: {'hub:' + name!r} is not a dataset name: write hub:OWNER/NAME or hub:OWNER/NAME@REVISION"
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
            f"hub:{name}: there is no column {_COLUMN!r}, only {', '.join(rows.column_names)}: choose an image dataset"
        )
    ids, numbered = _punk_numbers(rows)
    order = np.argsort(ids, kind="stable")
    if not numbered:
        notes += (f"the {len(ids)} rows do not each have a distinct punk number: ids are row positions",)
    return _gathered(rows, (ids, order), f"hub:{name}", f"hub:{repository}@{commit}", notes, config)


def _gathered(
    rows: Any,
    numbered: tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]],
    name: str,
    source: str,
    notes: tuple[str, ...],
    config: DataConfig | None,
) -> Raw:
    """The images of the rows; `numbered` are the ids of the rows and the order of these. Raises UserError."""
    ids, order = numbered
    tree = Tree(name, [f"row {row}" for row in order.tolist()], 0, 0, lambda row: _file(_value(rows, row)))
    frames = config.frames if config else "all"
    found = [pictures.look(tree, row, frames, {}) for row in tree.names]
    # The images of the CryptoPunks are known to be sprites of 24x24, which `gather` recognises by itself.
    by = 1 if source.startswith(f"hub:{CRYPTOPUNKS}@") else pictures.enlargement(tree, found, config)
    names = pictures.names(found)
    taken: list[int] = []
    skipped = Counter[str]()

    def decoded() -> Iterator[tuple[str, UInt8[np.ndarray, "h w 4"]]]:
        bad: dict[str, str] = {}
        for place, image in pictures.read(tree, found, frames, bad, skipped):
            if bad:
                break
            taken.append(place)
            yield names[place], scaling.undone(image, by)
        for row, problem in bad.items():
            raise UserError(f"{name}: {row}: {problem}")

    pixels, shape = gather(decoded(), len(names), name, config)
    taken = taken[: len(pixels)]
    notes += (*pictures.notes(found, skipped), *scaling.note(by))
    animated = len(names) > len(order)
    if animated:
        notes += ("ids are positions among all frames, and run.json lists the rows",)
    return unlabelled(
        pixels,
        np.array(taken, int) if animated else ids[order][taken],
        source,
        notes=notes,
        files=tuple(names[place] for place in taken) if animated else (),
        shape=shape,
        groups=pictures.groups(found, taken),
    )


def _value(rows: Any, name: str) -> Any:
    """The value in the image column of the row of this name, such as `row 3`."""
    return rows[int(name.removeprefix("row "))][_COLUMN]


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
            f"{what}: the hub has no public dataset of this name ({_one_line(error)}): check owner and name"
        ) from error
    except ConnectionError as error:
        raise Unavailable(
            f"{what}: the hub cannot be reached and no copy is cached ({_one_line(error)}): check the network"
        ) from error
    except Exception as error:
        # `datasets` passes on exceptions of file formats, YAML, Arrow and its HTTP client, which has changed twice;
        # DatasetGenerationError wraps the real cause. Nothing above raises UserError.
        cause = error.__cause__ if isinstance(error, DatasetGenerationError) and error.__cause__ else error
        raise UserError(
            f"{what}: cannot read images from a split {_SPLIT!r} ({_one_line(cause)}): choose another dataset"
        ) from error
    if revision and isinstance(builder, Cache) and builder.hash != revision:
        # Offline, `datasets` uses the revision it loaded last.
        raise Unavailable(
            f"{what}: the hub cannot be reached, and the cached copy is of commit {builder.hash}: "
            "check the network, or ask for that commit"
        )
    if isinstance(rows.features.get(_COLUMN), datasets.Image):
        rows = rows.cast_column(_COLUMN, datasets.Image(decode=False))
    others = sorted((split, of.num_examples) for split, of in (builder.info.splits or {}).items() if split != _SPLIT)
    left_out = ", ".join(f"{split} ({count} rows)" for split, count in others)
    notes = (f"left out the other splits: {left_out}",) if others else ()
    return rows, str(builder.hash), notes


def _one_line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _file(value: Any) -> io.BytesIO | Path:
    """The encoded image in a value of `datasets`: a dict with its bytes or, for a separate file, its path in the cache.

    Raises UserError for any other path: the dataset's author wrote it, and it could name any file of this machine.
    """
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        return io.BytesIO(value["bytes"])
    if not (isinstance(value, dict) and isinstance(value.get("path"), str)):
        raise UserError(f"expected an image, got a value of type {type(value).__name__}")
    try:
        path = Path(value["path"]).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"not an image but an invalid path: {_one_line(error)}") from error
    if not any(path.is_relative_to(cache) for cache in _caches()):
        raise UserError(f"not an image but a path outside the hub's cache: {_one_line(value['path'])}")
    return path


def _caches() -> list[Path]:
    """The directories in which `datasets` and `huggingface_hub` store what they download and unpack."""
    from datasets.config import HF_DATASETS_CACHE
    from huggingface_hub.constants import HF_HUB_CACHE

    return [Path(cache).resolve() for cache in (HF_DATASETS_CACHE, HF_HUB_CACHE)]


def _punk_numbers(rows: Any) -> tuple[Int[np.ndarray, "n"], bool]:
    """(ids, whether they are the numbers in the rows' original URLs, `.../cryptopunk0042.png`); else row positions."""
    if _URL_COLUMN in rows.column_names:
        found = [re.search(r"(\d{1,15})\.\w+$", str(address)) for address in rows[_URL_COLUMN]]
        numbers = [int(match[1]) for match in found if match]
        if len(set(numbers)) == len(rows):
            return np.array(numbers), True
    return np.arange(len(rows)), False
