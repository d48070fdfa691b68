"""Streams that a program prints on."""

import io


class Gone(io.StringIO):
    """A standard output that nobody reads any more."""

    def write(self, text: str) -> int:
        raise BrokenPipeError
