"""The contact sheet: every pixel of the sprites at a whole scale, below its caption."""

import io

import numpy as np
import pytest
from PIL import Image

from flax_punkvae import data
from flax_punkvae.config import DataConfig
from flax_punkvae.data import contact_sheet
from flax_punkvae.data.split import spread


@pytest.mark.parametrize(("side", "scale"), [(8, 8), (16, 4), (24, 3), (32, 2), (64, 1), (128, 1), (700, 1)])
def test_sprites_are_at_their_place_at_a_whole_scale(side: int, scale: int):
    sprites = np.random.default_rng(side).integers(0, 256, (3, side, side, 3), np.uint8)
    sheet = contact_sheet.draw([contact_sheet.Panel("three", sprites)])
    # Oracle: the first sprite, each pixel a block, below a caption of 24 pixels and a gap of 6, after a gap of 6.
    block = sheet[30 : 30 + scale * side, 6 : 6 + scale * side]
    np.testing.assert_array_equal(block, np.kron(sprites[0], np.ones((scale, scale, 1), np.uint8)))
    caption = sheet[:24, :100]
    assert (caption == 0).any() and (caption == 255).all((1, 2)).any()


def test_panels_follow_one_another():
    sprites = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)
    one, two = (contact_sheet.draw([contact_sheet.Panel(name, sprites)]) for name in ("before", "after"))
    both = contact_sheet.draw([contact_sheet.Panel("before", sprites), contact_sheet.Panel("after", sprites)])
    np.testing.assert_array_equal(both, np.concatenate([one, two]))
    assert (one != two).any()


def test_transparent_pixels_show_a_checkerboard():
    rgba = np.zeros((1, 16, 16, 4), np.uint8)
    rgba[0, 0, 0] = (255, 0, 0, 255)
    rgba[0, 0, 1] = (255, 0, 0, 128)
    seen = contact_sheet.over_checkerboard(rgba)[0]
    assert seen[0, 0].tolist() == [255, 0, 0]
    # Oracle: compositing by hand.
    assert seen[0, 1].tolist() == [round((128 * red + 127 * 232) / 255) for red in (255, 0, 0)]
    assert {tuple(pixel) for pixel in seen[4:].reshape(-1, 3).tolist()} == {(232,) * 3, (204,) * 3}
    assert seen[0, 7, 0] != seen[0, 8, 0] != seen[8, 8, 0]


def test_the_panels_are_the_parts_of_the_split():
    config = DataConfig(source="synthetic", synthetic_count=600, render="indices", validation_fraction=0.1)
    dataset = data.load(config)
    parts = dataset.parts(config)
    panels = contact_sheet.panels(dataset, parts)
    assert [panel.title for panel in panels] == [
        "training: 140 of 432",
        "validation: 20 of 48",
        "held out for testing: 40 of 120",
    ]
    assert dataset.sprites is not None
    for panel, part in zip(panels, parts, strict=True):
        # Spread evenly: the first and the last, and gaps that differ by one.
        np.testing.assert_array_equal(panel.sprites[[0, -1]], dataset.sprites[part[[0, -1]]])
        gaps = np.diff(np.searchsorted(part, spread(part, len(panel.sprites))))
        assert gaps.max() - gaps.min() <= 1
    with Image.open(io.BytesIO(contact_sheet.png(dataset, parts))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), contact_sheet.draw(panels))
    assert len(contact_sheet.panels(dataset, dataset.parts(DataConfig()))) == 2
