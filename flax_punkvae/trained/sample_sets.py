"""The sets of samples that `evaluate` measures."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from flax_punkvae import images as im
from flax_punkvae.devices import threads
from flax_punkvae.trained import selection
from flax_punkvae.trained.evaluation import Posteriors
from flax_punkvae.trained.model import Model
from flax_punkvae.trained.runs import OpenedRun
from flax_punkvae.trained.samplers import SAMPLERS, Draws, SamplerName
from flax_punkvae.trained.selection import Wanted, joined


def draw(run: OpenedRun, posteriors: Posteriors, seed: int) -> dict[str, UInt8[np.ndarray, "n h w c"]]:
    """Sprites sampled with each sampler, as many as there are held-out images.

    The samples from the prior are also re-encoded, as often as by default but at least once. If the prior samples
    training sprites or duplicates, there are two further rows of samples from it that are new and distinct, as the
    held-out sprites are: as drawn, and re-encoded.
    """
    count, model = len(run.test_indices), run.model

    def drawn(how: SamplerName) -> dict[str, UInt8[np.ndarray, "n h w c"]]:
        if how == "prior":
            return _draw_from_prior(model, count, seed)
        draws = joined(model.draw(how, count, seed, posteriors=lambda: posteriors.train, reencode=0))
        return {how: model.decode_sprites(*draws)}

    found = {row: content for rows in threads.each(drawn, SAMPLERS) for row, content in rows.items()}
    first = {row: found.pop(row) for row in (*SAMPLERS, "prior, re-encoded")}
    return first | found


def _draw_from_prior(model: Model, count: int, seed: int) -> dict[str, UInt8[np.ndarray, "n h w c"]]:
    """The rows of `draw` that are sampled from the prior. Each draw is decoded once for all of them."""
    times = max(model.default_reencode, 1)
    rows = {"prior": 0, "prior, re-encoded": times}
    kept = {row: selection.keep(Wanted(new=True), model.description) for row in rows}
    drawn: dict[str, list[np.ndarray]] = {row: [] for row in rows}
    new: dict[str, list[np.ndarray]] = {row: [] for row in rows}
    for draws in model.draw("prior", 4 * count, seed, reencode=0):
        passes = list(_reencoded(model, draws, times))
        for row, number in rows.items():
            drawn[row].append(passes[number])
            new[row].append(passes[number][kept[row](model.to_sprites(passes[number]))])
        if all(sum(map(len, parts)) >= count for parts in (*drawn.values(), *new.values())):
            break
    found = {row: np.concatenate(parts)[:count] for row, parts in drawn.items()}
    for row in rows:
        chosen = np.concatenate(new[row])[:count]
        if len(chosen) == count and not np.array_equal(chosen, found[row]):
            found[f"{row}, new only"] = chosen
    return found


def _reencoded(model: Model, draws: Draws, times: int) -> Iterator[UInt8[np.ndarray, "n h w c"]]:
    """The sprites of draws: as drawn, and after each of `times` times that they are encoded and decoded again."""
    for number in range(times + 1):
        images = model.decode(*draws)
        yield im.read_sprites(images, model.description.render)
        if number < times:
            draws = draws._replace(latents=model.encode(images)[0])
