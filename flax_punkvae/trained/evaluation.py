"""The evaluation of a run, as plain numbers; each function computes one part of evaluation.json.

Held-out images are the run's own test images. Every part states its n and, if it is random, its seed.
"""

import math
import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from flax_punkvae.data import punks
from flax_punkvae.devices import parallel, threads
from flax_punkvae.images import MODES
from flax_punkvae.measures import codes, metrics, probes
from flax_punkvae.model import inference
from flax_punkvae.model.palette import log_frequencies
from flax_punkvae.trained.runs import OpenedRun
from flax_punkvae.training import steps

_CHUNK = 100


class Posteriors:
    """(means, logvars) of a run's images, each encoded once, when they are first needed by any thread."""

    def __init__(self, run: OpenedRun) -> None:
        self._run, self._lock = run, threading.RLock()

    @property
    def train(self) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]:
        """Of the training images."""
        with self._lock:
            return self._train

    @property
    def held_out(self) -> tuple[Float[np.ndarray, "m d"], Float[np.ndarray, "m d"]]:
        """Of the held-out images."""
        with self._lock:
            return self._held_out

    @cached_property
    def _train(self) -> Any:
        return self._run.encode(self._run.train_indices)

    @cached_property
    def _held_out(self) -> Any:
        return self._run.encode(self._run.test_indices)


def rate_distortion(run: OpenedRun, posteriors: Posteriors, seed: int) -> dict[str, Any]:
    """Rate (KL), distortion, the -ELBO computed from them, and the number of active units.

    For images of palette indices, also the pixels and sprites with colours outside the palette. There is no -ELBO if
    sigma is 0, and no number of active units for a single image.
    """
    dataset, beta, likelihood = run.dataset, run.config.train.beta, run.model.module.likelihood
    held_out = dataset.images[run.test_indices]
    batch = min(run.config.train.batch_size, len(held_out))
    on_device = parallel.sharded(None, held_out)
    key, indices = jax.random.key(seed), np.arange(len(held_out))
    found = steps.evaluate(run.model.module, run.model.params, beta, on_device, indices, key, batch)
    per_latent = np.sort(run.model.kl_of_posteriors(*posteriors.held_out, seed))[::-1]
    common = {
        "n": len(held_out),
        "seed": seed,
        "likelihood": run.config.model.likelihood,
        "rate_nats": found["kl"],
        "distortion": found[likelihood.distortion_name],
        "loss": found["loss"],
        "beta": beta,
        "active_units": found["active_units"] if len(held_out) > 1 else None,
        "latents": len(per_latent),
        "kl_per_latent_nats": [float(value) for value in per_latent],
    }
    elbo = likelihood.negative_elbo(common["distortion"], common["rate_nats"], beta, held_out[0].size)
    if dataset.palette is None:
        return {**common, **elbo}
    pixels, sprites = dataset.outside_palette(run.test_indices)
    return {**common, **elbo, "pixels_outside_palette": pixels, "sprites_outside_palette": sprites}


def importance(run: OpenedRun, count: int, samples: int, seed: int) -> dict[str, Any] | None:
    """The IWAE bound of `count` random held-out images, in nats and, for a categorical likelihood, also in bits.

    The seed chooses the images, since the first ones need not be typical. For each K of 1, 100 and 1000 that divides
    `samples`, the number of importance samples per image. None if the likelihood has no density at this beta.
    """
    likelihood, beta = run.model.module.likelihood, run.config.train.beta
    if (noise := likelihood.noise(beta)) is None:
        return None
    chosen = parallel.widened(run.dataset.images[iwae_positions(run, count, seed)])
    key = jax.random.key(seed)
    chunk = min(_CHUNK, samples)

    def log_weights(row: int) -> Float[np.ndarray, "k"]:
        own = jax.random.fold_in(key, row)
        keys = jax.vmap(lambda start: jax.random.fold_in(own, start))(np.arange(0, samples, chunk))
        found = inference.importance_samples(run.model.module, run.model.params, chosen[row], keys, chunk)
        distortion, log_ratio = (np.asarray(part, np.float64) for part in found)
        return likelihood.log_likelihood(distortion, beta, chosen[row].size) + log_ratio

    weights = np.stack(threads.each(log_weights, range(len(chosen))))
    bounds = {k: metrics.iwae_bound(weights, k) for k in (1, 100, 1000) if k <= samples and samples % k == 0}
    nats = {str(k): float(values.mean()) for k, values in bounds.items()}
    found: dict[str, Any] = {"n": len(chosen), "seed": seed, "samples": samples, "bound_nats": nats, **noise}
    if likelihood.bits:
        found["bits"] = {k: -bound / math.log(2) for k, bound in nats.items()}
    found["standard_error_of_n"] = {str(k): float(values.std() / np.sqrt(len(values))) for k, values in bounds.items()}
    return found


def iwae_positions(run: OpenedRun, count: int, seed: int) -> Int[np.ndarray, "n"]:
    """The positions of the images of `importance`, ascending; all held-out ones if there are no more than `count`."""
    return np.sort(np.random.default_rng(seed).permutation(run.test_indices)[:count])


def other_codes(run: OpenedRun) -> dict[str, Any] | None:
    """Bits per held-out sprite of other codes; None if the likelihood is not categorical, as only that gives bits."""
    dataset = run.dataset
    if dataset.palette is None:
        return None
    assert dataset.sprites is not None
    train, held_out = dataset.images[run.train_indices], dataset.images[run.test_indices]
    frequencies = log_frequencies(train, dataset.colours)
    sprites = dataset.sprites[run.test_indices]
    measured: dict[str, Callable[[], float]] = {
        f"PNG, each the smaller of {MODES[sprites.shape[-1]]} and palette": lambda: codes.png_bits(sprites),
        "lossless WebP": lambda: codes.webp_bits(sprites),
        "independent pixels, training frequencies": lambda: codes.independent_bits(held_out, frequencies),
        "zlib, 32 kB of training sprites as dictionary": lambda: codes.zlib_bits(train, held_out),
        "lzma, all in one stream behind the training sprites": lambda: codes.lzma_bits(train, held_out),
    }
    bits = dict(zip(measured, threads.each(lambda code: code(), measured.values()), strict=True))
    if dataset.verification == punks.VERIFIED:
        bits["the contract's trait codes"] = punks.CONTRACT_BITS
    return {"n": len(held_out), "bits": bits}


def reconstruction(run: OpenedRun, posteriors: Posteriors) -> dict[str, Any]:
    """Accuracy of the reconstructions of held-out sprites, snapped to the palette of the training sprites."""
    sprites, palette = run.dataset.sprites, run.model.description.palette
    assert sprites is not None and palette is not None
    means, _ = posteriors.held_out
    decoded = run.model.to_sprites(run.model.decode_sprites(means))
    pixels, whole = metrics.pixel_and_sprite_accuracy(decoded, sprites[run.test_indices])
    return {"n": len(decoded), "palette": len(palette), "pixels_right": pixels, "sprites_right": whole}


def label_probes(run: OpenedRun, posteriors: Posteriors) -> dict[str, Any] | None:
    """AUROC and balanced accuracy of a linear probe of the posterior means per label; None if there are no labels."""
    dataset = run.dataset
    if not dataset.label_names:
        return None
    (train, _), (test, _) = posteriors.train, posteriors.held_out
    found = probes.label_probes(train, dataset.labels[run.train_indices], test, dataset.labels[run.test_indices])
    labels = {dataset.label_names[label]: {"auroc": a, "balanced_accuracy": b} for label, (a, b) in found.items()}
    return {
        "n": len(test),
        "labels": len(labels),
        "mean_auroc": float(np.mean([a for a, _ in found.values()])) if found else None,
        "mean_balanced_accuracy": float(np.mean([b for _, b in found.values()])) if found else None,
        "by_label": labels,
    }
