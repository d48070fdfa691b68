"""The headline figures of an evaluation, and their mean and spread over runs that differ in the seed only."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

# The rows of samples whose figures count; the others are in evaluation.json.
ROWS = ("prior", "prior, re-encoded", "prior, re-encoded, new only")


def figures(parts: dict[str, Any]) -> dict[str, float]:
    """The headline figures of one evaluation.json, by name; those that were not measured are missing."""
    return dict(_figures(parts))


def _figures(parts: dict[str, Any]) -> Iterator[tuple[str, float]]:
    if "negative_elbo_bits" in parts["rate_distortion"]:
        yield "-ELBO, bits per sprite", parts["rate_distortion"]["negative_elbo_bits"]
    for k, bits in list(parts.get("iwae", {}).get("bits", {}).items())[-1:]:
        yield f"IWAE bound, bits per sprite, K = {k}", bits
    if "reconstruction" in parts:
        yield "correct pixels, %", 100 * parts["reconstruction"]["pixels_right"]
        yield "sprites with all pixels correct, %", 100 * parts["reconstruction"]["sprites_right"]
    for row in (row for row in ROWS if row in parts.get("critic", {}).get("rows", {})):
        network = "trained" if "trained" in parts["sample_fidelity"] else "random"
        yield f"{row}: Frechet, {network} features", parts["sample_fidelity"][network][row]["frechet"]
        for side, share in parts["local_validity"]["rows"][row].items():
            yield f"{row}: locally valid, {side}x{side}", share
        yield f"{row}: critic's AUC", parts["critic"]["rows"][row]
        if "label_frequencies" in parts:
            yield f"{row}: distance of label frequencies", parts["label_frequencies"]["rows"][row]["labels"]


def spread(runs: Sequence[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Mean and sample standard deviation (n - 1) of each figure that all runs have; at least 2 runs."""
    found = {}
    for name in (name for name in runs[0] if all(name in run for run in runs)):
        values = [float(run[name]) for run in runs]
        found[name] = {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)), "values": values}
    return found
