"""Images from the Hugging Face hub, through `datasets`."""

import re

import numpy as np

from flax_punkvae.data.files import stack, to_rgba
from flax_punkvae.data.raw import Raw, Unavailable, unlabelled
from flax_punkvae.errors import UserError

CRYPTOPUNKS = "huggingnft/cryptopunks"
_COLUMN = "image"
_SPLIT = "train"
_URL_COLUMN = "image_original_url"


def load(name: str) -> Raw:
    """The split `train` of `OWNER/NAME[@REVISION]`: its column `image`, ordered by punk number where the rows tell it.

    Raises Unavailable where the hub or the set cannot be reached, UserError where the set is not as expected.
    """
    repository, _, revision = name.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UserError(f"data.source: expected hub:OWNER/NAME, optionally with @REVISION, got hub:{name}")
    rows = _download(repository, revision or None)
    if _COLUMN not in rows.column_names:
        raise UserError(
            f"hub:{name}: expected a column {_COLUMN!r}, got the columns {', '.join(rows.column_names)}"
        )
    if not len(rows):
        raise UserError(f"hub:{name}: expected images, got an empty split {_SPLIT!r}")
    ids = _punk_numbers(rows)
    order = np.argsort(ids, kind="stable")
    images, names = [], []
    for row in order.tolist():
        try:
            images.append(to_rgba(rows[row][_COLUMN]))
        except (UserError, AttributeError, OSError, ValueError, TypeError) as error:
            raise UserError(f"hub:{name}: row {row}: {' '.join(str(error).split())}") from error
        names.append(f"row {row}")
    return unlabelled(stack(images, names, f"hub:{name}"), ids[order], f"hub:{name}")


def _download(repository: str, revision: str | None):
    # Imported here: it takes a second, and most runs do not need it.
    import datasets
    import datasets.exceptions

    what = f"hub:{repository}" + (f"@{revision}" if revision else "")
    try:
        return datasets.load_dataset(repository, revision=revision, split=_SPLIT)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise Unavailable(f"{what}: expected a public set on the hub, got: {_first_line(error)}") from error
    except ConnectionError as error:
        raise Unavailable(
            f"{what}: the hub cannot be reached and no copy is cached ({_first_line(error)}): check the network"
        ) from error
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise UserError(f"{what}: expected a set with a split {_SPLIT!r}, got: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _punk_numbers(rows) -> np.ndarray:
    """Ids [n]: the numbers in the rows' original addresses (`.../cryptopunk0042.png`), or the rows' positions."""
    if _URL_COLUMN in rows.column_names:
        found = [re.search(r"(\d{1,15})\.\w+$", str(address)) for address in rows[_URL_COLUMN]]
        numbers = [int(match[1]) for match in found if match]
        if len(set(numbers)) == len(rows):
            return np.array(numbers)
    return np.arange(len(rows))
