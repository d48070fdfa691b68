"""Recipes: what one picture is decoded from, as text for a link, a PNG file or a command line."""

import base64
import binascii
import io
import re
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from flax_punkvae import images
from flax_punkvae.data.decode import read_rgba
from flax_punkvae.errors import UserError
from flax_punkvae.trained.model import Model
from flax_punkvae.training.description import Description

# The name of the text chunk of a PNG file.
CHUNK = "flax_punkvae"
LARGEST_SCALE = 32
# Digits of the parameters' SHA-256 that name a model.
_DIGITS = 12
_TEXT = re.compile(rf"([0-9a-f]{{{_DIGITS}}})\.([\w-]+)\.([0-9]{{0,10}})\.([\w-]*)", re.ASCII)


@dataclass(frozen=True, eq=False)
class Recipe:
    """One latent and what is done with its decoded image.

    seed: of the draws of the pixels' colours, as in `Model.decode`; None takes the most probable ones. positions: of
    painted pixels in the sprite, row by row and distinct; colours: their colours, in the channels of the model.
    """

    z: Float[np.ndarray, "d"]
    seed: int | None = None
    positions: Int[np.ndarray, "m"] = field(default_factory=lambda: np.zeros(0, np.int64))
    colours: UInt8[np.ndarray, "m c"] = field(default_factory=lambda: np.zeros((0, 3), np.uint8))

    def moved(self, z: Float[np.ndarray, "d"]) -> "Recipe":
        """The recipe of another latent: with the same seed, but without paint, which belongs to the old image."""
        return Recipe(z.astype(np.float32), self.seed)


def to_text(recipe: Recipe, described: Description) -> str:
    """MODEL.LATENT.SEED.PAINT, in letters that need no quotes: digits of the parameters' SHA-256, float32 values in
    base64, a number or nothing, painted pixels in base64 or nothing."""
    paint = np.zeros(len(recipe.positions), _paint(described))
    if len(paint):
        paint["position"], paint["colour"] = recipe.positions, recipe.colours
    seed = "" if recipe.seed is None else str(recipe.seed)
    z = recipe.z.astype("<f4").tobytes()
    return f"{_name(described)}.{_to_base64(z)}.{seed}.{_to_base64(paint.tobytes())}"


def parse(text: str, described: Description) -> Recipe:
    """The recipe that `to_text` wrote. Raises UserError if the text is not one, or one of another model."""
    found = _TEXT.fullmatch(text)
    if not found:
        raise UserError(f"{text[:40]!r} is not a recipe: copy the whole of it from the page")
    name, latent, seed, paint = found.groups()
    if name != _name(described):
        raise UserError(f"the recipe is for model {name}, and this is {_name(described)}: open the model that made it")
    z = np.frombuffer(_from_base64(latent, 4), "<f4").astype(np.float32)
    pixels = np.frombuffer(_from_base64(paint, _paint(described).itemsize), _paint(described))
    recipe = Recipe(z, int(seed) if seed else None, pixels["position"].astype(np.int64), pixels["colour"].copy())
    check(recipe, described)
    return recipe


def check(recipe: Recipe, described: Description) -> None:
    """Raise UserError if a recipe does not fit the model or its numbers are out of range."""
    width = described.model.latent
    if recipe.z.shape != (width,):
        raise UserError(f"the recipe has {len(recipe.z)} latents, and the model has {width}: copy the whole recipe")
    if not (np.isfinite(recipe.z).all() and np.abs(recipe.z).max() <= 1e6):
        raise UserError("a latent is not a number from -1000000 to 1000000: choose smaller latents")
    if recipe.seed is not None and not 0 <= recipe.seed < 2**32:
        raise UserError(f"seed {recipe.seed} is out of range: choose a whole number from 0 to {2**32 - 1}")
    height, width = canvas(described)
    if len(np.unique(recipe.positions)) < len(recipe.positions) or (recipe.positions >= height * width).any():
        raise UserError(f"the painted pixels are not distinct pixels of a {width}x{height} sprite: paint them again")


def canvas(described: Description) -> tuple[int, int]:
    """(height, width) of what can be painted on: a sprite or, if the model was not trained on sprites, an image."""
    return described.sprite_size or described.image_shape[:2]


def picture(model: Model, recipe: Recipe, snap: bool = False) -> UInt8[np.ndarray, "h w c"]:
    """The decoded image or, with `snap` or paint, its sprite (`Model.to_sprites`) with the painted pixels in it."""
    image = model.decode_one(recipe.z, recipe.seed)
    return sprite_in(model, recipe, image) if snap or len(recipe.positions) else image


def sprite(model: Model, recipe: Recipe) -> UInt8[np.ndarray, "h w c"]:
    """The sprite of a recipe, in colours of the training palette except where it is painted."""
    return picture(model, recipe, snap=True)


def sprite_in(model: Model, recipe: Recipe, image: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "hs ws c"]:
    """`sprite` for a recipe whose decoded image is at hand."""
    found = model.to_sprites(image[None])[0].copy()
    if len(recipe.positions):
        found.reshape(-1, found.shape[-1])[recipe.positions] = recipe.colours
    return found


def painted(model: Model, recipe: Recipe, wanted: UInt8[np.ndarray, "h w c"]) -> Recipe:
    """The recipe with paint wherever its sprite would differ from the wanted one."""
    plain = sprite(model, replace(recipe, positions=recipe.positions[:0], colours=recipe.colours[:0]))
    positions = np.flatnonzero((plain != wanted).any(-1))
    return replace(recipe, positions=positions, colours=wanted.reshape(-1, wanted.shape[-1])[positions])


def of_sprite(model: Model, wanted: UInt8[np.ndarray, "h w c"], exactly: bool) -> Recipe:
    """The recipe of a sprite's posterior mean; `exactly`, with paint wherever the reconstruction differs from it.

    Raises UserError as `Model.encode` does.
    """
    recipe = Recipe(model.encode(wanted[None])[0][0])
    return painted(model, recipe, wanted) if exactly else recipe


def png(model: Model, recipe: Recipe, scale: int = 1, snap: bool = False, transparent: bool = False) -> bytes:
    """A PNG file of the picture with every pixel enlarged `scale` times, and the recipe in a text chunk.

    `transparent` makes pixels of the background colour transparent. Raises UserError if the scale is out of range or
    the model has no such background.
    """
    if not 1 <= scale <= LARGEST_SCALE:
        raise UserError(f"scale {scale} is out of range: choose a whole number from 1 to {LARGEST_SCALE}")
    shown = picture(model, recipe, snap or transparent)
    pixels = images.enlarge(shown[None], scale)[0]
    if transparent:
        alpha = np.where(_is_background(model.description, pixels), np.uint8(0), np.uint8(255))
        pixels = np.concatenate([pixels, alpha[..., None]], axis=-1)
    return images.to_png(pixels, {CHUNK: to_text(recipe, model.description)})


def has_background(described: Description) -> bool:
    """Whether sprites have a background that can be made transparent: one colour that is in the training palette.

    Not those that are transparent themselves.
    """
    colour = images.parse_colour(described.background)
    return described.palette is not None and colour in set(map(tuple, described.palette.tolist()))


def read(model: Model, file: bytes) -> tuple[Recipe, str]:
    """The recipe in a PNG file or, for any other image of a sprite, that of its posterior mean; and which of the two.

    An image may be enlarged by a whole factor. Raises UserError if the file is not an image or has another size.
    """
    if text := _recipe_in(file):
        return parse(text, model.description), "restored from the recipe in the file"
    try:
        rgba = read_rgba(io.BytesIO(file))
    except UserError as error:
        raise UserError(f"the file cannot be read ({error}): choose a PNG, JPEG, WebP, GIF or BMP image") from error
    height, width = canvas(model.description)
    scale = max(rgba.shape[0] // height, 1)
    if rgba.shape[:2] != (height * scale, width * scale):
        size = f"{rgba.shape[1]}x{rgba.shape[0]}"
        raise UserError(f"expected an image of {width}x{height} pixels, or a whole multiple of it, got {size}")
    small = rgba[scale // 2 :: scale, scale // 2 :: scale]
    return of_sprite(model, model.to_channels(small), exactly=False), "encoded from the image"


def _recipe_in(file: bytes) -> str:
    """The text of the chunk of a PNG file; empty if there is none."""
    if not file.startswith(b"\x89PNG\r\n\x1a\n"):
        return ""
    # Chunk by chunk, since Pillow would decode the image, which may be huge.
    place = 8
    while place + 8 <= len(file):
        length, kind = int.from_bytes(file[place : place + 4], "big"), file[place + 4 : place + 8]
        body = file[place + 8 : place + 8 + length]
        if kind == b"tEXt" and body.startswith(CHUNK.encode() + b"\0"):
            return body.partition(b"\0")[2].decode("latin-1")
        place += 12 + length
    return ""


def _is_background(described: Description, pixels: UInt8[np.ndarray, "h w c"]) -> Bool[np.ndarray, "h w"]:
    if not has_background(described):
        raise UserError("this model has no background that could be transparent: leave that option out")
    return (pixels == images.parse_colour(described.background)).all(-1)


def _paint(described: Description) -> np.dtype:
    """A painted pixel: its position, row by row, and its colour."""
    return np.dtype([("position", "<u4"), ("colour", "u1", described.channels)])


def _name(described: Description) -> str:
    return described.params_sha256[:_DIGITS]


def _to_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _from_base64(text: str, item: int) -> bytes:
    """The bytes of items of this size. Raises UserError."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError("the recipe is damaged: copy the whole of it from the page") from error
    if len(data) % item:
        raise UserError("the recipe is damaged: copy the whole of it from the page")
    return data
