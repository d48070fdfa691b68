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
    pass

PROG = "python -m flax_punkvae.experiments.evaluate"


@dataclass(frozen=True)
class Options(Opening):
    """Evaluate a trained run on its held-out images: rate and distortion, likelihood, samples, copying, latents."""

    run_dir: tyro.conf.Positional[Path]
    """Run directory."""
    seed: int = 0
    """Seed of samples, noise and subsets."""
    iwae_images: int = 64
    """Number of held-out images for the IWAE bound, chosen by the seed."""
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

    from rich import box
    from rich.table import Table

    from flax_punkvae.devices import backend
    from flax_punkvae.measures import features
    from flax_punkvae.trained import evaluation, plots, runs, sample_quality, tables, traits
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
    if not run.dataset.label_names:
        notes.append("the images have no labels: skipped label probes")
    skipped = "skipped reconstruction and all measures of samples"
    if run.dataset.sprites is None:
        notes.append(f"the images are not sprites: {skipped}")
    elif min(run.dataset.sprites.shape[1:3]) < features.LEAST_SIDE:
        least = features.LEAST_SIDE
        notes.append(f"the sprites are smaller than {least}x{least}: {skipped}")
    elif len(run.test_indices) < sample_quality.LEAST_HELD_OUT:
        least, count = sample_quality.LEAST_HELD_OUT, len(run.test_indices)
        notes.append(f"{count} held-out images are too few, at least {least} are needed: {skipped}")
    else:
        samples = sample_quality.draw(run, options.seed)
        parts["reconstruction"] = evaluation.reconstruction(run)
        parts["sample_fidelity"] = sample_quality.sample_fidelity(run, samples, options.seed)
        if "trained" not in parts["sample_fidelity"]:
            notes.append("the sprites are not 24x24: samples are compared in the features of the random network only")
        parts["copying"] = sample_quality.copying(run, samples, options.seed)
        if duplicates := parts["copying"]["rows"]["held-out (floor)"]["exact_copies"]:
            notes.append(
                f"{duplicates} of the {len(run.test_indices)} held-out sprites are training sprites too: the held-out "
                "rows contain copies"
            )
        parts["local_validity"] = sample_quality.local_validity(run, samples)
        if (frequencies := sample_quality.label_frequencies(run, samples, options.seed)) is not None:
            parts["label_frequencies"] = frequencies
        else:
            notes.append(f"skipped label frequencies; {traits.load_network(run.model.description)[1]}")
        for side, floor in parts["local_validity"]["no_power"].items():
            notes.append(
                f"only {floor:.2f} of the held-out sprites are locally valid with {side}x{side} windows: skipped, as "
                "the measure says nothing here"
            )
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
        for title, columns, rows in tables.tables(parts, run.model.module.likelihood):
            table = Table(title=title, title_justify="left", box=box.SIMPLE)
            for column in columns:
                table.add_column(column, justify="left" if column == columns[0] else "right")
            for row in rows:
                table.add_row(*row)
            console.show(table)
    console.say(f"written to {numbers} and {page}")
    return 0


if __name__ == "__main__":
    run_program(main)
