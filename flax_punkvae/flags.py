"""Parse command lines into dataclasses: each field is a flag, its docstring the help text; an error is one line."""

import ast
import contextlib
import dataclasses
import functools
import inspect
import io
import itertools
import os
import re
import textwrap
from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import Any, TypeVar, get_args, get_type_hints

import tyro

from flax_punkvae.errors import UserError

T = TypeVar("T")


def parse(cls: type[T], arguments: Sequence[str], default: T | None, prog: str) -> T:
    """Parse the command line into a dataclass.

    `default` provides the values that no flag sets and the defaults that --help prints. If it is None, the class does,
    and fields without a default are required.

    Raises UserError for unknown flags, values of the wrong type and values that are not UTF-8. `validate` checks
    ranges.
    """
    _check_utf8(arguments)
    _join_help(cls)
    defaults: dict[str, Any] = {} if default is None else {"default": default}
    with errors_as_one_line():
        return tyro.cli(cls, prog=prog, args=list(arguments), config=(tyro.conf.FlagCreatePairsOff,), **defaults)


def parse_known(cls: type[T], arguments: Sequence[str]) -> T:
    """Parse the fields of `cls` and ignore all other flags. Raises UserError."""
    _check_utf8(arguments)
    with errors_as_one_line():
        parsed, _ = tyro.cli(
            cls, args=list(arguments), return_unknown_args=True, add_help=False, config=(tyro.conf.FlagCreatePairsOff,)
        )
    return parsed


@functools.cache
def _join_help(cls: Any) -> None:
    """Make every field's docstring one line of help text, so that --help wraps it to the width of the terminal.

    tyro keeps the line breaks of a docstring, but prefers `metadata["help"]` to the docstring.
    """
    for declared in get_type_hints(cls).values():
        for part in (declared, *get_args(declared)):
            if dataclasses.is_dataclass(part):
                _join_help(part)
    texts: dict[str, str] = {}
    for owner in reversed([base for base in cls.__mro__ if "__dataclass_fields__" in vars(base)]):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(definition, ast.ClassDef)
        for statement, below in itertools.pairwise(definition.body):
            match statement, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    texts[name] = " ".join(text.split())
    for described in dataclasses.fields(cls):
        if described.name in texts:
            described.metadata = MappingProxyType({**described.metadata, "help": texts[described.name]})


def _check_utf8(arguments: Sequence[str]) -> None:
    """Raise UserError for paths that are not UTF-8: config.toml, run.json and checkpoints cannot store them."""
    with contextlib.suppress(FileNotFoundError):
        arguments = [*arguments, os.getcwd()]
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            shown = argument.encode(errors="backslashreplace").decode()
            raise UserError(f"{shown}: not UTF-8: rename the file or folder") from error


@contextlib.contextmanager
def errors_as_one_line() -> Iterator[None]:
    """Turn tyro's error, a printed box of several lines and an exit, into a UserError of one line."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            yield
    except SystemExit as stop:
        if not stop.code:
            raise
        # tyro colours its text if standard output is a terminal.
        text = re.sub(r"\x1b\[[0-9;]*m", "", printed.getvalue())
        text = re.sub(r"[╭╮╰╯│]|─+ [A-Z][a-z ]+ ─+", " ", text)
        message, *rest = (" ".join(part.split()) for part in re.split(r"─{3,}", text) if part.strip(" \n─"))
        hints = [re.findall(r"--\S+", part)[0] for part in rest if part.startswith("Perhaps you meant")]
        hint = f": perhaps you meant {hints[0]}" if hints else ""
        raise UserError(f"{message.rstrip('.')}{hint} (--help lists the options)") from None
