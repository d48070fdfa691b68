"""Fine-tuning: the parameters of a trained model become the initial parameters of another one.

The architecture must be the same. The palette may be another one: what belongs to a colour goes to the same colour, and
a colour that the trained model does not know begins as the nearest colour that it knows. To a model of RGB, a
transparent colour is what it makes of its background; to one of RGBA, a colour without alpha is opaque.
"""

from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util
from jaxtyping import Bool, Float, Int, UInt8

from flax_punkvae import colours, images, transparency
from flax_punkvae.config import ModelConfig
from flax_punkvae.errors import UserError
from flax_punkvae.model.palette import Support
from flax_punkvae.training.description import Description, digests

# Parameters with one row per colour of the palette; further rows do not belong to a colour.
_BY_COLOUR = ("encoder.colours", "palette.kernel", "pixels.embedding", "pixels.palette.kernel")
# Parameters with one number per open position and colour seen there.
_BY_POSITION = ("palette.bias", "pixels.palette.bias")
# Parameters whose axis, the given one, is the features of all positions or, depending on the model, of the open ones.
_BY_FEATURES = {"encoder.dense.kernel": 0, "decoder.dense_1.kernel": 1, "decoder.dense_1.bias": 0}
# Fields of ModelConfig that shape no parameter.
_FREE = ("encoder_dropout", "decoder_dropout")


class Trained(NamedTuple):
    """A trained model: its parameters (NumPy arrays), their description, and the name by which the user gave it."""

    params: Any
    description: Description
    name: str


def facts(trained: Trained) -> dict[str, Any]:
    """What run.json records about a trained model."""
    old = trained.description
    return {
        "model": trained.name,
        "source": old.source,
        "images_sha256": old.images_sha256,
        "step": old.step,
        "params_sha256": old.params_sha256,
    }


def describe(trained: Trained, palette: UInt8[np.ndarray, "p c"] | None, held_out: UInt8[np.ndarray, "m h w c"]) -> str:
    """A line about a trained model: how many colours of the new palette it knows and, since they are then no longer
    held out, how many of these sprites it was trained on."""
    old = trained.description
    line = f"{trained.name}, step {old.step}, trained on {old.source}, SHA-256 {old.params_sha256[:12]}"
    if palette is not None and old.palette is not None:
        known = set(map(bytes, old.palette))
        count = sum(bytes(colour) in known for colour in _in_channels_of(old, palette))
        line += f"; it knows {count} of the {len(palette)} colours"
    seen = set(map(bytes, old.train_digests))
    if count := sum(bytes(digest) in seen for digest in digests(_in_channels_of(old, held_out))):
        line += f"; it was trained on {count} of the {len(held_out)} test images, whose losses are too low"
    return line


def check(trained: Trained, model: ModelConfig, render: str, size: tuple[int, int]) -> None:
    """Raise UserError if a trained model has another architecture than the config, or images of another size.

    size: (height, width) of the new images.
    """
    theirs = asdict(trained.description.model) | {"render": trained.description.render}
    ours = asdict(model) | {"render": render}
    prefix = {"render": "data.render"}
    changed = [
        f"{prefix.get(name, f'model.{name}')} ({value}, was {theirs[name]})"
        for name, value in ours.items()
        if name not in _FREE and value != theirs[name]
    ]
    if changed:
        raise UserError(
            f"--init {trained.name}: a different architecture, {', '.join(changed)}: use the model's values"
        )
    height, width, _ = trained.description.image_shape
    if size != (height, width):
        raise UserError(
            f"--init {trained.name}: it was trained on images of {width}x{height}, these are {size[1]}x{size[0]}: use "
            "images of its size"
        )


def transferred(
    trained: Trained, params: Any, palette: UInt8[np.ndarray, "p c"] | None, support: Support | None
) -> Any:
    """The initial `params` of a new model, with those of the trained one in their place, as NumPy arrays.

    palette, support: of the new model, if its images are indices. Where the new model has a colour at a position where
    the trained one has not seen it, the bias of its logit stays; so do a position's weights if it was not open to the
    trained one. The two must have passed `check`.
    """
    ours: dict[str, Any] = traverse_util.flatten_dict(params, sep=".")
    theirs: dict[str, Any] = traverse_util.flatten_dict(trained.params, sep=".")
    ours = {name: np.asarray(leaf) for name, leaf in ours.items()}
    moved = {name: np.asarray(leaf) for name, leaf in theirs.items()}
    old = trained.description
    if palette is not None and support is not None:
        assert old.palette is not None and old.support is not None
        palette = _in_channels_of(old, palette)
        nearest = colours.nearest(palette, old.palette)
        known = (palette == old.palette[nearest]).all(axis=1)
        places = _places(support, old.support, nearest, known)
        for name in _BY_COLOUR:
            if name in moved:
                moved[name] = np.concatenate([moved[name][nearest], moved[name][len(old.palette) :]])
        for name in _BY_POSITION:
            if name in moved:
                moved[name] = _biases(ours[name], moved[name], **places)
        if old.model.positions == "open" and not old.model.encoder_widths:
            for name, axis in _BY_FEATURES.items():
                moved[name] = _features(ours[name], moved[name], places["rows"], axis, old.model.embedding)
    assert {name: leaf.shape for name, leaf in ours.items()} == {name: leaf.shape for name, leaf in moved.items()}
    return traverse_util.unflatten_dict(moved, sep=".")


def _in_channels_of(old: Description, pixels: UInt8[np.ndarray, "*n _"]) -> UInt8[np.ndarray, "*n c"]:
    """Colours as the trained model would see them."""
    return transparency.to_channels(pixels, old.channels, images.parse_colour(old.background))


def _places(
    support: Support, old: Support, nearest: Int[np.ndarray, "p"], known: Bool[np.ndarray, "p"]
) -> dict[str, Any]:
    """Where the biases of the trained model are that go to each one of the new model: rows, columns, and whether."""
    row_of = np.full(old.lists.shape[0] * old.lists.shape[1], -1)
    row_of[old.open] = np.arange(len(old.open))
    rows = row_of[support.open]
    # The old index of each listed colour; none for a colour that is not known. A list's end goes to a list's end.
    index = np.append(np.where(known, nearest, -1), old.colours)[support.open_lists]
    same = old.open_lists[rows][:, None, :] == index[:, :, None]
    found = same.any(axis=2) & (rows >= 0)[:, None]
    return {"rows": rows, "columns": same.argmax(axis=2), "found": found}


def _biases(
    ours: Float[np.ndarray, "o m"],
    theirs: Float[np.ndarray, "o2 m2"],
    rows: Int[np.ndarray, "o"],
    columns: Int[np.ndarray, "o m"],
    found: Bool[np.ndarray, "o m"],
) -> Float[np.ndarray, "o m"]:
    return np.where(found, theirs[rows[:, None], columns], ours)


def _features(
    ours: Float[np.ndarray, "..."],
    theirs: Float[np.ndarray, "..."],
    rows: Int[np.ndarray, "o"],
    axis: int,
    width: int,
) -> Float[np.ndarray, "..."]:
    """Our weights, with theirs at the positions that they have, by `rows`; `width` numbers of the axis each."""
    ours, theirs = (np.moveaxis(values, axis, 0) for values in (ours, theirs))
    found, rest = (rows >= 0).reshape(-1, *[1] * ours.ndim), ours.shape[1:]
    moved = np.where(found, theirs.reshape(-1, width, *rest)[rows], ours.reshape(-1, width, *rest))
    return np.moveaxis(moved.reshape(ours.shape), 0, axis)
