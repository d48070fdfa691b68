"""Input that the training program refuses, and what its one line names."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

BAD_FLAGS = [
    (("--train.epochs", "0"), "train.epochs"),
    (("--train.epochs", "-1"), "train.epochs"),
    (("--train.epochs", "1.5"), "train.epochs"),
    (("--train.epochs", "99999999999"), "train.epochs"),
    (("--train.epochs", "many"), "train.epochs"),
    (("--train.batch-size", "0"), "train.batch_size"),
    (("--train.beta", "nan"), "train.beta"),
    (("--train.beta", "inf"), "train.beta"),
    (("--train.beta", "-1"), "train.beta"),
    (("--train.learning-rate", "0"), "train.learning_rate"),
    (("--train.learning-rate", "nan"), "train.learning_rate"),
    (("--train.checkpoint-every", "0"), "train.checkpoint_every"),
    (("--model.latent", "0"), "model.latent"),
    (("--model.hidden", "-5"), "model.hidden"),
    (("--model.encoder-dropout", "1"), "model.encoder_dropout"),
    (("--model.decoder-dropout", "-0.1"), "model.decoder_dropout"),
    (("--model.encoder-dropout", "nan"), "model.encoder_dropout"),
    (("--model.encoder-widths", "32", "0", "64", "64"), "model.encoder_widths[1]"),
    (("--model.encoder-widths", "32"), "model.decoder_widths"),
    (("--model.encoder-widths", *["8"] * 8, "--model.decoder-widths", *["8"] * 7), "model.encoder_widths"),
    (("--model.encoder-widths",), "model.decoder_widths"),
    (("--model.likelihood", "categorical"), "model.likelihood"),
    (("--data.render", "indices"), "model.likelihood"),
    (("--model.prior", "flow"), "model.prior"),
    (("--model.residual-blocks", "-1"), "model.residual_blocks"),
    (("--model.pixel-hidden", "-1"), "model.pixel_hidden"),
    (
        ("--data.colours", "8"),
        "data.colours: only palette indices have a number of colours: set data.render to indices",
    ),
    (("--data.colours", "1"), "data.colours: 1 is out of range: choose a whole number from 2 to 65536"),
    (("--model.pixel-hidden", "4"), "model.pixel_hidden: an autoregressive decoder needs palette indices"),
    (("--train.auxiliary", "1.5"), "train.auxiliary"),
    (("--train.auxiliary", "nan"), "train.auxiliary"),
    (("--model.embedding", "0"), "model.embedding"),
    (("--data.tile", "0", "24"), "data.tile[0]"),
    (("--data.tile", "24"), "data.tile"),
    (("--data.synthetic-size", "7"), "data.synthetic_size"),
    (("--train.beta-warmup", "1.5"), "train.beta_warmup"),
    (("--train.beta-warmup", "nan"), "train.beta_warmup"),
    (("--train.schedule", "linear"), "train.schedule"),
    (("--train.weight-decay", "-0.1"), "train.weight_decay"),
    (("--train.weight-decay", "nan"), "train.weight_decay"),
    (("--data.limit", "1"), "data.limit"),
    (("--data.shift", "-1"), "data.shift"),
    (("--data.augment-until", "1.1"), "data.augment_until"),
    (("--data.augment-until", "nan"), "data.augment_until"),
    (("--data.limit", "some"), "data.limit"),
    (("--data.test-fraction", "0"), "data.test_fraction"),
    (("--data.test-fraction", "1"), "data.test_fraction"),
    (("--data.test-fraction", "nan"), "data.test_fraction"),
    (("--data.split-seed", "-1"), "data.split_seed"),
    (("--data.validation-fraction", "1"), "data.validation_fraction"),
    (("--data.validation-fraction", "nan"), "data.validation_fraction"),
    (("--train.patience", "-1"), "train.patience"),
    (("--train.patience", "5"), "train.patience: early stopping needs validation images"),
    (("--data.background", "blue"), "data.background"),
    (("--data.alpha", "keep"), "data.alpha: keep needs palette indices"),
    (("--data.alpha", "hard", "--data.render", "sprite"), "data.alpha: hard needs palette indices"),
    (("--data.alpha", "soft"), "data.alpha"),
    (("--data.render", "sharp"), "data.render"),
    (("--data.synthetic-count", "0"), "data.synthetic_count"),
    (("--seed", "-1"), "seed"),
    (("--seed", str(2**31)), "seed"),
    (("--seed",), "seed"),
    (("--train.epoch", "3"), "--train.epochs"),
    (("--data.sources", "x"), "--data.source"),
    (("stray",), "stray"),
]


BAD_PRESETS = [
    ("not = [toml", "not valid TOML"),
    ("seed = true", "seed"),
    ('seed = "three"', "seed"),
    ("seed = 1.5", "seed"),
    ("sed = 1", "seed"),
    ("[train]\nepoch = 3", "train.epochs"),
    ("[train]\nepochs = [1, 2]", "2"),
    ("[trian]\nepochs = 3", "train.epochs"),
    ("train = 3", "train."),
    ('[model]\nencoder_widths = ["a", "b"]', "model.encoder_widths"),
    ("[train]\nbeta = nan", "train.beta"),
    ("\x00", "not valid TOML"),
    # Values that would be flags of their own, or those of another type that would still be read.
    ('[data]\ntile = [24, 24, "--seed=9"]', "data.tile: expected an array of whole numbers"),
    ('[data]\nsource = ["a", "--seed=9"]', "data.source: expected a string"),
    ("[data]\nsource = 3", "data.source: expected a string"),
    ("[data]\nsource = true", "data.source: expected a string"),
    ("[data]\nsource = 2020-01-01", "data.source: expected a string"),
    ('[data]\nlimit = "3"', "data.limit: expected a whole number"),
    ('[data]\nlimit = "None"', "data.limit: expected a whole number"),
    ("[data]\nflip = 1", "data.flip: expected true or false"),
    ('[data]\nflip = "true"', "data.flip: expected true or false"),
    ("[data]\ntile = 24", "data.tile: expected an array of whole numbers"),
    ("[data]\ntile = [[24], 24]", "data.tile: expected an array of whole numbers"),
    ("[data]\ntile = [24.0, 24.0]", "data.tile: expected an array of whole numbers"),
    ("[data]\ntile = [24]", "tile"),
    ("[data]\ntile = [-1, 24]", "data.tile[0]"),
    ("[data]\nrender = 3", "data.render: expected a string"),
    ('[data]\nrender = "--seed=9"', "render"),
    ('[train]\nepochs = "3"', "train.epochs: expected a whole number, got '3'"),
    ('[train]\nepochs = "3 --seed=9"', "train.epochs: expected a whole number"),
    ("[train]\nepochs = 3.0", "train.epochs: expected a whole number"),
    ("[train]\nepochs = true", "train.epochs: expected a whole number"),
    ('[train]\nbeta = "2"', "train.beta: expected a number"),
    ("[train]\nbeta = false", "train.beta: expected a number"),
    ("[train]\nbeta = 12:00:00", "train.beta: expected a number"),
    ("[train.epochs]\nseed = 3", "train.epochs.seed"),
    ("[train.epochs]", "train.epochs: expected a whole number"),
    ("[trian]", "trian"),
    ("[[train]]\nepochs = 3", "unknown field train"),
    ('"train.epochs" = 3', '"train.epochs"'),
    (f"seed = {'9' * 5000}", "not valid TOML"),
    (f"seed = {'[' * 5000}", "not valid TOML"),
]


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def encoded(mode: str, form: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 4), np.uint8)
    return saved(Image.fromarray(pixels).convert(mode), form)


def animated(form: str) -> bytes:
    """Three frames of one colour but for a pixel: files of these formats may store a single colour in a few bytes."""
    frames = [Image.new("RGB", (48, 48), colour) for colour in ("red", "green", "blue")]
    for frame in frames:
        frame.putpixel((5, 7), (255, 255, 255))
    return saved(frames[0], form, save_all=True, append_images=frames[1:], lossless=True)


def bomb(side: int) -> bytes:
    """A PNG that says it has side x side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


BAD_IMAGES = {
    "no bytes": (b"", "not an image in a known format"),
    "text": (b"not an image\n", "not an image in a known format"),
    "PostScript": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 24\n%%EndComments\n",
        "not an image in a known format",
    ),
    "half a PNG": (encoded("RGB", "PNG")[:400], "damaged: "),
    "half a JPEG": (encoded("RGB", "JPEG")[:700], "damaged: "),
    "half a BMP": (encoded("RGB", "BMP")[:400], "damaged: "),
    "half a GIF's second frame": (animated("GIF")[:-20], ""),
    "32-bit floats": (saved(Image.fromarray(np.zeros((48, 48), np.float32)), "TIFF"), "mode F): convert it"),
    "L*a*b*": (saved(Image.new("LAB", (48, 48)), "TIFF"), "mode LAB): convert it"),
    "pages": (saved(Image.new("L", (9, 9)), "TIFF", save_all=True, append_images=[Image.new("L", (9, 9))]), "pages"),
    # Its head may be read, since a sheet may be as large.
    "a small bomb": (bomb(10_000), "damaged: "),
    "a bomb": (bomb(100_000), f"too large: more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels"),
    "a bomb beyond 32 bits": (bomb(2**32 - 1), ""),
}
