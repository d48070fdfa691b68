"""Servers of the page in threads: ours, and one of plain files."""

import functools
import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from flax_punkvae.page import server
from flax_punkvae.page.library import Library


class Served:
    """The page's own server in a thread."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self._listening = socket.create_server(("127.0.0.1", 0))
        port = self._listening.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}/"
        app = server.application(library, "127.0.0.1", port)
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, args=([self._listening],), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._listening.close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """A web server that knows nothing of the page, and does not log."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def files(folder: Path) -> Iterator[str]:
    """The address of a web server of the folder, until the end of the context."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as opened:
        threading.Thread(target=opened.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{opened.server_port}"
        opened.shutdown()
