"""Export a trained model for other programs: `python -m flax_punkvae.experiments.export MODEL --format F --to DIR`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from flax_punkvae import console
from flax_punkvae.errors import UserError, run_program
from flax_punkvae.flags import parse
from flax_punkvae.opening import PUBLISHED_CONFIG, PUBLISHED_WEIGHTS, Opening, is_published

if TYPE_CHECKING:
    from flax_punkvae.trained.model import Model

PROG = "python -m flax_punkvae.experiments.export"
_MOST_SAMPLES = 10_000


@dataclass(frozen=True)
class Options(Opening):
    """Export a trained model for other programs. Each format is checked against the model before it is written."""

    run_dir: tyro.conf.Positional[Path]
    """Run directory, published folder or hub:OWNER/NAME[@REVISION]."""
    format: Literal["onnx", "stablehlo", "png-atlas", "page"]
    """onnx: encoder, decoder and, if it is learned, prior as ONNX graphs. stablehlo: the same as programs for jax
    alone, which other versions of jax read for some months. png-atlas: samples as one PNG of tiles, and a JSON file of
    their places. page: the explorer as a web page that needs no server of ours, for models of sprites in a palette
    without convolutions."""
    to: Path
    """A new or empty folder or, for png-atlas, a new file that ends with .png."""
    with_images: bool = False
    """Put the images of the set on the page, for its map; their licence must allow it."""
    count: int = 64
    """Number of samples in an atlas. None of them is a training sprite, and no two are the same."""
    seed: int = 0
    """Seed of the samples in an atlas."""


def main(arguments: Sequence[str]) -> int:
    """Write the files; the exit status is 0."""
    options = parse(Options, arguments, None, PROG)
    _validate(options)

    from flax_punkvae.devices import backend
    from flax_punkvae.trained import hub_models, runs

    backend.prepare("auto")
    given = options.run_dir
    options = replace(options, run_dir=hub_models.local(given))
    model = runs.open_model(options.run_dir, options)
    for line in model.notes:
        console.say(line)
    formats = {"onnx": _onnx, "stablehlo": _stablehlo, "png-atlas": _atlas, "page": partial(_page, given)}
    files = formats[options.format](model, options)
    folder = options.to.parent if options.format == "png-atlas" else options.to
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}): choose another place for --to") from error
    for name, size in _sizes(files).items():
        console.say(f"{name}: {size:,} bytes")
    console.say(f"written to {options.to}")
    return 0


def _validate(options: Options) -> None:
    if not 1 <= options.count <= _MOST_SAMPLES:
        raise UserError(f"--count: {options.count} is out of range: choose a whole number from 1 to {_MOST_SAMPLES}")
    if not 0 <= options.seed < 2**31:
        raise UserError(f"--seed: {options.seed} is out of range: choose a whole number from 0 to {2**31 - 1}")
    if options.with_images and options.format != "page":
        raise UserError("--with-images is for --format page: leave it out")
    if options.format == "png-atlas":
        if options.to.suffix.lower() != ".png":
            raise UserError(f"--to: {options.to} is not the name of a PNG file: end it with .png")
        for path in (options.to, options.to.with_suffix(".json")):
            if path.exists():
                raise UserError(f"--to: {path} exists: choose another name")
    elif options.to.exists() and not (options.to.is_dir() and not any(options.to.iterdir())):
        raise UserError(f"--to: {options.to} is not empty: choose a new or empty folder")


def _onnx(model: "Model", _: Options) -> dict[str, bytes]:
    from flax_punkvae.publishing import onnx_check, onnx_graphs

    files = onnx_graphs.files(model)
    for found in onnx_check.check(model, files):
        kind = "fraction of pixels that differ" if found.output.startswith("indices") else "greatest difference"
        compared = "" if found.compared == found.total else f", {found.compared} of {found.total} values compared"
        console.say(f"{found.file}, {found.output}: {kind} from JAX {found.difference:.2g}{compared}")
    return files


def _stablehlo(model: "Model", _: Options) -> dict[str, bytes]:
    import jax

    from flax_punkvae.publishing import stablehlo

    files = stablehlo.files(model)
    for found in stablehlo.check(model, files):
        console.say(f"{found.file}: greatest difference from the model {found.difference:.2g}")
    console.say(f"for {', '.join(stablehlo.PLATFORMS)}; made by jax {jax.__version__}, which older versions may refuse")
    return files


def _atlas(model: "Model", options: Options) -> dict[str, bytes]:
    from flax_punkvae.publishing import sample_atlas

    new = model.description.palette is not None
    if not new:
        console.say("the model was not trained on sprites, so samples cannot be compared with its training images")
    sprites = model.to_sprites(model.sample(options.count, options.seed, new=new))
    names = [f"{number:04d}" for number in range(len(sprites))]
    picture, listed = sample_atlas.files(sprites, names, options.seed, model.description, options.to.name)
    return {options.to.name: picture, options.to.with_suffix(".json").name: listed}


def _page(given: Path, model: "Model", options: Options) -> dict[str, bytes]:
    from flax_punkvae.devices import backend
    from flax_punkvae.page import static_site
    from flax_punkvae.page.cache import Cache
    from flax_punkvae.page.library import Library
    from flax_punkvae.publishing import folder
    from flax_punkvae.training import run_directory

    static_site.check(model)
    run = options.run_dir
    if is_published(run):
        published = {name: (run / name).read_bytes() for name in (PUBLISHED_CONFIG, PUBLISHED_WEIGHTS)}
    else:
        config, facts = run_directory.read_config(run), run_directory.read_facts(run)
        published = folder.model_files(model, config, facts, folder.training_seconds(run))
    library = Library(model, given, run, options.data, Cache(backend.own_cache("page")))
    console.say("measuring the latents and, where the images are at hand, the traits: this takes a minute or more")
    files = static_site.files(library, published, options.with_images)
    for note in library.notes:
        console.say(note)
    return files


def _sizes(files: dict[str, bytes]) -> dict[str, int]:
    """Bytes of each file, and of each folder as a whole."""
    sizes: Counter[str] = Counter()
    for name, content in files.items():
        folder, slash, _ = name.partition("/")
        sizes[folder + slash] += len(content)
    return dict(sizes)


if __name__ == "__main__":
    run_program(main)
