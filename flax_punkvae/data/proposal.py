"""A config that trains on a set of images: how long, in which batches and with which augmentation, by its size."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flax_punkvae.config import Config, DataConfig, ModelConfig, TrainConfig, batches
from flax_punkvae.data import Dataset, address
from flax_punkvae.data.inspection import facing
from flax_punkvae.images import enlarges
from flax_punkvae.presets import to_toml

# From this many training images on, the sprite preset's settings, which were chosen on 8,000 punks.
LARGE = 6_000
# With fewer images in all, a tenth of the training images says too little about which checkpoint is best.
VALIDATED = 200
# With fewer, samples are hardly more than variations of single training sprites.
WANTED = 200
# Steps with few images, and with 8,000 or more, for each likelihood.
_FEWEST_STEPS, _MOST_STEPS, _MOST_AT = 1_000, {"categorical": 10_000, "gaussian": 3_750}, 8_000
# Sprites that face one way by more than this are not mirrored: 0.03 for avatars seen from the front, 0.2 for busts.
_FACING = 0.1
# Sprites of fewer pixels a side are not shifted: one pixel is a large part of them.
_LEAST_SHIFTED = 8

# On two cores of an AMD EPYC, a step of 64 avatars of 16x16 takes 33 ms, and what ends an epoch about half a second.
_SECONDS_PER_PIXEL, _SECONDS_PER_EPOCH = 0.033 / (64 * 256), 0.5

# The networks of the presets experiments/sprite and experiments/own_sprites.
_DENSE: dict[str, Any] = {
    "encoder_widths": (),
    "decoder_widths": (),
    "hidden": 512,
    "residual_blocks": 1,
    "latent": 32,
    "prior": "autoregressive",
}


def propose(config: DataConfig, dataset: Dataset) -> Config:
    """The config to train on these images, which `config` describes; what it sets itself is kept.

    Steps grow with the number of training images, so epochs fall: 350 for 40 images, 150 for 720, 80 for 8,000.
    """
    data = replace(config, source=address(config.source))
    count = len(dataset.parts(data).train)
    if count < LARGE:
        height, width = dataset.images.shape[1:3]
        seen = dataset.originals
        few = len(dataset.images) < VALIDATED
        data = replace(
            data,
            validation_fraction=data.validation_fraction or (0.0 if few else 0.1),
            shift=data.shift or int(min(height, width) >= _LEAST_SHIFTED),
            flip=data.flip or facing(seen) < _FACING,
        )
    model = _model(data, count)
    train = _train(model, data, len(dataset.parts(data).train))
    return Config(data=data, model=model, train=train)


def describe(config: Config, dataset: Dataset) -> list[str]:
    """What the config does and why, in lines for the user, and what to expect of it."""
    data, train = config.data, config.train
    parts = dataset.parts(data)
    of, size = batches(train, len(parts.train))
    lines = [
        f"training: {train.epochs} epochs of {of} batches of {size} images, {train.epochs * of:,} steps"
        f"{_time(config, dataset, train.epochs * of * size)}"
    ]
    if len(parts.validation):
        lines.append(
            f"validation: {len(parts.validation)} images choose the checkpoint; training stops after {train.patience} "
            "epochs without a better validation loss"
        )
    elif len(dataset.images) < VALIDATED:
        lines.append(
            f"validation: none, since a tenth of {len(parts.train)} training images says too little about which "
            "checkpoint is best"
        )
    if data.shift or data.flip:
        how = [f"moved by up to {data.shift} pixel{'s' * (data.shift > 1)}"] if data.shift else []
        how += ["mirrored"] if data.flip else []
        until = f"in the first {data.augment_until:.0%} of the steps"
        not_mirrored = "" if data.flip else "; not mirrored, since the sprites face one way"
        lines.append(f"augmentation: training images are {' and '.join(how)}, {until}{not_mirrored}")
    return lines + _expectations(config, len(dataset.images))


def to_preset(config: Config, header: Sequence[str]) -> str:
    """The config as TOML that `read_preset` reads, below lines of comment."""
    return "".join(f"# {' '.join(line.split())}\n" for line in header) + "\n" + to_toml(config)


def _time(config: Config, dataset: Dataset, images: int) -> str:
    """How long this takes, from a step of 64 avatars of 16x16; empty for other models."""
    if config.data.render != "indices":
        return ""
    _, height, width, _ = dataset.images.shape
    seconds = images * height * width * _SECONDS_PER_PIXEL + config.train.epochs * _SECONDS_PER_EPOCH
    return f", roughly {math.ceil(seconds / 60)} min on two CPU cores"


def _expectations(config: Config, count: int) -> list[str]:
    if config.data.render != "indices":
        return []
    if count < WANTED:
        return [
            f"expect: {count} sprites give a model, but many of its samples are a training sprite or close to one; "
            f"{WANTED} or more are wanted. After training on 40 made-up characters, half of 24 samples were whole and "
            "4 were copies; on 144, half were whole and none was a copy"
        ]
    if count < LARGE:
        return [
            "expect: 1,000 avatars of 16x16 (DiceBear) end at 120 bits per held-out sprite, 5,000 at 90. On 1,000 "
            "about half of the samples are whole"
        ]
    return ["expect: 10,000 punks end at 20 bits per held-out sprite, and nearly all samples are whole"]


def _model(data: DataConfig, count: int) -> ModelConfig:
    if enlarges(data.render):
        return ModelConfig()
    rate = 0.3 if count < 2_000 else 0.2 if count < LARGE else 0.1
    model = ModelConfig(encoder_dropout=rate, decoder_dropout=rate, **_DENSE)
    return replace(model, likelihood="categorical", pixel_hidden=64) if data.render == "indices" else model


def _train(model: ModelConfig, data: DataConfig, count: int) -> TrainConfig:
    """`count` is the number of training images, without those for validation."""
    small = count < LARGE
    train = TrainConfig(batch_size=16 if count < 100 else 32 if count < 400 else 64, fit_batches=small)
    if model.likelihood == "categorical":
        train = replace(
            train,
            beta=1.0,
            beta_warmup=0.25,
            auxiliary=0.1 if small else 0.3,
            learning_rate=0.001 if small else 0.002,
            schedule="cosine",
            weight_decay=0.1,
        )
    most = _MOST_STEPS[model.likelihood]
    steps = _FEWEST_STEPS + (most - _FEWEST_STEPS) * min(count / _MOST_AT, 1)
    epochs = _rounded(steps / batches(train, count)[0])
    return replace(
        train,
        epochs=epochs,
        checkpoint_every=max(epochs // 8, 1),
        patience=_rounded(0.4 * epochs) if data.validation_fraction else 0,
    )


def _rounded(number: float) -> int:
    """To two digits, at least 1."""
    return max(int(float(f"{number:.2g}")), 1)
