"""Look at a set of images before training: `python -m flax_punkvae.experiments.inspect SOURCE`."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import tyro

from flax_punkvae import console
from flax_punkvae.config import Config, DataConfig, ModelConfig, validate
from flax_punkvae.errors import UserError, run_program
from flax_punkvae.flags import parse

PROG = "python -m flax_punkvae.experiments.inspect"
_TRAIN = "python -m flax_punkvae.experiments.train"
_SHEET, _CONFIG = "contact.png", "config.toml"


@dataclass(frozen=True)
class Options:
    """Look at a set of images before training: print what is in it, draw a contact sheet, and write the config that
    trains on it."""

    source: tyro.conf.Positional[str] = ""
    """The images, as for --data.source: a sheet, a folder, hub:OWNER/NAME[@REVISION], punks or synthetic."""
    to: Path | None = None
    """Folder for contact.png and config.toml; inspected/<name of the set> by default, or the next free name."""
    data: DataConfig = field(default_factory=lambda: DataConfig(render="indices"))


def main(arguments: Sequence[str]) -> int:
    """Print, draw and write; the exit status is 0."""
    options = _options(arguments)

    # Imported here, so that --help and errors in flags respond at once. Nothing here needs JAX.
    from flax_punkvae import data
    from flax_punkvae.data import contact_sheet, inspection, proposal

    dataset = data.load(options.data)
    config = proposal.propose(options.data, dataset)
    parts = dataset.parts(config.data)
    found, plan = inspection.details(dataset), proposal.describe(config, dataset)
    for line in (*inspection.summary(dataset, parts), *found, *plan):
        console.say(line)
    folder = _folder(options)
    command = f"{_TRAIN} --config {shlex.quote(str(folder / _CONFIG))}"
    header = [f"{dataset.source}, as `{PROG} {shlex.join(arguments)}` found it.", command, *found, *plan]
    _write(folder, {_SHEET: contact_sheet.png(dataset, parts), _CONFIG: proposal.to_preset(config, header).encode()})
    console.say(f"contact sheet: {folder / _SHEET}")
    console.say("to train on it:")
    console.say(command)
    return 0


def _options(arguments: Sequence[str]) -> Options:
    """Raises UserError if the flags are invalid or --to holds these files already."""
    options = parse(Options, arguments, None, PROG)
    named = options.data.source
    if options.source and named not in (DataConfig().source, options.source):
        raise UserError(f"{options.source} and --data.source {named} name two sets: leave one out")
    options = replace(options, data=replace(options.data, source=options.source or named))
    likelihood = "categorical" if options.data.render == "indices" else "gaussian"
    validate(Config(data=options.data, model=ModelConfig(likelihood=likelihood)))
    if options.to:
        _check_free(options.to)
    return options


def _check_free(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--to: {folder} is not a folder: choose another")
    for name in (_SHEET, _CONFIG):
        if (folder / name).exists():
            raise UserError(f"--to: {folder / name} exists: choose another folder, or remove it")


def _folder(options: Options) -> Path:
    """The folder to write to; by default, a new one that is named after the set. Raises UserError."""
    if options.to:
        return options.to
    from flax_punkvae.training.run_directory import free_name

    return free_name(Path("inspected", _name(options.data.source)))


def _name(source: str) -> str:
    """The last part of a path or of a hub set's name, without its suffix."""
    if source.startswith("hub:"):
        return source.partition("@")[0].rpartition("/")[2]
    return "punks" if source == "auto" else Path(source).expanduser().resolve().stem or "sprites"


def _write(folder: Path, files: dict[str, bytes]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with (folder / name).open("xb") as file:
                file.write(content)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}): choose another place for --to") from error


if __name__ == "__main__":
    run_program(main)
