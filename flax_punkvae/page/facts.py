"""What the page is told: about the model, the latents, the map, the edits, and what is still being computed."""

import shlex
from typing import Any

import numpy as np

from flax_punkvae.errors import UserError
from flax_punkvae.opening import is_published
from flax_punkvae.page import layout
from flax_punkvae.page.library import STRENGTH, Library
from flax_punkvae.trained import recipes, traits
from flax_punkvae.trained.samplers import SAMPLERS

# Of a palette, in the editor.
_MOST_COLOURS = 1024


def about(library: Library) -> dict[str, Any]:
    """The facts about the model that the page needs from the start."""
    model, described = library.model, library.model.description
    height, width = recipes.canvas(described)
    palette = [] if described.palette is None else [f"#{bytes(colour).hex()}" for colour in described.palette]
    return {
        "name": library.given.name or str(library.given),
        "digest": described.params_sha256,
        "source": described.source,
        "step": described.step,
        "epochs": described.epochs,
        "checkpoint": model.checkpoint,
        "trained_on": len(described.train_digests),
        "latent": described.model.latent,
        "image": described.image_shape[:2],
        "canvas": [height, width],
        "sprites": described.palette is not None,
        "categorical": model.index_palette is not None,
        # 3 for RGB, 4 for RGBA: of pictures, and of colours, which are #rrggbb or #rrggbbaa.
        "channels": described.channels,
        "palette": palette[:_MOST_COLOURS],
        "colours": len(palette),
        "background": described.background,
        "transparent": recipes.has_background(described),
        "labels": described.label_names,
        "reads_traits": traits.shipped(described)[0] is not None or library.learns_reader,
        "reencode": model.default_reencode,
        "samplers": tuple(SAMPLERS),
        "command": f"python -m flax_punkvae.experiments.explore {shlex.quote(str(library.given))} decode",
        "flags": _checkpoint(library),
        # Parts of the page that do not work, by their ids, and why: of an exported page.
        "left_out": {},
    }


def _checkpoint(library: Library) -> str:
    """The flag that opens this checkpoint; a published model has only one."""
    chosen = library.model.checkpoint
    if is_published(library.directory):
        return ""
    return f"--checkpoint {chosen if chosen in ('last', 'best') else library.model.description.step}"


def progress(library: Library) -> dict[str, Any]:
    """What the library holds already, and what it is computing."""
    return {
        "progress": library.progress,
        "notes": library.notes,
        "images": library.run is not None,
        "latents": library.latents is not None,
        "map": library.map is not None,
        "tsne": library.tsne is not None,
        "edits": library.directions is not None,
        "measured": len(library.effects),
        "fits": library.posteriors is not None,
    }


def latents(library: Library) -> dict[str, Any]:
    """The latents, those with the highest KL first."""
    found = ready(library, library.latents, "the latents")
    order = np.argsort(-found.kl, kind="stable")
    return {
        "order": order.tolist(),
        "kl": found.kl.tolist(),
        "centre": found.centre.tolist(),
        "deviation": found.deviation.tolist(),
        "measured_on": found.measured_on,
    }


def the_map(library: Library) -> dict[str, Any]:
    """The images on the map and where their tiles are in the atlas."""
    found = ready(library, library.map, "the map")
    shown, tiles = found.shown, found.atlas
    return {
        "count": len(shown.ids),
        "ids": shown.ids.tolist(),
        "parts": shown.parts,
        "names": shown.names,
        "labels": shown.labels,
        "atlas": {
            "width": tiles.width,
            "height": tiles.height,
            "columns": tiles.columns,
            "per_page": tiles.per_page,
            "pages": len(tiles.pages),
        },
        "pca_kept": found.kept,
        "tsne_kept": library.tsne.kept if library.tsne else None,
        "neighbours": layout.NEIGHBOURS,
    }


def edits(library: Library) -> dict[str, Any]:
    """The labels along whose directions sprites can be edited, and the measured effects."""
    ready(library, library.directions, "the directions of the traits")
    assert library.directions is not None
    columns = np.flatnonzero(~np.isnan(library.directions).any(axis=1))
    names = [library.model.description.label_names[column] for column in columns]
    measuring = library.reader is not None and not library.effects and bool(library.progress)
    return {"labels": names, "effects": library.effects, "measuring": measuring, "strength": STRENGTH}


def ready(library: Library, part: Any, what: str) -> Any:
    """A part of the library. Raises UserError if it is not there."""
    if part is not None:
        return part
    wait = "wait until they are ready" if library.progress else "the notes on the page say why"
    raise UserError(f"{what} are not at hand: {wait}")
