"""The directory of a run: checks before a start or resume, its lock, its config.toml and run.json."""

import contextlib
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock

from flax_punkvae.config import Config, differences, to_table
from flax_punkvae.errors import UserError
from flax_punkvae.presets import from_run, read_run, to_toml

_CONFIG = "config.toml"
_FACTS = "run.json"
_CONTACT_SHEET = "contact.png"
_LOCK = ".lock"
_DIGEST = "params_sha256"
# Fields that may differ on resume: they change no step (except train.epochs if something depends on their number), or
# only say where the images come from, whose SHA-256 is checked.
_MAY_CHANGE = (
    *("train.epochs", "train.checkpoint_every", "train.patience"),
    *("data.source", "data.tile", "data.margin", "data.spacing", "data.frames"),
    *("data.synthetic_count", "data.synthetic_seed", "data.synthetic_size"),
)
# Names that file managers, sync tools and file systems create in otherwise empty directories.
_IGNORED = re.compile(
    r"\._.*|\.DS_Store|\.localized|Icon\r|\.Spotlight-V100|\.Trashes|\.fseventsd|\.Trash-.*|\.directory|\.nfs.*"
    r"|Thumbs\.db|desktop\.ini|\$RECYCLE\.BIN|System Volume Information|lost\+found|@eaDir|\.stfolder|\.snapshot",
    re.IGNORECASE,
)


def holds_run(path: Path) -> bool:
    """Whether a run was started there."""
    return os.path.isfile(path / _CONFIG) and os.path.isfile(path / _FACTS)


def check_free(path: Path) -> None:
    """Raise UserError if a new run would overwrite something, or the path cannot be a run directory."""
    try:
        if holds_run(path):
            raise UserError(f"{path} already holds a run: add --resume to continue it, or choose another --run-dir")
        if not path.is_dir():
            existing = next(parent for parent in (path, *path.absolute().parents) if os.path.lexists(parent))
            if existing == path or not existing.is_dir():
                raise UserError(f"{existing} is not a directory: choose another --run-dir")
            return
        content = sorted(name for name in os.listdir(path) if not _IGNORED.fullmatch(name))
    except OSError as error:
        raise _unusable(path, error) from error
    # Leftovers of an interrupted start; run.json is one if config.toml has not been renamed yet.
    begun = {_new(path / _CONFIG).name, _new(path / _FACTS).name, _LOCK}
    if _new(path / _CONFIG).name in content:
        begun.add(_FACTS)
    if found := [name for name in content if name not in begun]:
        raise UserError(
            f"{path} holds other files ({', '.join(found[:3])}): choose a new or empty directory for --run-dir"
        )


def free_name(path: Path) -> Path:
    """Create a new directory at `path` or, if it exists, at the first free one of `path`-2, `path`-3 ..."""
    for number in itertools.count(1):
        candidate = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            candidate.mkdir(parents=True)
            return candidate
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"{candidate} cannot be created ({error.strerror}): choose another place") from error
    raise AssertionError("there is always a next number")


def read_config(path: Path) -> Config:
    """The config of the run in this directory. Raises UserError if there is no run."""
    if not holds_run(path):
        raise UserError(f"{path} holds no run (config.toml and run.json): name a run directory")
    return read_run(path / _CONFIG)


def check_same(path: Path, config: Config) -> None:
    """Raise UserError, naming the fields, if `config` would change the run instead of continuing it.

    Compares with run.json, which holds the config of the first start, so that edits of config.toml are noticed too.
    """
    kept = read_facts(path).get("config")
    expected = read_config(path) if kept is None else from_run(kept, path / _FACTS)
    data, train = config.data, config.train
    ends = (data.shift > 0 or data.flip) and data.augment_until < 1
    # An autoregressive decoder's auxiliary loss falls over a fraction of the steps.
    scheduled = train.schedule != "constant" or train.beta_warmup > 0 or ends or config.model.pixel_hidden > 0
    may_change = tuple(f"{name} (" for name in _MAY_CHANGE if not (scheduled and name == "train.epochs"))
    changed = [text for text in differences(config, expected) if not text.startswith(may_change)]
    if changed:
        raise UserError(
            f"{path} holds a run with a different config, {', '.join(changed)}: use the run's own values, or start a "
            "new run in another --run-dir"
        )


def check_same_data(path: Path, provenance: dict[str, Any], rendered: Callable[[], str]) -> None:
    """Raise UserError if the images are not those of the run; see `check_images`."""
    check_images(path, provenance, read_facts(path)["data"], rendered)


def check_images(path: Path, provenance: dict[str, Any], expected: dict[str, Any], rendered: Callable[[], str]) -> None:
    """Raise UserError if the images are not the expected ones, given by sha256 and source.

    `rendered` computes the SHA-256 of the rendered images, which older versions wrote in place of that of the sprites.
    """
    if expected["sha256"] != provenance["sha256"] and expected["sha256"] != rendered():
        raise UserError(
            f"{provenance['source']} does not hold the images that {path} was trained on (SHA-256 "
            f"{provenance['sha256'][:16]}... instead of {expected['sha256'][:16]}..., "
            f"{expected.get('source', 'source unknown')}): name the original images with --data.source"
        )


def check_links(path: Path) -> None:
    """Raise UserError if a symbolic link leads out of the run directory, which may come from an untrusted source."""
    for folder, folders, files in os.walk(path):
        for name in folders + files:
            inside(path, Path(folder, name))


def start(path: Path, config: Config, facts: dict[str, Any]) -> None:
    """Write run.json and, last, config.toml, which make the directory a run, or neither of them. Raises UserError.

    The directory may exist, be a mount or a link, and hold what `check_free` allows; its lock must be held.
    """
    paths = (path / _FACTS, path / _CONFIG)
    try:
        for final, text in zip(paths, (_json({"config": to_table(config), **facts}), to_toml(config)), strict=True):
            _write(_new(final), text)
        for final in paths:
            _new(final).replace(final)
    except OSError as error:
        for final in paths:
            final.unlink(missing_ok=True)
            _new(final).unlink(missing_ok=True)
        raise _unusable(path, error) from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock the run directory for this process, and create it if it is missing; the lock ends with the process.

    Raises UserError if another process holds the lock. Removes a directory created here that is empty at the end.
    """
    created = not os.path.lexists(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        inside(path, path / _LOCK)
        lock = filelock.FileLock(path / _LOCK)
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UserError(
            f"{path}: another process is working on this run: stop it first, or choose another --run-dir"
        ) from error
    except OSError as error:
        raise (unwritable if holds_run(path) else _unusable)(path, error) from error
    try:
        yield
    finally:
        lock.release()
        if created and set(os.listdir(path)) <= {_LOCK}:
            (path / _LOCK).unlink(missing_ok=True)
            path.rmdir()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise UserError instead of OSError if a write to the run in this context fails."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> UserError:
    """The error for a run directory that cannot be written (full disk, missing permissions)."""
    return UserError(
        f"{path} cannot be written ({error.strerror or error}): free some space or fix its permissions, then continue "
        "with --resume; earlier checkpoints are intact"
    )


def _unusable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} cannot be a run directory ({error.strerror or error}): choose another --run-dir")


def inside(run: Path, path: Path) -> Path:
    """Return `path`, a file to write, after checking that it is inside the run directory `run`.

    Raises UserError if a symbolic link leads out of it; a run directory may come from an untrusted source.
    """
    # Not Path.resolve, which raises for circular links.
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(run)):
        raise UserError(f"{path}: a symbolic link leads out of the run directory: remove it, or choose another place")
    return path


def write_config(path: Path, config: Config) -> None:
    """Replace config.toml, since a resumed run may have more epochs."""
    _replace(path / _CONFIG, to_toml(config))


def write_contact_sheet(path: Path, png: bytes) -> None:
    """Write contact.png, unless an earlier start wrote it. Raises UserError if the disk cannot be written."""
    sheet = inside(path, path / _CONTACT_SHEET)
    with writing(path):
        if not sheet.exists():
            _new(sheet).unlink(missing_ok=True)
            _new(sheet).write_bytes(png)
            _new(sheet).replace(sheet)


def read_facts(path: Path) -> dict[str, Any]:
    """The content of run.json. Raises UserError if it is damaged."""
    try:
        facts = json.loads((path / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path / _FACTS} is damaged ({error}): restore it from a backup") from error
    data = facts.get("data") if isinstance(facts, dict) else None
    if not (isinstance(data, dict) and isinstance(data.get("sha256"), str)):
        raise UserError(f"{path / _FACTS} is damaged (it lacks the SHA-256 of the images): restore it from a backup")
    if not isinstance(facts.get("config", {}), dict):
        raise UserError(f"{path / _FACTS} is damaged (its config is not an object): restore it from a backup")
    return facts


def begin(path: Path, config: Config, start: dict[str, Any], unfinished: bool) -> None:
    """Add a start or resume to run.json; if the run is unfinished, remove the final step and digest."""
    facts = read_facts(path)
    starts = facts.pop("starts", None)
    if not isinstance(starts, list):
        # Older versions had no list; their facts about the start become its first entry.
        old = {
            name: facts.pop(name)
            for name in list(facts)
            if name not in ("config", "data", "init", "final_step", _DIGEST)
        }
        starts = [old] if old else []
    ended = {} if unfinished else {name: facts[name] for name in ("final_step", _DIGEST) if name in facts}
    kept = {"config": facts.get("config", to_table(config)), **{x: facts[x] for x in ("data", "init") if x in facts}}
    _replace(path / _FACTS, _json({**kept, "starts": [*starts, start], **ended}))


def finish(path: Path, step: int, params_sha256: str) -> None:
    """Record in run.json the final step and the digest of the parameters."""
    _replace(path / _FACTS, _json({**read_facts(path), "final_step": step, _DIGEST: params_sha256}))


def _json(facts: dict[str, Any]) -> str:
    return json.dumps(facts, indent=2) + "\n"


def _replace(path: Path, text: str) -> None:
    # Written to a new file and renamed, so that a kill leaves either the old text or the new.
    _write(_new(path), text)
    _new(path).replace(path)


def _write(path: Path, text: str) -> None:
    # Never into an existing file, which may be a link.
    path.unlink(missing_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _new(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")
