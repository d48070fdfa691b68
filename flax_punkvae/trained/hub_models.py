"""Published models on the Hugging Face hub, downloaded to its cache."""

import re
from pathlib import Path

from flax_punkvae.errors import UserError
from flax_punkvae.opening import PUBLISHED_CONFIG, PUBLISHED_WEIGHTS, is_published


def local(where: str | Path) -> Path:
    """The directory of a model: `where` itself or, for hub:OWNER/NAME[@REVISION], a copy of it in the hub's cache.

    Raises UserError if the name is wrong, or the hub cannot be reached and has no copy in the cache.
    """
    text = str(where)
    if not text.startswith("hub:"):
        return Path(where).expanduser()
    match = re.fullmatch(r"hub:(\w[\w.-]*/\w[\w.-]*)(?:@([^\s@]+))?", text, re.ASCII)
    if not match:
        raise UserError(f"{text!r} is not the name of a model: write hub:OWNER/NAME or hub:OWNER/NAME@REVISION")
    repository, revision = match.groups()
    # Imported here: it takes a second.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        folder = snapshot_download(repository, revision=revision, allow_patterns=[PUBLISHED_CONFIG, PUBLISHED_WEIGHTS])
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise UserError(f"{text}: the hub has no public model or revision of this name: check both") from error
    except Exception as error:
        # The client of the hub passes on the exceptions of its HTTP client, which has changed twice.
        what = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{text}: cannot be downloaded, and no copy is cached ({what}): check the network") from error
    if not is_published(Path(folder)):
        raise UserError(f"{text} holds no model of flax_punkvae ({PUBLISHED_CONFIG} and {PUBLISHED_WEIGHTS})")
    return Path(folder)
