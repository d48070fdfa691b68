"""Upload a published model to the Hugging Face hub."""

from typing import Any

from flax_punkvae.errors import UserError


def upload(files: dict[str, bytes], repository: str, revision: str | None, private: bool, message: str) -> str:
    """Upload the files to OWNER/NAME in one commit, and return its address. Raises UserError if that fails.

    The repository and the branch are created if they are missing; other files in them stay.
    """
    # Imported here: it takes a second.
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    if api.token is None and not _token():
        raise UserError("the hub needs a token: run `hf auth login`, or set HF_TOKEN")
    what = f"hub:{repository}"
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        if revision:
            api.create_branch(repository, branch=revision, exist_ok=True)
        operations: Any = [CommitOperationAdd(name, content) for name, content in files.items()]
        commit = api.create_commit(repository, operations, commit_message=message, revision=revision)
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        advice = {401: "log in again with `hf auth login`", 403: "use a token that may write there"}
        raise UserError(
            f"{what}: the hub refused ({_one_line(error)}): {advice.get(status or 0, 'try again later')}"
        ) from error
    except Exception as error:
        # The client of the hub passes on the exceptions of its HTTP client, which has changed twice.
        raise UserError(
            f"{what}: nothing was published ({_one_line(error)}): check the network and try again"
        ) from error
    return str(commit.commit_url)


def _token() -> str | None:
    from huggingface_hub import get_token

    return get_token()


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
