"""The system's Chromium, for tests that click and type."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import pytest
from playwright.sync_api import Browser, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Of each file of such tests.
MARKS = [
    pytest.mark.skipif(CHROMIUM is None, reason="no browser: apt install chromium"),
    pytest.mark.skipif(jax.__version__ == "0.5.0", reason="the browser is tested in the lane with the newest jax"),
]


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
