"""Completions of a sprite, on an encoder and a decoder whose every step is known."""

import numpy as np

from flax_punkvae.trained import completion

RNG = np.random.default_rng(0)
SPRITE, *STARTS = RNG.integers(0, 100, (4, 2, 3, 3), np.uint8)
KNOWN = np.array([[True, False, True], [False, False, True]])


def test_known_pixels_are_held_at_every_step_and_the_noise_has_the_posteriors_scale():
    """Oracle: by hand. The encoder's mean is the first unknown pixel's red, its deviation 3; the decoder fills sprites
    with the latent, so that noises add up, three times over."""
    seen: list[np.ndarray] = []

    def encode(sprites: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(sprites)
        mean = sprites[:, 0, 1, :1].astype(np.float32)
        return mean, np.full_like(mean, 2 * np.log(3))

    def decode(z: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.round(z).astype(np.uint8)[:, None, None], (len(z), 2, 3, 3))

    noise = [np.array([[1], [0], [-2]], np.float32), np.array([[4], [1], [0]], np.float32)]
    starts = np.stack(STARTS)
    starts[:, 0, 1, 0] = 50
    found = completion.complete(encode, decode, SPRITE, KNOWN, starts, iter(noise))
    np.testing.assert_array_equal(found[:, ~KNOWN], np.broadcast_to([[[65]], [[53]], [[44]]], (3, 3, 3)))
    assert len(seen) == 3
    np.testing.assert_array_equal(seen[0][:, ~KNOWN], starts[:, ~KNOWN])
    for sprites in [*seen, found]:
        np.testing.assert_array_equal(sprites[:, KNOWN], np.broadcast_to(SPRITE[KNOWN], (3, 3, 3)))
