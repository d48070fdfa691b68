"""Explore a trained model in the browser: `python -m flax_punkvae.experiments.page RUN_DIR`."""

import contextlib
import os
import signal
import socket
import threading
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from flax_punkvae import console
from flax_punkvae.errors import UserError, run_program
from flax_punkvae.flags import parse
from flax_punkvae.opening import Opening

PROG = "python -m flax_punkvae.experiments.page"
_PORT = 8128
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Options(Opening):
    """Explore a trained model in the browser: a map of its images, sliders, edits, mixtures, a pixel editor and a
    gallery. Starts a server on this machine; stop it with Ctrl-C. Nothing is written to the run directory."""

    run_dir: tyro.conf.Positional[Path]
    """Run directory, published folder or hub:OWNER/NAME[@REVISION]."""
    port: int | None = None
    """Port of the server; 0 is any free one. The default is 8128 or, if that is in use, any free one."""
    host: str = "127.0.0.1"
    """Address to listen on. The default can be reached from this machine only."""
    open: bool = True
    """Open the page in the browser."""


def main(arguments: Sequence[str]) -> int:
    """Serve the page until Ctrl-C; the exit status is 0."""
    options = parse(Options, arguments, None, PROG)
    if options.port is not None and not 0 <= options.port < 2**16:
        raise UserError(f"--port: {options.port} is out of range: choose a number from 0 to {2**16 - 1}")
    try:
        import uvicorn

        from flax_punkvae.page import server
    except ImportError as error:
        raise UserError(f"the page needs {error.name}: pip install '.[page]'") from error

    from flax_punkvae.devices import backend
    from flax_punkvae.page.cache import Cache
    from flax_punkvae.page.library import Library
    from flax_punkvae.trained import hub_models, runs

    backend.prepare("auto")
    given = options.run_dir
    options = replace(options, run_dir=hub_models.local(given))
    model = runs.open_model(options.run_dir, options)
    for line in model.notes:
        console.say(line)
    with _listening(options) as listening:
        port = listening.getsockname()[1]
        shown = f"[{options.host}]" if ":" in options.host else options.host
        address = f"http://{shown}:{port}/"
        library = Library(model, given, options.run_dir, options.data, Cache(backend.own_cache("page")))
        settings = uvicorn.Config(
            server.application(library, shown, port), log_level="error", timeout_graceful_shutdown=1, ws="none"
        )
        console.say(f"{given} is at {address} (stop with Ctrl-C)")
        if options.host not in _LOOPBACK:
            console.say(f"--host {options.host}: anybody who can reach this machine on port {port} can use the model")
        if options.open:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        # uvicorn passes the signal on when it has stopped.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(settings).run([listening])
    library.stop()
    console.say("stopped")
    # At once: a job that nobody waits for any more would hold up an ordinary exit.
    os._exit(0)


def _listening(options: Options) -> socket.socket:
    """A socket that listens on the host and port. Raises UserError if there is none."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    if options.port is None:
        with contextlib.suppress(OSError):
            return socket.create_server((options.host, _PORT), family=family)
    try:
        return socket.create_server((options.host, options.port or 0), family=family)
    except (OSError, UnicodeError) as error:
        advice = "choose another --port" if options.host in _LOOPBACK else "choose another --port or --host"
        raise UserError(f"cannot listen on {options.host}:{options.port or _PORT} ({error}): {advice}") from error


if __name__ == "__main__":
    run_program(main)
