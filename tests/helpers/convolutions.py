"""Convolutions by their equations, term by term."""

import numpy as np


def convolution(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The equation, term by term, in float64."""
    b, h, w, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    out = np.zeros((b, h, w, kernel.shape[-1]))
    for ky in range(3):
        for kx in range(3):
            out += padded[:, ky : ky + h, kx : kx + w] @ kernel[ky, kx]
    return out


def transposed_convolution(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The equation, term by term, in float64: what falls outside the image is dropped."""
    b, h, w, _ = x.shape
    out = np.zeros((b, 2 * h + 2, 2 * w + 2, kernel.shape[-1]))
    for ky in range(3):
        for kx in range(3):
            out[:, ky : ky + 2 * h : 2, kx : kx + 2 * w : 2] += x @ kernel[ky, kx]
    return out[:, 1 : 1 + 2 * h, 1 : 1 + 2 * w]
