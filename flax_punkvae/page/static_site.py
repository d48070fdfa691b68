"""The page without Python: the explorer as static files, whose answers are computed in the browser.

index.html, static/ and offline/ are the page; model.safetensors and config.json are the published model; page.json is
what the server would say about it; map/, only with images, holds these. Of the files that the server serves, only
index.html and static/api.js differ: the latter hands on the modules in offline/.
"""

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np

from flax_punkvae.errors import UserError
from flax_punkvae.opening import PUBLISHED_CONFIG, PUBLISHED_WEIGHTS
from flax_punkvae.page import facts
from flax_punkvae.page.library import Library
from flax_punkvae.page.parts import Map
from flax_punkvae.trained.model import Model
from flax_punkvae.trained.recipes import canvas

_PROGRAM = "python -m flax_punkvae.experiments.page"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; worker-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'"
)
# What index.html says on a server, and what it says here.
_WORDS = {
    '<meta charset="utf-8">': (
        f'<meta charset="utf-8">\n  <meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '  <meta name="referrer" content="no-referrer">'
    ),
    '<p id="progress" role="status"></p>': (
        '<p id="progress" role="status">opening the model; if nothing happens, serve this folder with a web server, '
        "such as: python -m http.server</p>"
    ),
    "drawing the first sprite; the first time, this compiles the model": "drawing the first sprite",
    "This command writes the same file:": (
        "In a folder with this page's model.safetensors and config.json, this command writes the same picture:"
    ),
}


def check(model: Model) -> None:
    """Raise UserError if the browser cannot decode such a model as Python does."""
    described = model.description
    wrong = ""
    if model.index_palette is None:
        wrong = "of sprites in a palette (--data.render indices)"
    elif described.model.encoder_widths:
        wrong = "without convolutions (--model.encoder-widths and --model.decoder-widths empty)"
    elif described.train.precision != "f32":
        wrong = "in float32 (--train.precision f32)"
    if wrong:
        raise UserError(f"the page without Python takes models {wrong} only: use {_PROGRAM} instead")


def files(library: Library, published: Mapping[str, bytes], with_images: bool) -> dict[str, bytes]:
    """The content of each file by its path.

    `published` holds the two files of the published model, without names of this machine. Fills the library, whose
    `notes` then say what could not be had. Directions of labels are exported if the training images are at hand: they
    are statistics. The images themselves, and anything of single ones, are in the files only with `with_images`.

    Raises UserError if the model is not supported, or its images are asked for and not at hand.
    """
    check(library.model)
    library.fill(of_map=False)
    if with_images and library.means is not None:
        library.fill(of_map=True)
    shown = library.map if with_images else None
    if with_images and shown is None:
        raise UserError("--with-images: the training images are not at hand: name them with --data.source")
    the_map = shown and _map(library, shown)
    page = {
        "bytes": len(published[PUBLISHED_WEIGHTS]),
        "about": _about(library, json.loads(published[PUBLISHED_CONFIG]), the_map),
        "latents": facts.latents(library),
        "edits": _edits(library),
        "map": the_map,
    }
    content = {name: published[name] for name in (PUBLISHED_CONFIG, PUBLISHED_WEIGHTS)}
    content |= _modules()
    content["page.json"] = json.dumps(page).encode()
    if shown is not None:
        content |= _images(library, shown)
    return content


def _modules() -> dict[str, bytes]:
    """The page itself."""
    package = resources.files("flax_punkvae.page")
    content = {
        f"{folder}/{file.name}": file.read_bytes()
        for folder in ("static", "offline")
        for file in (package / folder).iterdir()
        if file.is_file()
    }
    content["static/api.js"] = b'export * from "../offline/api.js";\n'
    index = content.pop("static/index.html").decode()
    for served, here in _WORDS.items():
        assert index.count(served) == 1, served
        index = index.replace(served, here)
    return {"index.html": index.encode(), **content}


def _about(library: Library, config: dict[str, Any], the_map: dict[str, Any] | None) -> dict[str, Any]:
    """`facts.about` without names of this machine, and what is left out."""
    return {
        **facts.about(library),
        "source": config["source"],
        "reads_traits": False,
        "command": "python -m flax_punkvae.experiments.explore . decode",
        "flags": "",
        "left_out": _left_out(library, the_map),
    }


def _left_out(library: Library, the_map: dict[str, Any] | None) -> dict[str, str]:
    """The parts of the page that need the server, by their ids, and why each is left out."""
    needs = f"needs the program: {_PROGRAM}"
    found = {
        "save-gif": f"an animated GIF {needs}",
        "sampler-label": f"sampling from a fitted distribution, or on conditions, {needs}",
    }
    if the_map is None:
        found["map-parts"] = f"the images are not part of this page; a map of them {needs}"
    if the_map is None or not the_map["exact"]:
        found["mark-label"] = f"finding the nearest training sprite {needs}"
    if library.directions is None and library.model.description.label_names:
        found["trait-controls"] = f"the training images were not at hand for this page; editing traits {needs}"
    return found


def _edits(library: Library) -> dict[str, Any] | None:
    """`facts.edits`, and the direction of each label."""
    if library.directions is None:
        return None
    told = facts.edits(library)
    names = library.model.description.label_names
    return {**told, "directions": [library.directions[names.index(name)].tolist() for name in told["labels"]]}


def _map(library: Library, shown: Map) -> dict[str, Any]:
    """`facts.the_map`, the axes of the layout by PCA, and whether the map has all images at their own size."""
    assert library.run is not None
    everything = len(shown.shown.ids) == len(library.run.dataset.images)
    size = (shown.atlas.height, shown.atlas.width)
    return {
        **facts.the_map(library),
        "pca": {"centre": shown.pca.centre.tolist(), "axes": shown.pca.axes.tolist()},
        "exact": everything and size == canvas(library.model.description),
    }


def _images(library: Library, shown: Map) -> dict[str, bytes]:
    """The atlas, the layouts and the posterior means of the images on the map."""

    def floats(values: np.ndarray) -> bytes:
        return values.astype("<f4").tobytes()

    content = {f"map/{number}.png": page for number, page in enumerate(shown.atlas.pages)}
    content |= {"map/pca.bin": floats(shown.positions), "map/means.bin": floats(shown.shown.means)}
    if library.tsne is not None:
        content["map/tsne.bin"] = floats(library.tsne.positions)
    return content
