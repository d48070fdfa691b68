"""Evaluate a run: `python -m flax_punkvae.experiments.evaluate RUN_DIR` writes evaluation.json and evaluation.png."""

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
    """Evaluate a trained run on its held-out images: rate and distortion, likelihood, samples, copying, latents."""

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
        raise UserError(f"--output: there is no directory {output}: create it first")
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
        notes.append(f"train.beta is {run.config.train.beta:g}, so sigma is 0: skipped -ELBO and IWAE bound")
    if (codes := evaluation.other_codes(run)) is not None:
        parts["other_codes"] = codes
    parts["label_probes"] = evaluation.label_probes(run)
    skipped = "skipped reconstruction, sample fidelity and copying"
    if run.dataset.sprites is None:
        notes.append(f"the images are not sprites: {skipped}")
    elif min(run.dataset.sprites.shape[1:3]) < features.LEAST_SIDE:
        least = features.LEAST_SIDE
        notes.append(f"the sprites are smaller than {least}x{least}: {skipped}")
    elif len(run.test_indices) < evaluation.LEAST_HELD_OUT:
        least, count = evaluation.LEAST_HELD_OUT, len(run.test_indices)
        notes.append(f"{count} held-out images are too few, at least {least} are needed: {skipped}")
    else:
        samples = evaluation.draw(run, options.seed)
        parts["reconstruction"] = evaluation.reconstruction(run)
        parts["sample_fidelity"] = evaluation.sample_fidelity(run, samples, options.seed)
        parts["copying"] = evaluation.copying(run, samples, options.seed)
    numbers, page = output / "evaluation.json", output / "evaluation.png"
    try:
        for path in (numbers, page) if options.output is None else ():
            run_directory.inside(options.run_dir, path)
        with run_directory.writing(output):
            numbers.write_text(json.dumps(parts, indent=2) + "\n", encoding="utf-8")
            plots.evaluation_page(parts, page)
    finally:
        # Print the results even if they cannot be written, because they took minutes to compute.
        for note in notes:
            console.say(note)
        _print(parts, run.model.module.likelihood)
    console.say(f"written to {numbers} and {page}")
    return 0


def _print(parts: dict[str, Any], likelihood: "Likelihood") -> None:
    from rich import box
    from rich.table import Table

    def table(title: str, *columns: str) -> Table:
        result = Table(title=title, title_justify="left", box=box.SIMPLE)
        for column in columns:
            result.add_column(column, justify="left" if column == columns[0] else "right")
        return result

    rate, iwae, probes = parts["rate_distortion"], parts.get("iwae"), parts["label_probes"]
    numbers = table(f"{parts['run']['held_out']} held-out images, step {parts['run']['step']}", "measure", "value")
    rows = [("rate (KL), nats per image", f"{rate['rate_nats']:.2f}")]
    pythae = f" (beta in Pythae: {rate['pythae_beta']:g})" if "pythae_beta" in rate else ""
    rows += [
        (f"distortion: {likelihood.described}", f"{rate['distortion']:.2f}"),
        (f"loss: distortion + {rate['beta']:g} * rate{pythae}", f"{rate['loss']:.2f}"),
    ]
    if "negative_elbo_bits" in rate:
        rows.append(("-ELBO, bits per sprite", f"{rate['negative_elbo_bits']:.2f}"))
    if "sigma" in rate:
        rows.append((f"-ELBO, nats per image, sigma {rate['sigma']:.4g}", f"{rate['negative_elbo_nats_at_sigma']:.2f}"))
    if iwae:
        if "bits" in iwae:
            unit, bounds = "bits per sprite", iwae["bits"]
        else:
            unit, bounds = "nats per image, same sigma", iwae["bound_nats"]
        rows += [
            (f"IWAE bound, {unit}, K = {k}, first {iwae['n']} held-out images", f"{bound:.2f}")
            for k, bound in bounds.items()
        ]
    if rate.get("pixels_outside_palette"):
        outside = f"{rate['pixels_outside_palette']} pixels in {rate['sprites_outside_palette']} sprites"
        rows.append(("held-out pixels outside the training palette, replaced by the nearest colour", outside))
    active = (
        "undefined for one image" if rate["active_units"] is None else f"{rate['active_units']} of {rate['latents']}"
    )
    rows.append(("active units (variance of the posterior mean > 0.01)", active))
    if probes and probes["labels"]:
        rows += [
            (f"linear probes of {probes['labels']} labels: mean AUROC", f"{probes['mean_auroc']:.3f}"),
            ("linear probes: mean balanced accuracy", f"{probes['mean_balanced_accuracy']:.3f}"),
        ]
    if reconstruction := parts.get("reconstruction"):
        rows += [
            ("reconstructions snapped to the palette: correct pixels", f"{100 * reconstruction['pixels_right']:.2f} %"),
            ("reconstructions: sprites with all pixels correct", f"{100 * reconstruction['sprites_right']:.2f} %"),
        ]
    for row in rows:
        numbers.add_row(*row)
    console.show(numbers)
    if "other_codes" in parts:
        others = table(f"other codes, same {parts['other_codes']['n']} held-out sprites", "code", "bits per sprite")
        for name, bits in parts["other_codes"]["bits"].items():
            others.add_row(name, f"{bits:.1f}")
        console.show(others)
    if "sample_fidelity" not in parts:
        return
    found = parts["sample_fidelity"]
    for network in (name for name in ("trained", "random") if name in found):
        columns = ("frechet", "kernel", "precision", "recall", "density", "coverage")
        fidelity = table(
            f"{found['n']} sprites per row against the held-out sprites, features of the {network} network"
            + (f" (SHA-256 {found['features_sha256'][:16]}...)" if network == "trained" else ""),
            "sprites",
            *columns,
        )
        for name, row in found[network].items():
            fidelity.add_row(name, *(f"{row[column]:.4g}" for column in columns))
        console.show(fidelity)
    copying = parts["copying"]
    copies = table(
        f"copies of the {copying['n_train']} training sprites, hits on the {copying['n']} held-out sprites",
        "sprites",
        "exact copies",
        "held-out hits",
        "median pixels differing from the nearest",
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
