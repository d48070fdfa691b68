"""The sets of samples, against the model's own methods, each of which starts from the first draw."""

from dataclasses import replace

import numpy as np
import pytest

from flax_punkvae.trained import sample_sets
from flax_punkvae.trained.model import Model
from flax_punkvae.trained.selection import Wanted, joined
from flax_punkvae.training.description import digests
from helpers.descriptions import DESCRIPTION

GREY = np.repeat(np.arange(0, 256, 15, dtype=np.uint8)[:, None], 3, axis=1)


class Shades(Model):
    """A model of sprites of one pixel: the latent says how bright, and encoding darkens what is bright."""

    def decode(self, z, seeds=None):
        shade = np.clip(np.round(8 + 3 * z[:, :1] + (0 if seeds is None else seeds[:, None] % 2)), 0, 17)
        return GREY[shade.astype(int)][:, None]

    def encode(self, images):
        shade = images[:, 0, :, 0].astype(np.float32) / 15
        return (np.minimum(shade, 12) - 8) / 3, np.zeros_like(shade)

    def _from_prior(self, noise, uniform):
        return noise


def model(known: tuple[int, ...]) -> Shades:
    """A model that was trained on the shades of these numbers."""
    seen = digests(GREY[np.array(known)][:, None, None])
    config = replace(DESCRIPTION.model, latent=1)
    described = replace(
        DESCRIPTION,
        model=config,
        image_shape=(1, 1, 3),
        render="sprite",
        palette=GREY,
        train_indices=np.arange(len(seen)),
        train_digests=seen,
    )
    return Shades(described, None, "last")


@pytest.mark.parametrize(("count", "known"), [(6, (8,)), (6, (7, 8, 9, 10)), (300, (8,)), (1, (17,))])
def test_each_draw_serves_all_sets(count: int, known: tuple[int, ...]):
    """Oracle: `draw`, `reencode` and `select`, and for new samples a set of those seen."""
    made = model(known)
    found = sample_sets._draw_from_prior(made, count, 3)
    draws = joined(made.draw("prior", count, 3, reencode=0))
    np.testing.assert_array_equal(found.pop("prior"), made.decode(*draws))
    np.testing.assert_array_equal(found.pop("prior, re-encoded"), made.decode(*made.reencode(draws, 1)))
    for row, times in (("prior", 0), ("prior, re-encoded", 1)):
        new = made.select(Wanted(new=True, limit=4 * count), "prior", count, 3, reencode=times).draws
        drawn = made.reencode(draws, times)
        if len(new.latents) == count and not np.array_equal(new.latents, drawn.latents):
            np.testing.assert_array_equal(found.pop(f"{row}, new only"), made.decode(*new))
    assert not found


def test_new_samples_are_found_where_there_are_some():
    """Oracle: by hand: none is known or a duplicate; a model with too few shades has no such set."""
    rows = sample_sets._draw_from_prior(model((8,)), 6, 3)
    new = rows["prior, new only"][:, 0, 0, 0]
    assert len(set(new.tolist())) == 6 and 8 * 15 not in new
    assert "prior, new only" not in sample_sets._draw_from_prior(model((8,)), 300, 3)
