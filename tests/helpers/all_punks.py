"""The CryptoPunks, read once for all tests of a process."""

import functools

from flax_punkvae.data import punks
from flax_punkvae.data.raw import Raw


@functools.cache
def load() -> Raw:
    """What `punks.load` returns, which takes most of a second; its arrays are read-only."""
    raw = punks.load()
    for array in (raw.pixels, raw.ids, raw.labels):
        array.setflags(write=False)
    return raw
