"""Everything that `evaluate` says of a run, as plain numbers; each function is one part of evaluation.json.

Held-out means the run's own test images. Every part states its n and its seed.
"""

from typing import Any, get_args

import jax
import numpy as np
from jaxtyping import Float, UInt8

from flax_punkvae import features, fidelity, images, latents, metrics, training
from flax_punkvae.trained import Trained, decode, encode

# Half of them, the floor of copying, are 20: fewer say nothing.
LEAST_HELD_OUT = 40
SAMPLERS: tuple[latents.Sampler, ...] = get_args(latents.Sampler)
_CHUNK = 100


def rate_distortion(run: Trained, seed: int) -> dict[str, Any]:
    """Rate (KL), distortion (squared error), -ELBO at beta and at the sigma it implies, and the latents in use."""
    dataset, beta = run.dataset, run.config.train.beta
    held_out = dataset.images[run.test_indices]
    batch = min(run.config.train.batch_size, len(held_out))
    placed = jax.device_put(held_out)
    found = training.evaluate(run.state, placed, np.arange(len(held_out)), jax.random.key(seed), batch)
    means, logvars = encode(run.state, held_out)
    per_latent = np.sort(metrics.kl_per_latent(means, logvars))[::-1]
    sigma = metrics.implied_sigma(beta)
    likelihood = metrics.gaussian_log_likelihood(np.array([found["mse"]]), sigma, held_out[0].size)
    return {
        "n": len(held_out),
        "seed": seed,
        "rate_nats": found["kl"],
        "distortion": found["mse"],
        "loss": found["loss"],
        "beta": beta,
        "pythae_beta": metrics.pythae_beta(beta),
        "sigma": sigma,
        "negative_elbo_nats_at_sigma": found["kl"] - float(likelihood[0]),
        "active_units": found["active_units"],
        "latents": len(per_latent),
        "kl_per_latent_nats": [float(value) for value in per_latent],
    }


def importance(run: Trained, count: int, samples: int, seed: int) -> dict[str, Any]:
    """The IWAE bound of the first `count` held-out images, at the sigma that beta implies, for K = 1, 100, 1000.

    Of these K, those that divide `samples`, the weights drawn for each image.
    """
    sigma = metrics.implied_sigma(run.config.train.beta)
    chosen = run.dataset.images[run.test_indices[:count]]
    key = jax.random.key(seed)
    weights = np.empty((len(chosen), samples))
    chunk = min(_CHUNK, samples)
    for row, image in enumerate(chosen):
        for start in range(0, samples, chunk):
            drawn = training.importance_samples(
                run.state, image, jax.random.fold_in(jax.random.fold_in(key, row), start), chunk
            )
            z, errors, mean, logvar = map(np.asarray, drawn)
            likelihood = metrics.gaussian_log_likelihood(errors, sigma, image.size)
            ratio = metrics.log_density_ratio(z, np.broadcast_to(mean, z.shape), np.broadcast_to(logvar, z.shape))
            weights[row, start : start + chunk] = likelihood + ratio
    bounds = {k: metrics.iwae_bound(weights, k) for k in (1, 100, 1000) if k <= samples and samples % k == 0}
    return {
        "n": len(chosen),
        "seed": seed,
        "sigma": sigma,
        "samples": samples,
        "bound_nats": {str(k): float(values.mean()) for k, values in bounds.items()},
        "standard_error_of_n": {str(k): float(values.std() / np.sqrt(len(values))) for k, values in bounds.items()},
    }


def recovery(run: Trained) -> dict[str, Any]:
    """Reconstructions of held-out sprites, read back at 24x24 and snapped to the palette of the training sprites."""
    sprites, palette = run.dataset.sprites, run.palette()
    assert sprites is not None
    means, _ = encode(run.state, run.dataset.images[run.test_indices])
    drawn = run.sprites(decode(run.state, means))
    pixels, whole = metrics.shares_right(images.snap(drawn, palette), sprites[run.test_indices])
    return {"n": len(drawn), "palette": len(palette), "pixels_right": pixels, "sprites_right": whole}


def draw(run: Trained, seed: int) -> dict[str, UInt8[np.ndarray, "n 24 24 3"]]:
    """As many samples as there are held-out images from every sampler, read back at 24x24."""
    means, logvars = encode(run.state, run.dataset.images[run.train_indices])
    count = len(run.test_indices)
    return {
        how: run.sprites(decode(run.state, latents.sample(how, count, seed, 1.0, means, logvars))) for how in SAMPLERS
    }


def resemblance(run: Trained, drawn: dict[str, UInt8[np.ndarray, "n 24 24 3"]], seed: int) -> dict[str, Any]:
    """Samples against held-out sprites in the features of two networks, with the floor: training against held-out.

    At the same n everywhere: as many training sprites, chosen by the seed, as there are held-out ones.
    """
    sprites = run.dataset.sprites
    assert sprites is not None
    held_out = sprites[run.test_indices]
    some = np.random.default_rng(seed).permutation(run.train_indices)[: len(held_out)]
    rows = {"training (floor)": sprites[np.sort(some)], **drawn}
    trained = features.load()
    found: dict[str, Any] = {"n": len(held_out), "n_floor": len(some), "seed": seed, "features_sha256": trained.sha256}
    for name, network in (("trained", trained), ("random", features.random(seed))):
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


def copying(run: Trained, drawn: dict[str, UInt8[np.ndarray, "n 24 24 3"]], seed: int) -> dict[str, Any]:
    """Whether samples are training sprites over again; the floor is held-out sprites, which cannot be.

    Exact copies and differing pixels after snapping to the palette; C_T and AuthPct on the pixels as drawn. The floor's
    C_T is that of one half of the held-out sprites against the other.
    """
    sprites = run.dataset.sprites
    assert sprites is not None
    train, held_out = sprites[run.train_indices], sprites[run.test_indices]
    palette = run.palette()
    order = np.random.default_rng(seed).permutation(len(held_out))
    first, second = held_out[order[::2]], held_out[order[1::2]]
    found: dict[str, Any] = {"n": len(held_out), "seed": seed, "rows": {}}
    for row, content in {"held-out (floor)": held_out, **drawn}.items():
        snapped = images.snap(content, palette)
        test, generated = (first, second) if content is held_out else (held_out, content)
        found["rows"][row] = {
            "exact_copies": fidelity.exact_copies(train, snapped),
            "median_pixels_to_nearest": float(np.median(fidelity.nearest_sprites(snapped, train)[1])),
            "c_t": fidelity.data_copying_z(_flat(train), _flat(test), _flat(generated)),
            "auth_pct": 100 * fidelity.authenticity(_flat(train), _flat(content)),
        }
    return found


def knowledge(run: Trained) -> dict[str, Any] | None:
    """What a linear probe reads of every label off the posterior means; None where the images have no labels."""
    dataset = run.dataset
    if not dataset.label_names:
        return None
    train, test = (encode(run.state, dataset.images[part])[0] for part in (run.train_indices, run.test_indices))
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
