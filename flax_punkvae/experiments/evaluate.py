"""Measure a run: `python -m flax_punkvae.experiments.evaluate RUN_DIR`; a table, evaluation.json and evaluation.png."""

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from flax_punkvae import console
from flax_punkvae.errors import UserError, run_program
from flax_punkvae.flags import parse
from flax_punkvae.opening import Opening

if TYPE_CHECKING:
    from flax_punkvae.model.likelihoods import Likelihood

PROG = "python -m flax_punkvae.experiments.evaluate"


@dataclass(frozen=True)
class Options(Opening):
    """Measure a trained run on its held-out images: rate and distortion, likelihood, samples, copying, latents."""

    run_dir: tyro.conf.Positional[Path]
    """Run directory."""
    seed: int = 0
    """Seed of samples, noise and subsets."""
    iwae_images: int = 64
    """Number of held-out images for the IWAE bound."""
    iwae_samples: int = 1000
    """Importance samples per image: 1, 100 or 1000."""
    output: Path | None = None
    """Directory for evaluation.json and evaluation.png. The default is the run directory."""


def main(arguments: Sequence[str]) -> int:
    """Evaluate; exit status 0."""
    options = parse(Options, arguments, None, PROG)
    for name, value, least in (("seed", options.seed, 0), ("iwae-images", options.iwae_images, 1)):
        if not least <= value < 2**31:
            raise UserError(f"--{name}: {value} is out of range: choose a whole number from {least} to {2**31 - 1}")
    if options.iwae_samples not in (1, 100, 1000):
        raise UserError(f"--iwae-samples: {options.iwae_samples} is not possible: choose 1, 100 or 1000")
    output = options.output or options.run_dir
    if options.output and not output.is_dir():
        raise UserError(f"--output: there is no directory {output}: make it first")
    missing = [name for name in ("matplotlib", "sklearn") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{' and '.join(missing)} not installed: pip install '.[evaluate]'")

    from flax_punkvae.devices import backend
    from flax_punkvae.measures import features
    from flax_punkvae.trained import evaluation, plots, runs
    from flax_punkvae.training import run_directory

    backend.prepare("auto")
    run = runs.open_run(options.run_dir, options)
    notes = list(run.model.notes)
    parts: dict[str, Any] = {
        "run": {
            "step": run.model.description.step,
            "checkpoint": run.model.checkpoint,
            "source": run.dataset.source,
            "images_sha256": run.dataset.sha256,
            "train": len(run.train_indices),
            "held_out": len(run.test_indices),
            "config_seed": run.config.seed,
        }
    }
    parts["rate_distortion"] = evaluation.rate_distortion(run, options.seed)
    bound = evaluation.importance(run, options.iwae_images, options.iwae_samples, options.seed)
    if bound is not None:
        parts["iwae"] = bound
    else:
        notes.append(f"train.beta is {run.config.train.beta:g}, so sigma is 0: -ELBO and IWAE bound left out")
    if (codes := evaluation.other_codes(run)) is not None:
        parts["other_codes"] = codes
    parts["label_probes"] = evaluation.label_probes(run)
    left_out = "reconstruction, sample fidelity and copying left out"
    if run.dataset.sprites is None:
        notes.append(f"the images are no 24x24 sprites, so samples are not measured: {left_out}")
    elif min(run.dataset.sprites.shape[1:3]) < features.LEAST_SIDE:
        least = features.LEAST_SIDE
        notes.append(f"samples are measured on sprites of {least}x{least} or more, these are smaller: {left_out}")
    elif len(run.test_indices) < evaluation.LEAST_HELD_OUT:
        least, count = evaluation.LEAST_HELD_OUT, len(run.test_indices)
        notes.append(f"samples are measured against {least} held-out images or more, here are {count}: {left_out}")
    else:
        drawn = evaluation.draw(run, options.seed)
        parts["reconstruction"] = evaluation.reconstruction(run)
        parts["sample_fidelity"] = evaluation.sample_fidelity(run, drawn, options.seed)
        parts["copying"] = evaluation.copying(run, drawn, options.seed)
    numbers, page = output / "evaluation.json", output / "evaluation.png"
    try:
        for path in (numbers, page) if options.output is None else ():
            run_directory.inside(options.run_dir, path)
        with run_directory.writing(output):
            numbers.write_text(json.dumps(parts, indent=2) + "\n", encoding="utf-8")
            plots.evaluation_page(parts, page)
    finally:
        # Print the results even if they cannot be written: they took minutes.
        for note in notes:
            console.say(note)
        _print(parts, run.model.module.likelihood)
    console.say(f"written: {numbers}, {page}")
    return 0


def _print(parts: dict[str, Any], likelihood: "Likelihood") -> None:
    from rich import box
    from rich.table import Table

    def table(title: str, *columns: str) -> Table:
        made = Table(title=title, title_justify="left", box=box.SIMPLE)
        for column in columns:
            made.add_column(column, justify="left" if column == columns[0] else "right")
        return made

    rate, iwae, probes = parts["rate_distortion"], parts.get("iwae"), parts["label_probes"]
    numbers = table(f"{parts['run']['held_out']} held-out images, step {parts['run']['step']}", "measure", "value")
    rows = [("rate: KL, nats an image", f"{rate['rate_nats']:.2f}")]
    pythae = f" (in Pythae beta is {rate['pythae_beta']:g})" if "pythae_beta" in rate else ""
    rows += [
        (f"distortion: {likelihood.described}", f"{rate['distortion']:.2f}"),
        (f"loss: distortion + {rate['beta']:g} rate{pythae}", f"{rate['loss']:.2f}"),
    ]
    if "negative_elbo_bits" in rate:
        rows.append(("-ELBO, bits a sprite", f"{rate['negative_elbo_bits']:.2f}"))
    if "sigma" in rate:
        rows.append((f"-ELBO, nats, at sigma {rate['sigma']:.4g}", f"{rate['negative_elbo_nats_at_sigma']:.2f}"))
    if iwae:
        unit, what, bounds = (
            ("bits a sprite", "sprites", iwae["bits"]) if "bits" in iwae else ("nats", "images", iwae["bound_nats"])
        )
        same = "" if "bits" in iwae else " same sigma,"
        rows += [
            (f"IWAE bound, {unit}, K = {k},{same} first {iwae['n']} held-out {what}", f"{bound:.2f}")
            for k, bound in bounds.items()
        ]
    if rate.get("pixels_outside_palette"):
        outside = f"{rate['pixels_outside_palette']} pixels of {rate['sprites_outside_palette']} sprites"
        rows.append(("held out, of colours in no training sprite, counted as the nearest", outside))
    active = (
        "undefined for one image" if rate["active_units"] is None else f"{rate['active_units']} of {rate['latents']}"
    )
    rows.append(("active units (variance of the mean > 0.01)", active))
    if probes and probes["labels"]:
        rows += [
            (f"linear probes of {probes['labels']} labels: mean AUROC", f"{probes['mean_auroc']:.3f}"),
            ("and mean balanced accuracy", f"{probes['mean_balanced_accuracy']:.3f}"),
        ]
    if reconstruction := parts.get("reconstruction"):
        rows += [
            ("reconstructions snapped to the palette: pixels right", f"{100 * reconstruction['pixels_right']:.2f} %"),
            ("and sprites right in every pixel", f"{100 * reconstruction['sprites_right']:.2f} %"),
        ]
    for row in rows:
        numbers.add_row(*row)
    console.show(numbers)
    if "other_codes" in parts:
        others = table(f"the same {parts['other_codes']['n']} held-out sprites by other codes", "code", "bits a sprite")
        for name, bits in parts["other_codes"]["bits"].items():
            others.add_row(name, f"{bits:.1f}")
        console.show(others)
    if "sample_fidelity" not in parts:
        return
    found = parts["sample_fidelity"]
    for network in (name for name in ("trained", "random") if name in found):
        columns = ("frechet", "kernel", "precision", "recall", "density", "coverage")
        like = table(
            f"{found['n']} of each against held-out, features of the {network} network"
            + (f" (SHA-256 {found['features_sha256'][:16]}...)" if network == "trained" else ""),
            "sprites",
            *columns,
        )
        for name, row in found[network].items():
            like.add_row(name, *(f"{row[column]:.4g}" for column in columns))
        console.show(like)
    copying = parts["copying"]
    copies = table(
        f"copying of {copying['n_train']} training sprites; drawn of {copying['n']} held-out ones, never seen",
        "sprites",
        "exact copies",
        "held-out drawn",
        "median pixels to the nearest",
        "C_T",
        "AuthPct",
    )
    for name, row in copying["rows"].items():
        copies.add_row(
            name,
            str(row["exact_copies"]),
            "-" if row["held_out_hits"] is None else str(row["held_out_hits"]),
            f"{row['median_pixels_to_nearest']:g}",
            f"{row['c_t']:.2f}",
            f"{row['auth_pct']:.1f}",
        )
    console.show(copies)


if __name__ == "__main__":
    run_program(main)
