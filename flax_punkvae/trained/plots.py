"""Plots of an evaluation, with matplotlib (extra `evaluate`); needs no display."""

from pathlib import Path
from typing import Any

import numpy as np


def evaluation_page(parts: dict[str, Any], path: Path) -> None:
    """Plot the KL of the latents, the label probes and, for sprites, the sample metrics; `parts` is evaluation.json."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    probes = parts["label_probes"]
    labelled = bool(probes and probes["labels"])
    figure = Figure(figsize=(13 if labelled else 7, 12), layout="constrained")
    FigureCanvasAgg(figure)
    # k: KL of the latents, d: distance of samples, s: their scores, p: probes, if any, beside the others.
    axes = figure.subplot_mosaic("kp;dp;sp" if labelled else "k;d;s")
    latents, distance, scores = (axes[name] for name in "kds")

    values = np.array(parts["rate_distortion"]["kl_per_latent_nats"])
    latents.bar(np.arange(1, len(values) + 1), values, width=1.0)
    latents.set(title="KL of each latent, sorted", xlabel="latent", ylabel="nats per image")

    if labelled:
        labels = axes["p"]
        by_label = sorted(probes["by_label"].items(), key=lambda item: item[1]["auroc"])
        labels.plot([row["auroc"] for _, row in by_label], np.arange(len(by_label)), "o", label="AUROC")
        labels.plot([row["balanced_accuracy"] for _, row in by_label], np.arange(len(by_label)), "x", label="balanced")
        labels.set_yticks(np.arange(len(by_label)), [name for name, _ in by_label], fontsize=6)
        labels.axvline(0.5, color="grey", linewidth=0.5)
        labels.set(title="linear probes of the latents", xlabel="1 is perfect, 0.5 is chance")
        labels.legend()

    if "sample_fidelity" in parts:
        network = "trained" if "trained" in parts["sample_fidelity"] else "random"
        rows = parts["sample_fidelity"][network]
        # Lying, since names would overlap below standing bars.
        distance.barh(list(rows), [row["frechet"] for row in rows.values()])
        distance.invert_yaxis()
        distance.set(
            title=f"Frechet distance to half of the held-out sprites,\nfeatures of the {network} network",
            xlabel="lower is better",
        )
        names = ("precision", "recall", "density", "coverage")
        for number, (row, found) in enumerate(rows.items()):
            positions = np.arange(len(names)) + 0.8 * (number - (len(rows) - 1) / 2) / len(rows)
            scores.bar(positions, [found[name] for name in names], width=0.8 / len(rows), label=row)
        scores.set_xticks(np.arange(len(names)), names)
        scores.set(
            title=f"comparison with half of the held-out sprites,\nfeatures of the {network} network",
            ylabel="best: at the floor",
        )
        # Leave room for the legend above the bars.
        scores.margins(y=0.55)
        scores.legend(ncols=2, loc="upper center", fontsize="small")
    else:
        distance.set_axis_off()
        scores.set_axis_off()
    figure.savefig(path, dpi=120)
