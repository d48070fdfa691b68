"""Configs as TOML files, checked for the same types and ranges as flags."""

import codecs
import dataclasses
import difflib
import functools
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import tyro

from flax_punkvae.config import Config, flat, to_table, validate
from flax_punkvae.errors import UserError
from flax_punkvae.flags import errors_as_one_line


def read_preset(path: Path) -> Config:
    """Read a TOML file as a validated Config; missing fields keep their defaults. Raises UserError."""
    return from_table(_read(path), path)


def read_run(path: Path) -> Config:
    """`read_preset` for the config of a run, which may be of an older version."""
    return from_run(_read(path), path)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot read the preset ({error.strerror}): name a TOML file") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or content[:2].count(0) == 1 < len(content):
        raise UserError(f"{path}: the preset is in UTF-16 or UTF-32: save it again as UTF-8")
    try:
        # Some editors start UTF-8 files with a byte order mark.
        return tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid TOML: {' '.join(str(error).split())}") from error


def from_table(table: Any, where: Path) -> Config:
    """Turn a parsed file into a validated Config; missing fields keep their defaults. UserErrors name `where`."""
    # Passed as arguments, not as defaults, so that one parser checks both presets and flags.
    try:
        config = _parsed(*_arguments(table))
        validate(config)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return config


# A run's config is read several times when it is opened, and parsing takes longer than the rest of reading.
@functools.lru_cache(maxsize=64)
def _parsed(*arguments: str) -> Config:
    with errors_as_one_line():
        return tyro.cli(Config, args=arguments, add_help=False)


def from_run(table: Any, where: Path) -> Config:
    """`from_table` for the config of a run. A field that its version did not know gets the value it then had."""
    data, model = (table.get(name) if isinstance(table.get(name), dict) else None for name in ("data", "model"))
    if data is not None:
        table = {**table, "data": {"alpha": "background", **data}}
    if model is not None and model.get("likelihood") == "categorical":
        table = {**table, "model": {"positions": "all", **model}}
    return from_table(table, where)


def to_toml(config: Config) -> str:
    """The config as TOML that `read_preset` reads back to an equal Config."""
    tables = to_table(config)
    lines = [f"{name} = {_toml_value(value)}" for name, value in tables.items() if not isinstance(value, dict)]
    for name, table in tables.items():
        if isinstance(table, dict):
            lines += ["", f"[{name}]"]
            lines += [f"{key} = {_toml_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _arguments(table: dict[str, Any]) -> Iterator[str]:
    """Turn the table into flags. Checks each value against its field's type, so that none is parsed as a flag."""
    types = dict(_types(Config))
    for name, value in flat(table):
        if value == {} and name in get_type_hints(Config) and name not in types:
            continue
        if name not in types:
            nearest = difflib.get_close_matches(name, types, n=1, cutoff=0.0)[0]
            raise UserError(f"unknown field {name}: perhaps you meant {nearest}")
        if not _fits(value, types[name]):
            raise UserError(f"{name}: expected {_described(types[name])}, got {value!r}")
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            # A flag without a value; every bool is false by default.
            yield from [flag] * value
        elif isinstance(value, list):
            yield flag
            yield from map(str, value)
        else:
            yield f"{flag}={value}"


def _types(cls: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, declared type) of every field, recursing into dataclasses."""
    for name, declared in get_type_hints(cls).items():
        if dataclasses.is_dataclass(declared):
            yield from _types(declared, f"{prefix}{name}.")  # pyright: ignore[reportArgumentType]
        else:
            yield prefix + name, declared


def _fits(value: object, declared: Any) -> bool:
    """Whether a TOML value has a field's declared type; the flag parser checks choices."""
    declared = _without_none(declared)
    if get_origin(declared) is tuple:
        return isinstance(value, list) and all(_fits(item, get_args(declared)[0]) for item in value)
    if get_origin(declared) is Literal:
        return isinstance(value, str)
    if declared is bool:
        return isinstance(value, bool)
    accepted = get_args(declared) or (declared,)
    # In Python, TOML's true is an int. A whole number is also a valid float.
    return not isinstance(value, bool) and isinstance(value, (*accepted, int) if float in accepted else accepted)


def _without_none(declared: Any) -> Any:
    """The other type of an optional field, since TOML has no None."""
    others = [choice for choice in get_args(declared) if choice is not type(None)]
    return others[0] if type(None) in get_args(declared) else declared


def _described(declared: Any) -> str:
    declared = _without_none(declared)
    if get_origin(declared) is tuple:
        return "an array of whole numbers"
    if int in (declared, *get_args(declared)):
        return "a whole number"
    return {float: "a number", bool: "true or false"}.get(declared, "a string")


def _toml_value(value: object) -> str:
    if isinstance(value, str | bool):
        # JSON's true and false are TOML's. A JSON string is a TOML basic string, except that TOML requires DEL to be
        # escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(list(value)) if isinstance(value, tuple) else repr(value)
