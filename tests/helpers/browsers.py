"""The system's Chromium, for tests that click and type."""

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Of each file of such tests.
MARKS = [
    pytest.mark.skipif(CHROMIUM is None, reason="no browser: apt install chromium"),
    pytest.mark.skipif(jax.__version__ == "0.5.0", reason="the browser is tested in the lane with the newest jax"),
]
# As text: Playwright takes seconds of each process for the levels of a large canvas as a list of numbers.
_PIXELS = """c => {
    const levels = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, parts = [];
    for (let i = 0; i < levels.length; i += 32768)
        parts.push(String.fromCharCode(...levels.subarray(i, i + 32768)));
    return [c.width, c.height, btoa(parts.join(''))];
}"""


def pixels(canvas: Locator) -> np.ndarray:
    """The pixels of a canvas, uint8 [h, w, 4], RGBA."""
    width, height, levels = canvas.evaluate(_PIXELS)
    return np.frombuffer(base64.b64decode(levels), np.uint8).reshape(height, width, 4)


@contextmanager
def launched() -> Iterator[Browser]:
    """The browser, until the end of the context."""
    # The first answers wait for the compiler.
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        # Chromium's sandbox needs privileges that a container lacks.
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()
