"""The tables that `evaluate` prints, as text, from the parts of evaluation.json."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from flax_punkvae.model.likelihoods import Likelihood
from flax_punkvae.trained.headline import ROWS

# The rows of real sprites.
_FLOORS = ("held-out (floor)", "training (floor)")


class Table(NamedTuple):
    """A title, the names of the columns, and rows of as many cells."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(parts: dict[str, Any], likelihood: Likelihood) -> Iterator[Table]:
    """The tables of a run, those of its samples last, if these were measured."""
    numbers = [*_code(parts, likelihood), *_latents(parts), *_reconstructions(parts)]
    run = parts["run"]
    yield Table(f"{run['held_out']} held-out images, step {run['step']}", ("measure", "value"), numbers)
    if "other_codes" in parts:
        codes = parts["other_codes"]
        rows = [(name, f"{bits:.1f}") for name, bits in codes["bits"].items()]
        yield Table(f"other codes, same {codes['n']} held-out sprites", ("code", "bits per sprite"), rows)
    if "sample_fidelity" in parts:
        yield from _features(parts["sample_fidelity"])
        yield _critic(parts["critic"])
        yield _copies(parts["copying"])
        yield from _validity(parts["local_validity"])
    if "label_frequencies" in parts:
        yield _frequencies(parts["label_frequencies"])


def samples(parts: dict[str, Any]) -> Table | None:
    """One table of the main figures of samples beside their floors; None if samples were not measured."""
    if "sample_fidelity" not in parts:
        return None
    network = "trained" if "trained" in parts["sample_fidelity"] else "random"
    columns = {
        "Frechet distance": (parts["sample_fidelity"][network], lambda row: f"{row['frechet']:.4g}"),
        "locally valid, 3x3": (parts["local_validity"]["rows"], lambda row: f"{row['3']:.3f}" if "3" in row else "-"),
        "critic's AUC": (parts["critic"]["rows"], lambda auc: f"{auc:.3f}"),
        "exact copies of training sprites": (parts["copying"]["rows"], lambda row: str(row["exact_copies"])),
    }
    rows = [
        (name, *(write(found[name]) if name in found else "-" for found, write in columns.values()))
        for name in (*_FLOORS, *ROWS)
        if any(name in found for found, _ in columns.values())
    ]
    return Table("samples, beside the same figures of real sprites (floors)", ("sprites", *columns), rows)


def _code(parts: dict[str, Any], likelihood: Likelihood) -> Iterator[tuple[str, str]]:
    """Rate, distortion and bounds on the likelihood."""
    rate, iwae = parts["rate_distortion"], parts.get("iwae")
    pythae = f" (beta in Pythae: {rate['pythae_beta']:g})" if "pythae_beta" in rate else ""
    yield "rate (KL), nats per image", f"{rate['rate_nats']:.2f}"
    yield f"distortion: {likelihood.described}", f"{rate['distortion']:.2f}"
    yield f"loss: distortion + {rate['beta']:g} * rate{pythae}", f"{rate['loss']:.2f}"
    if "negative_elbo_bits" in rate:
        yield "-ELBO, bits per sprite", f"{rate['negative_elbo_bits']:.2f}"
    if "sigma" in rate:
        yield f"-ELBO, nats per image, sigma {rate['sigma']:.4g}", f"{rate['negative_elbo_nats_at_sigma']:.2f}"
    if iwae:
        unit = "bits per sprite" if "bits" in iwae else "nats per image, same sigma"
        for k, bound in iwae["bits" if "bits" in iwae else "bound_nats"].items():
            yield f"IWAE bound, {unit}, K = {k}, {iwae['n']} random held-out images", f"{bound:.2f}"
    if rate.get("pixels_outside_palette"):
        outside = f"{rate['pixels_outside_palette']} pixels in {rate['sprites_outside_palette']} sprites"
        yield "held-out pixels outside the training palette, replaced by the nearest colour", outside


def _latents(parts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    rate, probes = parts["rate_distortion"], parts["label_probes"]
    units = rate["active_units"]
    active = "undefined for one image" if units is None else f"{units} of {rate['latents']}"
    yield "active units (variance of the posterior mean > 0.01)", active
    if probes and probes["labels"]:
        yield f"linear probes of {probes['labels']} labels: mean AUROC", f"{probes['mean_auroc']:.3f}"
        yield "linear probes: mean balanced accuracy", f"{probes['mean_balanced_accuracy']:.3f}"


def _reconstructions(parts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if found := parts.get("reconstruction"):
        yield "reconstructions snapped to the palette: correct pixels", f"{100 * found['pixels_right']:.2f} %"
        yield "reconstructions: sprites with all pixels correct", f"{100 * found['sprites_right']:.2f} %"


def _features(found: dict[str, Any]) -> Iterator[Table]:
    columns = ("frechet", "kernel", "precision", "recall", "density", "coverage")
    for network in (name for name in ("trained", "random") if name in found):
        digest = f" (SHA-256 {found['features_sha256'][:16]}...)" if network == "trained" else ""
        title = f"{found['n']} sprites per row against half of the held-out, features of the {network} network{digest}"
        rows = [(name, *(f"{row[column]:.4g}" for column in columns)) for name, row in found[network].items()]
        yield Table(title, ("sprites", *columns), rows)


def _critic(found: dict[str, Any]) -> Table:
    title = f"a critic told to tell {found['n']} sprites from as many held-out ones: AUC on the half it did not see"
    return Table(title, ("sprites", "AUC, 0.5 is best"), [(row, f"{auc:.3f}") for row, auc in found["rows"].items()])


def _copies(found: dict[str, Any]) -> Table:
    title = (
        f"copies of the {found['n_train']} training sprites, hits on the {found['n_unseen']} unseen held-out sprites"
    )
    columns = ("exact copies", "held-out hits", "median pixels differing from the nearest", "C_T", "AuthPct")
    rows = [
        (
            name,
            str(row["exact_copies"]),
            "-" if row["held_out_hits"] is None else str(row["held_out_hits"]),
            f"{row['median_pixels_to_nearest']:g}",
            f"{row['c_t']:.2f}",
            f"{row['auth_pct']:.1f}",
        )
        for name, row in found["rows"].items()
    ]
    return Table(title, ("sprites", *columns), rows)


def _validity(found: dict[str, Any]) -> Iterator[Table]:
    sides = list(next(iter(found["rows"].values())))
    if sides:
        title = f"locally valid: every window occurs in a training sprite at its place; {found['n']} sprites per row"
        rows = [(name, *(f"{row[side]:.3f}" for side in sides)) for name, row in found["rows"].items()]
        yield Table(title, ("sprites", *(f"{side}x{side}" for side in sides)), rows)


def _frequencies(found: dict[str, Any]) -> Table:
    title = f"distance of label frequencies from those of the {found['n']} held-out sprites"
    columns = ("sprites", f"{found['labels']} labels", f"{found['pairs']} pairs of labels")
    return Table(
        title, columns, [(n, f"{row['labels']:.3f}", f"{row['pairs']:.3f}") for n, row in found["rows"].items()]
    )


def headlines(spread: dict[str, dict[str, Any]], seeds: Sequence[int]) -> Table:
    """The headline figures of several runs: mean and standard deviation, then the figure of each run, by its seed."""
    columns = ("figure", "mean", "standard deviation", *(f"seed {seed}" for seed in seeds))
    rows = [
        (name, *(f"{value:.4g}" for value in (found["mean"], found["sd"], *found["values"])))
        for name, found in spread.items()
    ]
    return Table(f"headline figures of {len(seeds)} runs", columns, rows)
