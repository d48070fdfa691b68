"""The evaluation of a run, as plain numbers; each function computes one part of evaluation.json.

Held-out images are the run's own test images. Every part states its n and, if it is random, its seed.
"""

import math
from functools import cache
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8

from flax_punkvae.data import punks
from flax_punkvae.measures import codes, features, fidelity, metrics
from flax_punkvae.model import inference
from flax_punkvae.trained.runs import OpenedRun
from flax_punkvae.trained.samplers import SAMPLERS
from flax_punkvae.training import state as train_state
from flax_punkvae.training import steps

# The floor in `copying` uses half of them, and fewer than 20 would be too few.
LEAST_HELD_OUT = 40
_CHUNK = 100


def rate_distortion(run: OpenedRun, seed: int) -> dict[str, Any]:
    """Rate (KL), distortion, the -ELBO computed from them, and the number of active units.

    For images of palette indices, also the pixels and sprites with colours outside the palette. There is no -ELBO if
    sigma is 0, and no number of active units for a single image.
    """
    dataset, beta, likelihood = run.dataset, run.config.train.beta, run.model.module.likelihood
    held_out = dataset.images[run.test_indices]
    batch = min(run.config.train.batch_size, len(held_out))
    on_device = jax.device_put(held_out)
    key, indices = jax.random.key(seed), np.arange(len(held_out))
    found = steps.evaluate(run.model.module, run.model.params, beta, on_device, indices, key, batch)
    per_latent = np.sort(run.model.kl_per_latent(held_out, seed))[::-1]
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
    """The IWAE bound of the first `count` held-out images, in nats and, for a categorical likelihood, also in bits.

    For each K of 1, 100 and 1000 that divides `samples`, the number of importance samples per image. None if the
    likelihood has no density at this beta.
    """
    likelihood, beta = run.model.module.likelihood, run.config.train.beta
    if (noise := likelihood.noise(beta)) is None:
        return None
    chosen = run.dataset.images[run.test_indices[:count]]
    key = jax.random.key(seed)
    weights = np.empty((len(chosen), samples))
    chunk = min(_CHUNK, samples)
    for row, image in enumerate(chosen):
        for start in range(0, samples, chunk):
            one = jax.random.fold_in(jax.random.fold_in(key, row), start)
            parts = inference.importance_samples(run.model.module, run.model.params, image, one, chunk)
            distortion, log_ratio = (np.asarray(part, np.float64) for part in parts)
            log_weights = likelihood.log_likelihood(distortion, beta, image.size) + log_ratio
            weights[row, start : start + chunk] = log_weights
    bounds = {k: metrics.iwae_bound(weights, k) for k in (1, 100, 1000) if k <= samples and samples % k == 0}
    nats = {str(k): float(values.mean()) for k, values in bounds.items()}
    found: dict[str, Any] = {"n": len(chosen), "seed": seed, "samples": samples, "bound_nats": nats, **noise}
    if likelihood.bits:
        found["bits"] = {k: -bound / math.log(2) for k, bound in nats.items()}
    found["standard_error_of_n"] = {str(k): float(values.std() / np.sqrt(len(values))) for k, values in bounds.items()}
    return found


def other_codes(run: OpenedRun) -> dict[str, Any] | None:
    """Bits per held-out sprite of other codes; None if the likelihood is not categorical, as only that gives bits."""
    dataset = run.dataset
    if dataset.palette is None:
        return None
    assert dataset.sprites is not None
    train, held_out = dataset.images[run.train_indices], dataset.images[run.test_indices]
    frequencies = train_state.log_frequencies(train, dataset.colours)
    sprites = dataset.sprites[run.test_indices]
    bits = {
        "PNG, each the smaller of RGB and palette": codes.png_bits(sprites),
        "lossless WebP": codes.webp_bits(sprites),
        "independent pixels, training frequencies": codes.independent_bits(held_out, frequencies),
        "zlib, 32 kB of training sprites as dictionary": codes.zlib_bits(train, held_out),
        "lzma, all in one stream behind the training sprites": codes.lzma_bits(train, held_out),
    }
    if dataset.verification == punks.VERIFIED:
        bits["the contract's trait codes"] = punks.CONTRACT_BITS
    return {"n": len(held_out), "bits": bits}


def reconstruction(run: OpenedRun) -> dict[str, Any]:
    """Accuracy of the reconstructions of held-out sprites, snapped to the palette of the training sprites."""
    sprites, palette = run.dataset.sprites, run.model.description.palette
    assert sprites is not None and palette is not None
    means, _ = run.encode(run.test_indices)
    decoded = run.model.to_sprites(run.model.decode_sprites(means))
    pixels, whole = metrics.pixel_and_sprite_accuracy(decoded, sprites[run.test_indices])
    return {"n": len(decoded), "palette": len(palette), "pixels_right": pixels, "sprites_right": whole}


def draw(run: OpenedRun, seed: int) -> dict[str, UInt8[np.ndarray, "n h w 3"]]:
    """Sprites sampled with each sampler, as many as there are held-out images.

    If the prior samples training sprites or duplicates, there is a further row of samples from it that are new and
    distinct, as the held-out sprites are.
    """
    count, model = len(run.test_indices), run.model
    posteriors = cache(lambda: run.encode(run.train_indices))
    chosen = {how: np.concatenate(list(model.draw(how, count, seed, posteriors=posteriors))) for how in SAMPLERS}
    new = model.draw_new("prior", count, seed, tries=4)
    if len(new) == count and not np.array_equal(new, chosen["prior"]):
        chosen["prior, new only"] = new
    return {row: model.decode_sprites(z) for row, z in chosen.items()}


def sample_fidelity(run: OpenedRun, samples: dict[str, UInt8[np.ndarray, "n h w 3"]], seed: int) -> dict[str, Any]:
    """Compare samples with held-out sprites in the feature spaces of two networks; training sprites give the floor.

    All rows have the same n: for the floor, as many training sprites are chosen (by the seed) as there are held-out
    ones. The trained network takes 24x24 sprites only; other sizes are compared with the random network alone.
    """
    sprites = run.dataset.sprites
    assert sprites is not None
    held_out = sprites[run.test_indices]
    chosen = np.random.default_rng(seed).permutation(run.train_indices)[: len(held_out)]
    rows = {"training (floor)": sprites[np.sort(chosen)], **samples}
    _, height, width, _ = sprites.shape
    networks = {"random": features.random(seed, size=(height, width))}
    found: dict[str, Any] = {"n": len(held_out), "n_floor": len(chosen), "seed": seed}
    if (height, width) == features.SPRITE[:2]:
        networks = {"trained": features.load(), **networks}
        found["features_sha256"] = networks["trained"].sha256
    for name, network in networks.items():
        real = features.extract(network, held_out)
        found[name] = {row: _compare(real, features.extract(network, content)) for row, content in rows.items()}
    return found


def _compare(real: Float[np.ndarray, "n f"], generated: Float[np.ndarray, "m f"]) -> dict[str, float]:
    precision, recall = fidelity.precision_recall(real, generated)
    density, coverage = fidelity.density_coverage(real, generated)
    return {
        "frechet": fidelity.frechet_distance(real, generated),
        "kernel": fidelity.kernel_distance(real, generated),
        "precision": precision,
        "recall": recall,
        "density": density,
        "coverage": coverage,
    }


def copying(run: OpenedRun, samples: dict[str, UInt8[np.ndarray, "n h w 3"]], seed: int) -> dict[str, Any]:
    """Whether samples copy training sprites; held-out sprites, which cannot be copies, give the floor.

    Exact copies do not prove copying, because a model that has learned how traits combine produces common combinations
    again. Such a model produces each held-out sprite, which it never saw, as often as each training sprite;
    `held_out_hits` counts these. Copies, hits and differing pixels are counted after snapping to the palette; C_T and
    AuthPct use the decoded pixels. The floor's C_T compares one half of the held-out sprites with the other.
    """
    sprites = run.dataset.sprites
    assert sprites is not None
    train, held_out = sprites[run.train_indices], sprites[run.test_indices]
    order = np.random.default_rng(seed).permutation(len(held_out))
    first, second = held_out[order[::2]], held_out[order[1::2]]
    found: dict[str, Any] = {"n": len(held_out), "n_train": len(train), "seed": seed, "rows": {}}
    for row, content in {"held-out (floor)": held_out, **samples}.items():
        snapped = run.model.to_sprites(content)
        test, generated = (first, second) if content is held_out else (held_out, content)
        found["rows"][row] = {
            "exact_copies": fidelity.exact_copies(train, snapped),
            "held_out_hits": None if content is held_out else fidelity.exact_copies(held_out, snapped),
            "median_pixels_to_nearest": float(np.median(fidelity.nearest_sprites(snapped, train)[1])),
            "c_t": fidelity.data_copying_z(_flat(train), _flat(test), _flat(generated)),
            "auth_pct": 100 * fidelity.authenticity(_flat(train), _flat(content)),
        }
    return found


def label_probes(run: OpenedRun) -> dict[str, Any] | None:
    """AUROC and balanced accuracy of a linear probe of the posterior means per label; None if there are no labels."""
    dataset = run.dataset
    if not dataset.label_names:
        return None
    train, test = (run.encode(part)[0] for part in (run.train_indices, run.test_indices))
    probes = metrics.label_probes(train, dataset.labels[run.train_indices], test, dataset.labels[run.test_indices])
    labels = {dataset.label_names[label]: {"auroc": a, "balanced_accuracy": b} for label, (a, b) in probes.items()}
    return {
        "n": len(test),
        "labels": len(labels),
        "mean_auroc": float(np.mean([a for a, _ in probes.values()])) if probes else None,
        "mean_balanced_accuracy": float(np.mean([b for _, b in probes.values()])) if probes else None,
        "by_label": labels,
    }


def _flat(sprites: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n p"]:
    return sprites.reshape(len(sprites), -1) / 255.0
