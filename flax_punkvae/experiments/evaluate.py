"""Evaluate a run: `python -m flax_punkvae.experiments.evaluate RUN_DIR` writes evaluation.json and evaluation.png.

Several runs that differ in the seed only are evaluated one by one, and then the headline figures' mean and spread.
"""

import importlib
import importlib.util
import json
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from flax_punkvae import console
from flax_punkvae.errors import UserError, run_program
from flax_punkvae.flags import parse
from flax_punkvae.opening import Opening, output_root

if TYPE_CHECKING:
    from flax_punkvae.trained.evaluation import Posteriors
    from flax_punkvae.trained.runs import OpenedRun
    from flax_punkvae.trained.tables import Table

PROG = "python -m flax_punkvae.experiments.evaluate"


@dataclass(frozen=True)
class Options(Opening):
    """Evaluate a trained run on its held-out images: rate and distortion, likelihood, samples, copying, latents. Of
    several runs of one config, also the mean and the standard deviation of the headline figures."""

    run_dirs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directory, published folder or hub:OWNER/NAME[@REVISION]; several, which must be runs, must differ in the
    seed only."""
    seed: int = 0
    """Seed of samples, noise and subsets."""
    iwae_images: int = 64
    """Number of held-out images for the IWAE bound, chosen by the seed."""
    iwae_samples: int = 1000
    """Importance samples per image: 1, 100 or 1000."""
    output: Path | None = None
    """Directory for evaluation.json and evaluation.png, by default the run directory or, for a published model, the
    working directory; for several runs, which each keep their own, the directory for seeds.json, with the headline
    figures."""


def main(arguments: Sequence[str]) -> int:
    """Evaluate; exit status 0."""
    options = parse(Options, arguments, None, PROG)
    for name, value, least in (("seed", options.seed, 0), ("iwae-images", options.iwae_images, 1)):
        if not least <= value < 2**31:
            raise UserError(f"--{name}: {value} is out of range: choose a whole number from {least} to {2**31 - 1}")
    if options.iwae_samples not in (1, 100, 1000):
        raise UserError(f"--iwae-samples: {options.iwae_samples} is not possible: choose 1, 100 or 1000")
    if not options.run_dirs:
        raise UserError("no run directory given: name one, or several runs that differ in the seed only")
    if options.output and not options.output.is_dir():
        raise UserError(f"--output: there is no directory {options.output}: create it first")
    missing = [name for name in ("matplotlib", "sklearn") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{' and '.join(missing)} not installed: pip install '.[evaluate]'")

    from flax_punkvae.devices import backend, threads
    from flax_punkvae.trained import headline, hub_models, tables
    from flax_punkvae.training import run_directory

    backend.prepare("auto")
    options = replace(options, run_dirs=tuple(map(hub_models.local, options.run_dirs)))
    if len(options.run_dirs) == 1:
        with threads.single_threaded_products():
            _evaluate(options.run_dirs[0], options, options.output)
        return 0
    configs = [run_directory.read_config(directory) for directory in options.run_dirs]
    for directory, config in zip(options.run_dirs, configs, strict=True):
        if replace(config, seed=0) != replace(configs[0], seed=0):
            raise UserError(f"{directory} and {options.run_dirs[0]} differ in more than the seed: evaluate each alone")
    with threads.single_threaded_products():
        spread = headline.spread([headline.figures(_evaluate(each, options, None)) for each in options.run_dirs])
    _show(tables.headlines(spread, [config.seed for config in configs]))
    if options.output:
        path = options.output / "seeds.json"
        with run_directory.writing(options.output):
            path.write_text(
                json.dumps({"runs": [str(each) for each in options.run_dirs], "figures": spread}, indent=2) + "\n",
                encoding="utf-8",
            )
        console.say(f"written to {path}")
    return 0


def _evaluate(directory: Path, options: Options, elsewhere: Path | None) -> dict[str, Any]:
    """Evaluate one run, print its tables, write its files and return what evaluation.json holds."""
    from flax_punkvae.trained import plots, runs, tables
    from flax_punkvae.training import run_directory

    output = elsewhere or output_root(directory)
    run = runs.open_run(directory, options)
    parts, notes = _measured(run, options)
    numbers, page = output / "evaluation.json", output / "evaluation.png"
    try:
        for path in (numbers, page) if elsewhere is None else ():
            run_directory.inside(output, path)
        with run_directory.writing(output):
            numbers.write_text(json.dumps(parts, indent=2) + "\n", encoding="utf-8")
            plots.evaluation_page(parts, page)
    finally:
        # Print the results even if they cannot be written, because they took minutes to compute.
        for note in (*run.model.notes, *notes):
            console.say(note)
        for table in tables.tables(parts, run.model.module.likelihood):
            _show(table)
    console.say(f"written to {numbers} and {page}")
    return parts


def _measured(run: "OpenedRun", options: Options) -> tuple[dict[str, Any], list[str]]:
    """All parts of evaluation.json, and notes on what is not among them."""
    from flax_punkvae.devices import threads
    from flax_punkvae.trained import evaluation, sample_quality, sample_sets

    notes: list[str] = []
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
    posteriors = evaluation.Posteriors(run)
    # Samples, from which the critics are trained, take about as long as everything else, which runs beside them.
    with threads.background() as pool:
        codes = pool.submit(evaluation.other_codes, run)
        parts["rate_distortion"] = evaluation.rate_distortion(run, posteriors, options.seed)
        probes = pool.submit(evaluation.label_probes, run, posteriors)
        # Imported beside the rest, not when only the plot is left to do.
        pool.submit(importlib.import_module, "matplotlib.figure")
        reason = _why_no_samples(run)
        samples = None if reason else sample_sets.draw(run, posteriors, options.seed)
        beside = {} if samples is None else _beside_critics(run, posteriors, samples, options.seed, pool)
        # Last, since its many small tasks keep all cores busy until the end.
        bound = pool.submit(evaluation.importance, run, options.iwae_images, options.iwae_samples, options.seed)
        critic = None if samples is None else sample_quality.critic_auc(run, samples, options.seed)
        if (found := bound.result()) is not None:
            parts["iwae"] = found
        else:
            notes.append(f"train.beta is {run.config.train.beta:g}, so sigma is 0: skipped -ELBO and IWAE bound")
        if (found := codes.result()) is not None:
            parts["other_codes"] = found
        parts["label_probes"] = probes.result()
    if not run.dataset.label_names:
        notes.append("the images have no labels: skipped label probes")
    if samples is None:
        return parts, [*notes, f"{reason}: skipped reconstruction and all measures of samples"]
    found = {"critic": critic, **{part: future.result() for part, future in beside.items()}}
    order = ("reconstruction", "sample_fidelity", "critic", "copying", "local_validity", "label_frequencies")
    of_samples = {part: found[part] for part in order if found[part] is not None}
    return parts | of_samples, notes + _notes_on_samples(run, of_samples)


def _why_no_samples(run: "OpenedRun") -> str | None:
    """Why samples cannot be measured; None if they can."""
    from flax_punkvae.measures import features
    from flax_punkvae.trained import sample_quality

    if run.dataset.sprites is None:
        return "the images are not sprites"
    if min(run.dataset.sprites.shape[1:3]) < features.LEAST_SIDE:
        return f"the sprites are smaller than {features.LEAST_SIDE}x{features.LEAST_SIDE}"
    if len(run.test_indices) < sample_quality.LEAST_HELD_OUT:
        least = sample_quality.LEAST_HELD_OUT
        return f"{len(run.test_indices)} held-out images are too few, at least {least} are needed"
    return None


def _beside_critics(
    run: "OpenedRun", posteriors: "Posteriors", samples: dict[str, Any], seed: int, pool: Executor
) -> dict[str, Future[Any]]:
    """The parts, but that of the critics, that compare samples, and reconstructions, with the held-out sprites."""
    from flax_punkvae.trained import evaluation, sample_quality

    return {
        "copying": pool.submit(sample_quality.copying, run, samples, seed),
        "local_validity": pool.submit(sample_quality.local_validity, run, samples),
        "reconstruction": pool.submit(evaluation.reconstruction, run, posteriors),
        "sample_fidelity": pool.submit(sample_quality.sample_fidelity, run, samples, seed),
        "label_frequencies": pool.submit(sample_quality.label_frequencies, run, samples, seed),
    }


def _notes_on_samples(run: "OpenedRun", parts: dict[str, Any]) -> list[str]:
    from flax_punkvae.trained import traits

    notes = []
    if reason := parts["sample_fidelity"].get("trained_left_out"):
        notes.append(f"skipped the features of the trained network: {reason}")
    if duplicates := parts["copying"]["rows"]["held-out (floor)"]["exact_copies"]:
        notes.append(
            f"{duplicates} of the {len(run.test_indices)} held-out sprites are training sprites too: the held-out "
            "rows contain copies"
        )
    if "label_frequencies" not in parts:
        notes.append(f"skipped label frequencies; {traits.load_network(run.model.description)[1]}")
    for side, floor in parts["local_validity"]["no_power"].items():
        notes.append(
            f"only {floor:.2f} of the held-out sprites are locally valid with {side}x{side} windows: skipped, as "
            "the measure says nothing here"
        )
    return notes


def _show(table: "Table") -> None:
    from rich import box
    from rich.table import Table

    shown = Table(title=table.title, title_justify="left", box=box.SIMPLE)
    for column in table.columns:
        shown.add_column(column, justify="left" if column == table.columns[0] else "right")
    for row in table.rows:
        shown.add_row(*row)
    console.show(shown)


if __name__ == "__main__":
    run_program(main)
