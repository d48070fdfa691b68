"""What `evaluate` says of a run's samples, as plain numbers; each function is one part of evaluation.json.

Samples are compared with the run's held-out sprites. Every part states its n, and its seed if it has one.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from flax_punkvae import images, transparency
from flax_punkvae.devices import threads
from flax_punkvae.measures import critic, features, fidelity, neighbours, validity
from flax_punkvae.trained import traits
from flax_punkvae.trained.runs import OpenedRun

# The floor in `copying` uses half of them, and fewer than 20 would be too few.
LEAST_HELD_OUT = 40
# If fewer held-out sprites than this fraction are locally valid, the measure says nothing about samples.
LEAST_FLOOR = 0.1
# Pairs of labels are counted if so many held-out sprites have both.
LEAST_PAIRS = 20
# The floor of label frequencies is a mean over so many sets of training sprites.
FLOOR_SETS = 10


def sample_fidelity(run: OpenedRun, samples: dict[str, UInt8[np.ndarray, "n h w c"]], seed: int) -> dict[str, Any]:
    """Compare samples with held-out sprites in the feature spaces of two networks.

    The seed cuts the held-out sprites into two halves of n. One is the reference; the other is the floor, which also
    shows how large the distances are between sets of n that differ by chance alone. All rows have the same n and the
    same reference, among them training sprites: as far as these differ from the floor, the trained network, which was
    fitted to them, favours them. It is used if it never saw this run's held-out sprites; `trained_left_out` says
    otherwise why not.
    """
    sprites = run.dataset.sprites
    assert sprites is not None
    reference, other = (sprites[run.test_indices[half]] for half in _halves(len(run.test_indices), seed))
    rows = {"held-out (floor)": other, "training": _some_training_sprites(run, seed), **samples}
    rows = {row: content[: len(reference)] for row, content in rows.items()}
    _, height, width, channels = sprites.shape
    networks = {"random": features.random(seed, shape=(height, width, channels))}
    found: dict[str, Any] = {
        "n": len(reference),
        "seed": seed,
        "reference": "one half of the held-out sprites, chosen by the seed; the other half is the floor",
    }
    if features.sprites_sha256(sprites[run.test_indices]) == features.HELD_OUT_SHA256:
        networks = {"trained": features.load(), **networks}
        found["features_sha256"] = networks["trained"].sha256
    else:
        found["trained_left_out"] = (
            "the held-out sprites are not those of the punks' default split, so the trained network may have seen "
            "them, or was not made for them"
        )
    for name, network in networks.items():
        real = features.extract(network, reference)
        others = [features.extract(network, content) for content in rows.values()]
        found[name] = dict(zip(rows, threads.each(partial(_compare, real), others), strict=True))
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


def critic_auc(run: OpenedRun, samples: dict[str, UInt8[np.ndarray, "n h w c"]], seed: int) -> dict[str, Any]:
    """The AUC of a critic that is trained to tell samples from held-out sprites; training sprites give the floor.

    Samples are snapped to the palette: their colours do not give them away. All rows have the same n.
    """
    assert run.dataset.sprites is not None
    held_out, some = run.dataset.sprites[run.test_indices], _some_training_sprites(run, seed)
    count = min(len(held_out), len(some), critic.MOST)
    rows = {"training (floor)": some, **{row: run.model.to_sprites(content) for row, content in samples.items()}}
    found = threads.each(lambda content: float(critic.compare(held_out, content[:count], seed)), rows.values())
    return {
        "n": count,
        "seed": seed,
        "standard_error_at_half": critic.chance(count),
        "rows": dict(zip(rows, found, strict=True)),
    }


def local_validity(run: OpenedRun, samples: dict[str, UInt8[np.ndarray, "n h w c"]]) -> dict[str, Any]:
    """Fraction of sprites whose every k x k window occurs in a training sprite at its position, for k = 3, 5, 7.

    Samples are snapped to the palette; held-out sprites give the floor. A k for which the floor is below LEAST_FLOOR
    has no power and is left out; `no_power` has its floor.
    """
    sprites = run.dataset.sprites
    assert sprites is not None
    train, held_out = sprites[run.train_indices], sprites[run.test_indices]
    rows = {"held-out (floor)": held_out, **{row: run.model.to_sprites(content) for row, content in samples.items()}}
    found: dict[str, Any] = {"n": len(held_out), "no_power": {}, "rows": {row: {} for row in rows}}
    every = np.concatenate(list(rows.values()))
    valid = np.ones(len(every), bool)
    for side in (side for side in (3, 5, 7) if side <= min(sprites.shape[1:3])):
        # Rows share the work of finding the windows of the training sprites. A window that occurs in a training sprite
        # contains none that occurs in no training sprite.
        valid[valid] = validity.locally_valid(train, every[valid], side)
        parts = np.split(valid, np.cumsum([len(content) for content in rows.values()])[:-1])
        shares = {row: float(part.mean()) for row, part in zip(rows, parts, strict=True)}
        if shares["held-out (floor)"] < LEAST_FLOOR:
            found["no_power"][str(side)] = shares["held-out (floor)"]
            continue
        for row, share in shares.items():
            found["rows"][row][str(side)] = share
    return found


def label_frequencies(
    run: OpenedRun, samples: dict[str, UInt8[np.ndarray, "n h w c"]], seed: int
) -> dict[str, Any] | None:
    """How far the frequencies of labels, and of common pairs of labels, are from those of the held-out sprites.

    All labels are read by the network of the sprite features; None if it cannot read this run's. Distances are sums of
    absolute differences of fractions. The floor is that of training sprites, as many as there are held-out ones; its
    mean over FLOOR_SETS sets of them, chosen by the seed, since one set scatters by a tenth.
    """
    network, _ = traits.load_network(run.model.description)
    if network is None:
        return None
    sprites = run.dataset.sprites
    assert sprites is not None
    held_out = traits.read(network, sprites[run.test_indices])
    common = validity.common_pairs(held_out, LEAST_PAIRS)
    train, random = traits.read(network, sprites[run.train_indices]), np.random.default_rng(seed)
    some = [train[random.permutation(len(train))[: len(held_out)]] for _ in range(FLOOR_SETS)]
    rows = {"training (floor)": some}
    rows |= {row: [traits.read(network, run.model.to_sprites(content))] for row, content in samples.items()}
    found: dict[str, Any] = {"n": len(held_out), "labels": held_out.shape[1], "pairs": len(common), "rows": {}}
    pairs = validity.pair_labels(held_out, common)
    for row, sets in rows.items():
        found["rows"][row] = {
            "labels": float(np.mean([validity.frequency_distance(held_out, labels) for labels in sets])),
            "pairs": float(
                np.mean([validity.frequency_distance(pairs, validity.pair_labels(labels, common)) for labels in sets])
            ),
        }
    return found


def copying(run: OpenedRun, samples: dict[str, UInt8[np.ndarray, "n h w c"]], seed: int) -> dict[str, Any]:
    """Whether samples copy training sprites; held-out sprites give the floor.

    Exact copies do not prove copying, because a model that has learned how traits combine produces common combinations
    again. Such a model produces each held-out sprite that it never saw as often as each training sprite;
    `held_out_hits` counts these, without held-out sprites that are training sprites too. Copies, hits and differing
    pixels are counted after snapping to the palette; C_T and AuthPct use the decoded pixels. The floor's C_T compares
    one half of the held-out sprites with the other.
    """
    sprites = run.dataset.sprites
    assert sprites is not None
    train, held_out = sprites[run.train_indices], sprites[run.test_indices]
    known = {sprite.tobytes() for sprite in train}
    unseen = held_out[[sprite.tobytes() not in known for sprite in held_out]]
    found: dict[str, Any] = {
        "n": len(held_out),
        "n_unseen": len(unseen),
        "n_train": len(train),
        "seed": seed,
        "rows": {},
    }
    rows = {"held-out (floor)": held_out, **samples}
    ends = np.cumsum([len(content) for content in rows.values()])[:-1]
    every = np.concatenate(list(rows.values()))
    snapped = run.model.to_sprites(every)
    own, *others = _nearest_training_sprites(train, every, snapped)
    test = others[1][: len(held_out)]
    parts = (np.split(part, ends) for part in (snapped, *others))
    for row, content, indices, distances, differing in zip(rows, *parts, strict=True):
        floor = row == "held-out (floor)"
        first, second = (test[half] for half in _halves(len(held_out), seed)) if floor else (test, distances)
        found["rows"][row] = {
            "exact_copies": fidelity.exact_copies(train, content),
            "held_out_hits": None if floor else fidelity.exact_copies(unseen, content),
            "median_pixels_to_nearest": float(np.median(differing)),
            "c_t": fidelity.distances_z(second, first),
            "auth_pct": 100 * fidelity.authenticity((indices, distances), own),
        }
    return found


def _nearest_training_sprites(
    train: UInt8[np.ndarray, "n h w c"], sprites: UInt8[np.ndarray, "m h w c"], snapped: UInt8[np.ndarray, "m h w c"]
) -> tuple[Float[np.ndarray, "n"], Int[np.ndarray, "m"], Float[np.ndarray, "m"], Int[np.ndarray, "m"]]:
    """(squared distance of each training sprite to the nearest other one; position of the training sprite nearest to
    each sprite; squared distance to it; number of pixels in which the snapped sprite differs from the nearest one)."""
    # Sets of samples share many sprites: each is compared once.
    rows = np.ascontiguousarray(sprites).reshape(len(sprites), -1)
    _, distinct, places = np.unique(rows.view(f"V{rows.shape[1]}")[:, 0], return_index=True, return_inverse=True)
    whole = all(np.isin(each[..., 3:], (0, 255)).all() for each in (train, sprites))
    flat, known, others = _flat(train, whole), *_as_indices(train, snapped)

    def nearest(chosen: Int[np.ndarray, "k"]) -> tuple[Int[np.ndarray, "k"], Float[np.ndarray, "k"]]:
        return fidelity.nearest(_flat(sprites[chosen], whole), flat)

    tasks: list[Callable[[], Any]] = [
        lambda: neighbours.nearest_sprites(others[distinct], known)[1],
        lambda: fidelity.nearest_other(flat),
        *(partial(nearest, chosen) for chosen in np.array_split(distinct, 2) if len(chosen)),
    ]
    differing, own, *parts = threads.each(lambda task: task(), tasks)
    indices, distances = (np.concatenate(part)[places] for part in zip(*parts, strict=True))
    return own, indices, distances, differing[places]


def _as_indices(
    first: UInt8[np.ndarray, "n h w c"], second: UInt8[np.ndarray, "m h w c"]
) -> tuple[UInt8[np.ndarray, "n h w _"], UInt8[np.ndarray, "m h w _"]]:
    """Indices of their common colours, which are faster to compare; the sprites themselves if these are over 256."""
    both = np.concatenate([first, second])
    palette = images.palette_of(both)
    if len(palette) > 256:
        return first, second
    indices = images.to_indices(both, palette)[..., None]
    return indices[: len(first)], indices[len(first) :]


def _halves(count: int, seed: int) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """The positions of two halves of `count` held-out sprites, of equal size, chosen by the seed."""
    order = np.random.default_rng(seed).permutation(count)
    return order[: count // 2 * 2 : 2], order[1::2]


def _some_training_sprites(run: OpenedRun, seed: int) -> UInt8[np.ndarray, "n h w c"]:
    """As many training sprites as there are held-out ones, or all, chosen by the seed."""
    assert run.dataset.sprites is not None
    chosen = np.random.default_rng(seed).permutation(run.train_indices)[: len(run.test_indices)]
    return run.dataset.sprites[np.sort(chosen)]


def _flat(sprites: UInt8[np.ndarray, "n h w c"], whole: bool) -> UInt8[np.ndarray, "n p"] | Float[np.ndarray, "n p"]:
    """Premultiplied colours as whole numbers, whose distances have no rounding errors: in units of 1 / 255^2 or, if all
    pixels are `whole`, opaque or transparent, in bytes."""
    if whole:
        premultiplied = np.where(sprites[..., 3:] == 0, 0, sprites) if sprites.shape[-1] == 4 else sprites
    else:
        premultiplied = np.rint(255**2 * transparency.premultiplied(sprites / 255.0))
    return premultiplied.reshape(len(sprites), -1)
