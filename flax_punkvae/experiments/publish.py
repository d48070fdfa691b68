"""Publish a trained model: `python -m flax_punkvae.experiments.publish RUN_DIR --to DIR|hub:OWNER/NAME`."""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from flax_punkvae import console
from flax_punkvae.errors import UserError, run_program
from flax_punkvae.flags import parse
from flax_punkvae.opening import Opening

PROG = "python -m flax_punkvae.experiments.publish"


@dataclass(frozen=True)
class Options(Opening):
    """Publish a trained model as a folder of plain files, or upload them to the Hugging Face hub: weights
    (safetensors), config, card, samples and, if the run holds one, its evaluation."""

    run_dir: tyro.conf.Positional[Path]
    """Run directory."""
    to: str
    """A new or empty folder, or hub:OWNER/NAME."""
    name: str | None = None
    """Name of the model in its card. The default is that of the folder or the repository."""
    license: str | None = None
    """Licence of the weights, as the hub names it, such as mit or cc-by-4.0; needed for an upload."""
    revision: str | None = None
    """Branch to upload to, created if it is missing; the default is the main one."""
    with_images: bool = False
    """Add a picture of eight held-out images and their reconstructions; the images' licence must allow it."""
    private: bool = False
    """Create the repository as a private one."""
    yes: bool = False
    """Upload without asking."""


def main(arguments: Sequence[str]) -> int:
    """Write or upload the files; the exit status is 0, or 1 if the user says no."""
    options = parse(Options, arguments, None, PROG)
    repository = _validate(options)

    from flax_punkvae.devices import backend
    from flax_punkvae.publishing import folder, hub
    from flax_punkvae.trained import runs
    from flax_punkvae.training import run_directory

    backend.prepare("auto")
    model = runs.open_model(options.run_dir, options)
    config, facts = run_directory.read_config(options.run_dir), run_directory.read_facts(options.run_dir)
    target = (repository or Path(options.to).absolute().name).rpartition("/")[2]
    name = options.name or target
    opened = runs.with_images(options.run_dir, model, options.data) if options.with_images else None
    content, notes = folder.files(
        model,
        config,
        facts,
        folder.training_seconds(options.run_dir),
        _evaluation(options.run_dir, model.description.step),
        name,
        options.license,
        f"hub:{repository}{f'@{options.revision}' if options.revision else ''}" if repository else target,
        opened,
    )
    for line in (*model.notes, *notes):
        console.say(line)
    for file, data in content.items():
        console.say(f"{file}: {len(data):,} bytes")
    if repository is None:
        _write(Path(options.to), content)
        console.say(f"written to {options.to}")
        return 0
    where = f"hub:{repository}" + (f", branch {options.revision}" if options.revision else "")
    if not options.yes and not _confirmed(f"upload these {len(content)} files to {where}?"):
        console.say("nothing was uploaded")
        return 1
    message = f"Publish {name}, step {model.description.step}"
    address = hub.upload(content, repository, options.revision, options.private, message)
    console.say(f"uploaded to {where} ({address})")
    return 0


def _validate(options: Options) -> str | None:
    """The repository on the hub, or None for a folder. Raises UserError."""
    if not options.to.startswith("hub:"):
        target = Path(options.to)
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise UserError(f"{target} is not empty: choose a new or empty folder for --to")
        for name, given in (("--revision", options.revision), ("--private", options.private), ("--yes", options.yes)):
            if given:
                raise UserError(f"{name} is for an upload: leave it out, or use --to hub:OWNER/NAME")
        return None
    repository = options.to.removeprefix("hub:")
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repository, re.ASCII):
        raise UserError(f"--to: {options.to!r} is not the name of a model: write hub:OWNER/NAME")
    if not options.license:
        raise UserError("--license is needed for an upload: name the licence of the weights, such as mit or cc-by-4.0")
    if not options.yes and not sys.stdin.isatty():
        raise UserError("an upload must be confirmed: add --yes, or run this in a terminal")
    return repository


def _confirmed(question: str) -> bool:
    console.say(f"{question} [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _evaluation(run: Path, step: int) -> dict[str, Any] | None:
    """The run's evaluation.json, if it is of this step."""
    try:
        found = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
        return found if found["run"]["step"] == step else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _write(target: Path, files: dict[str, bytes]) -> None:
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (target / name).write_bytes(content)
    except OSError as error:
        raise UserError(f"{target} cannot be written ({error.strerror}): choose another folder for --to") from error


if __name__ == "__main__":
    run_program(main)
