"""What the page computes: from the fields of a request to a result, by the functions that the programs use."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import UInt8

from flax_punkvae.errors import UserError
from flax_punkvae.page import facts, layout, strips
from flax_punkvae.page.fields import LARGEST_SEED, Fields
from flax_punkvae.page.library import Library
from flax_punkvae.trained import certificates, latents, recipes, traits
from flax_punkvae.trained.model import MOST_PASSES
from flax_punkvae.trained.recipes import Recipe
from flax_punkvae.trained.samplers import SAMPLERS
from flax_punkvae.trained.selection import Wanted
from flax_punkvae.training.description import digests

MOST_SPRITES = 96
MOST_MIXED = 4
MOST_FRAMES = 64
_SAMPLERS = tuple(SAMPLERS)
# Of a conditional search; then the page says how many it found.
_MOST_DRAWS = 50_000
_MOST_COMPLETIONS = 16
_PATHS = ("linear", "spherical")

Heard = Callable[[], None]


def sample(library: Library, fields: Fields, heard: Heard) -> dict[str, Any]:
    """Draw sprites and certify them; fewer than asked for if the search takes more than 50,000 draws.

    `heard` is called during a search; it raises if nobody waits for the result.
    """
    count = fields.whole("count", 1, MOST_SPRITES)
    seed = fields.whole("seed", 0, LARGEST_SEED)
    how = fields.choice("from", _SAMPLERS)
    temperature = fields.number("temperature", 0.0, 100.0)
    passes = fields.whole("reencode", 0, MOST_PASSES)
    wanted = Wanted(fields.flag("new"), fields.labels("with"), fields.labels("without"), _MOST_DRAWS)
    fields.done()
    model = library.model
    if wanted.new and model.description.palette is None:
        raise UserError("only sprites can be new: this model was trained on images that are not sprites")

    def posteriors() -> tuple[np.ndarray, np.ndarray]:
        return facts.ready(library, library.posteriors, f"the training images, to which {how} is fitted,")

    if wanted.labels and library.learns_reader:
        facts.ready(library, library.reader, "the probes that read the traits")
    arguments = (how, count, seed, temperature, posteriors, passes)
    found = model.select(wanted, *arguments, lambda *_: heard(), reader=library.reader)
    drawn = [
        Recipe(z, seed if model.index_palette is not None else None)
        for z, seed in zip(found.draws.latents, found.draws.seeds.tolist(), strict=True)
    ]
    rows = certify(library, drawn) if drawn else []
    described = model.description
    sprites = [{"recipe": recipes.to_text(x, described), **row} for x, row in zip(drawn, rows, strict=True)]
    return {"sprites": sprites, "drawn": found.drawn, "wanted": wanted.described, "selective": wanted.selective}


def certify(library: Library, given: list[Recipe]) -> list[dict[str, Any]]:
    """`certificates.certify` of each, whether the sprite is of the training set, held out or new, and where it differs
    from the nearest training sprite."""
    model, known = library.model, library.known
    decoded = np.stack([model.decode_one(recipe.z, recipe.seed) for recipe in given])
    sprites = np.stack([recipes.sprite_in(model, *pair) for pair in zip(given, decoded, strict=True)])
    rows = certificates.certify(model, known, library.reader, decoded, sprites)
    for row, sprite, digest in zip(rows, sprites, map(bytes, digests(sprites)), strict=True):
        held_out = library.held_out.get(digest)
        row["status"] = "training" if not row["new"] else "new" if held_out is None else "held-out"
        if held_out is not None:
            row["equals"] = held_out
        if known is not None and "pixels_differ" in row:
            nearest = known.sprites[np.flatnonzero(known.ids == row["nearest"])[0]]
            row["differing"] = np.flatnonzero((nearest != sprite).any(-1)).tolist()
    return rows


def certificate(library: Library, fields: Fields) -> dict[str, Any]:
    """The certificate of one recipe."""
    recipe = fields.recipe()
    fields.done()
    return certify(library, [recipe])[0]


def picture(library: Library, fields: Fields) -> UInt8[np.ndarray, "h w c"]:
    """The picture of one recipe or, with `snap`, its sprite."""
    recipe, snap = fields.recipe(), fields.flag("snap")
    fields.done()
    return recipes.picture(library.model, recipe, snap)


def nudge(library: Library, fields: Fields) -> dict[str, str]:
    """Move a latent by a random step; `size` is in standard deviations of the prior."""
    recipe, seed = fields.recipe(), fields.whole("seed", 0, LARGEST_SEED)
    size = fields.number("size", 0.0, 10.0)
    fields.done()
    deviation = facts.ready(library, library.latents, "the latents").deviation
    step = np.random.RandomState(seed).standard_normal(len(deviation))
    return _one(library, recipe.moved(recipe.z + size * deviation * step))


def edit(library: Library, fields: Fields) -> dict[str, str]:
    """Move a latent along the directions of labels, as `explore edit` does."""
    recipe, add, remove = fields.recipe(), fields.labels("add"), fields.labels("remove")
    strength = fields.number("strength", 0.0, 20.0)
    fields.done()
    found = facts.ready(library, library.directions, "the directions of the traits")
    signs = [(name, 1.0) for name in add] + [(name, -1.0) for name in remove]
    columns = [traits.column(library.model.description, name) for name, _ in signs]
    if np.isnan(found[columns]).any():
        raise UserError("all or none of the training images have this label: choose another one")
    shift = sum((sign * found[column] for column, (_, sign) in zip(columns, signs, strict=True)), np.float32(0.0))
    return _one(library, recipe.moved(recipe.z + np.float32(strength) * shift))


def mix(library: Library, fields: Fields) -> dict[str, str]:
    """The weighted mean of two to four latents."""
    given = fields.recipes("recipes", 2, MOST_MIXED)
    weights = np.array(fields.numbers("weights", len(given), 0.0, 1.0))
    fields.done()
    if weights.sum() <= 0:
        raise UserError("weights: at least one must be above 0")
    return _one(library, Recipe(latents.blend(np.stack([recipe.z for recipe in given]), weights)))


def strip(library: Library, fields: Fields) -> dict[str, list[str]]:
    """Frames from one latent to another, both included, as `explore interpolate` makes them."""
    first, last = fields.recipes("recipes", 2, 2)
    frames, path = fields.whole("frames", 2, MOST_FRAMES), fields.choice("path", _PATHS)
    fields.done()
    walk = latents.interpolate if path == "linear" else latents.slerp
    return {"recipes": [_text(library, Recipe(z)) for z in walk(first.z, last.z, frames)]}


def strip_file(library: Library, fields: Fields) -> tuple[bytes, str]:
    """(content, media type) of a strip as an animated GIF or a sheet."""
    given = fields.recipes("recipes", 2, MOST_FRAMES)
    kind = fields.choice("format", ("gif", "sheet"))
    scale, milliseconds = fields.whole("scale", 1, recipes.LARGEST_SCALE), fields.whole("milliseconds", 20, 5000)
    fields.done()
    frames = np.stack([recipes.picture(library.model, Recipe(recipe.z, recipe.seed)) for recipe in given])
    if frames.shape[1] * frames.shape[2] * len(frames) * scale**2 > strips.MOST_PIXELS:
        raise UserError("the file would be too large: choose a smaller size or fewer frames")
    if kind == "sheet":
        return strips.sheet(frames, scale), "image/png"
    return strips.gif(frames, scale, milliseconds), "image/gif"


def complete(library: Library, fields: Fields, heard: Heard) -> dict[str, list[str]]:
    """Fill in the pixels that the mask does not hold, in several ways, as `explore complete` does."""
    recipe, known = fields.recipe(), fields.mask("known", recipes.canvas(library.model.description))
    count, seed = fields.whole("count", 1, _MOST_COMPLETIONS), fields.whole("seed", 0, LARGEST_SEED)
    fields.done()
    heard()
    model = library.model
    filled = model.complete(recipes.sprite(model, recipe), known, count, seed)
    return {"recipes": [_text(library, recipes.of_sprite(model, sprite, exactly=True)) for sprite in filled]}


def of_image(library: Library, fields: Fields) -> dict[str, str]:
    """The recipe of the posterior mean of an image on the map."""
    shown = facts.ready(library, library.map, "the map").shown
    row = fields.whole("row", 0, len(shown.ids) - 1)
    fields.done()
    return _one(library, Recipe(shown.means[row]))


def project(library: Library, fields: Fields) -> dict[str, str]:
    """The recipe of the posterior mean of a painted sprite: the model's own version of it."""
    recipe = fields.recipe()
    fields.done()
    return _one(library, recipes.of_sprite(library.model, recipes.sprite(library.model, recipe), exactly=False))


def opened(library: Library, file: bytes) -> dict[str, str]:
    """The recipe in a PNG file, or that of the sprite in any image file."""
    recipe, how = recipes.read(library.model, file)
    return {**_one(library, recipe), "how": how}


def png(library: Library, fields: Fields) -> bytes:
    """The PNG file of a recipe, as `explore decode` writes it."""
    recipe, scale = fields.recipe(), fields.whole("scale", 1, recipes.LARGEST_SCALE)
    snap, transparent = fields.flag("snap"), fields.flag("transparent")
    fields.done()
    return recipes.png(library.model, recipe, scale, snap, transparent)


def place(library: Library, fields: Fields) -> dict[str, Any]:
    """Where recipes lie on the map: by PCA exactly, by t-SNE approximately."""
    given = fields.recipes("recipes", 1, MOST_SPRITES)
    fields.done()
    found, z = facts.ready(library, library.map, "the map"), np.stack([recipe.z for recipe in given])
    by_tsne = layout.place(z, found.shown.means, library.tsne.positions).tolist() if library.tsne else None
    return {"pca": found.pca(z).tolist(), "tsne": by_tsne}


def _text(library: Library, recipe: Recipe) -> str:
    recipes.check(recipe, library.model.description)
    return recipes.to_text(recipe, library.model.description)


def _one(library: Library, recipe: Recipe) -> dict[str, str]:
    return {"recipe": _text(library, recipe)}
