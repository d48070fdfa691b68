"""The server: routes, and what it refuses. Every error is one line of JSON."""

import asyncio
import ipaddress
import json
import mimetypes
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flax_punkvae.errors import UserError, is_out_of_memory
from flax_punkvae.page import explorer
from flax_punkvae.page.fields import Fields
from flax_punkvae.page.library import Library
from flax_punkvae.page.worker import Busy, Worker

_LARGEST_BODY = 2**20
_LARGEST_FILE = 2**23
# Jobs that may wait: answers that a person drags for, and searches that take seconds.
_QUICK, _SLOW = 256, 8
# Seconds between two looks at whether the browser still waits.
_LOOK = 0.2
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class NobodyWaits(Exception):
    """The browser has gone, or asked for something else."""


def application(library: Library, host: str, port: int) -> Starlette:
    """The ASGI application; it fills the library while it runs. `host` and `port` are what the server is bound to."""
    quick, slow = Worker("quick", _QUICK), Worker("slow", _SLOW)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        library.start()
        yield
        library.stop()

    def answer(function: Callable[[Library, Fields], Any]) -> Callable[[Request], Awaitable[Response]]:
        """A JSON answer to the fields of a request, at once."""

        async def endpoint(request: Request) -> Response:
            fields = await _fields(request, library)
            return JSONResponse(await quick.run(lambda: function(library, fields)))

        return endpoint

    def search(function: Callable[[Library, Fields, explorer.Heard], Any]) -> Callable[[Request], Awaitable[Response]]:
        """A JSON answer that takes longer; the work ends soon after the browser has gone."""

        async def endpoint(request: Request) -> Response:
            fields = await _fields(request, library)
            gone = threading.Event()

            def heard() -> None:
                if gone.is_set() or library.stopped.is_set():
                    raise NobodyWaits

            task = asyncio.ensure_future(slow.run(lambda: function(library, fields, heard)))
            while not (await asyncio.wait({task}, timeout=_LOOK))[0]:
                if await request.is_disconnected():
                    gone.set()
                    task.cancel()
                    raise NobodyWaits
            return JSONResponse(task.result())

        return endpoint

    def state(function: Callable[[Library], Any]) -> Callable[[Request], Response]:
        return lambda _: JSONResponse(function(library))

    def complete(library: Library, fields: Fields, heard: explorer.Heard) -> Any:
        heard()
        return explorer.complete(library, fields)

    async def picture(request: Request) -> Response:
        fields = await _fields(request, library)
        begun = time.perf_counter()
        pixels = await quick.run(lambda: explorer.picture(library, fields))
        timing = {"Server-Timing": f"decode;dur={(time.perf_counter() - begun) * 1000:.2f}"}
        size = {"X-Size": f"{pixels.shape[1]}x{pixels.shape[0]}"}
        return Response(pixels.tobytes(), media_type="application/octet-stream", headers={**timing, **size})

    async def png(request: Request) -> Response:
        fields = await _fields(request, library)
        return Response(await quick.run(lambda: explorer.png(library, fields)), media_type="image/png")

    async def strip_file(request: Request) -> Response:
        fields = await _fields(request, library)
        content, kind = await slow.run(lambda: explorer.strip_file(library, fields))
        return Response(content, media_type=kind)

    async def opened(request: Request) -> Response:
        file = await _body(request, _LARGEST_FILE)
        library.last_request = time.monotonic()
        return JSONResponse(await slow.run(lambda: explorer.opened(library, file)))

    def positions(request: Request) -> Response:
        found = library.map if request.path_params["layout"] == "pca" else library.tsne
        if request.path_params["layout"] not in ("pca", "tsne") or found is None:
            raise HTTPException(404, "this layout is not ready")
        return Response(found.positions.astype("<f4").tobytes(), media_type="application/octet-stream")

    def atlas(request: Request) -> Response:
        pages, page = library.map.atlas.pages if library.map else [], request.path_params["page"]
        if page >= len(pages):
            raise HTTPException(404, "there is no such page of the atlas")
        return Response(pages[page], media_type="image/png")

    static = _static_files()

    def page(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in static:
            raise HTTPException(404, "there is no such page")
        content, kind = static[name]
        return Response(content, media_type=kind)

    quick_answers = ("certificate", "nudge", "edit", "mix", "strip", "of_image", "project", "place")
    routes = [
        Route("/", page),
        Route("/static/{name}", page),
        Route("/api/model", state(explorer.about)),
        Route("/api/progress", state(explorer.progress)),
        Route("/api/latents", state(explorer.describe_latents)),
        Route("/api/map", state(explorer.describe_map)),
        Route("/api/map/{layout}", positions),
        Route("/api/edits", state(explorer.describe_edits)),
        Route("/api/atlas/{page:int}", atlas),
        Route("/api/picture", picture, methods=["POST"]),
        Route("/api/png", png, methods=["POST"]),
        Route("/api/strip_file", strip_file, methods=["POST"]),
        Route("/api/open", opened, methods=["POST"]),
        Route("/api/sample", search(explorer.sample), methods=["POST"]),
        Route("/api/complete", search(complete), methods=["POST"]),
        *(Route(f"/api/{name}", answer(getattr(explorer, name)), methods=["POST"]) for name in quick_answers),
    ]
    handlers: Any = {
        UserError: _wrong,
        HTTPException: _http_error,
        Busy: _busy,
        NobodyWaits: _gone,
        ClientDisconnect: _gone,
        Exception: _failed,
    }
    guard = Middleware(_Guard, host=host, port=port)
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers, middleware=[guard])


class _Guard:
    """Refuses requests that other sites make in the person's browser, and sets the headers of every response.

    The Host must be this machine's own name or, for an address that the person chose, that name or any number: so a
    name of another site that resolves to this machine (DNS rebinding) is refused. The Origin, if any, must be the Host.
    """

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        self._app, self._port = app, port
        self._names = {*_LOOPBACK, host}
        self._any_number = host not in _LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message["headers"], *ours]
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refused(headers)
        if refused:
            await _error(403, refused)(scope, receive, with_headers)
        else:
            await self._app(scope, receive, with_headers)

    def _refused(self, headers: dict[str, str]) -> str:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_ours(host):
            return "this address is not the server's own: open the address that it printed"
        if origin is not None and origin != f"http://{host}":
            return "requests from other sites are refused"
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return "requests from other sites are refused"
        return ""

    def _is_ours(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name, port = parts.hostname or "", parts.port or 80
        except ValueError:
            return False
        if port != self._port or parts.username is not None:
            return False
        name = f"[{name}]" if ":" in name else name
        return name in self._names or (self._any_number and _is_number(name))


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


async def _fields(request: Request, library: Library) -> Fields:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "expected a body of type application/json")
    body = await _body(request, _LARGEST_BODY)
    library.last_request = time.monotonic()
    return Fields(body, library.model.description)


async def _body(request: Request, most: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise HTTPException(413, f"the body is too large: send at most {most} bytes")
        parts.append(part)
    return b"".join(parts)


def _static_files() -> dict[str, tuple[bytes, str]]:
    """All files of the page by name, with their media types: read once, so that no request names a path."""
    folder = resources.files("flax_punkvae.page") / "static"
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    mimetypes.add_type("text/javascript", ".js")
    return {name: (content, mimetypes.guess_type(name)[0] or "text/plain") for name, content in files.items()}


def _error(status: int, text: str) -> Response:
    return Response(json.dumps({"error": text}), status, media_type="application/json")


def _wrong(_: Request, error: UserError) -> Response:
    return _error(400, str(error))


def _http_error(_: Request, error: HTTPException) -> Response:
    return _error(error.status_code, error.detail)


def _busy(_: Request, error: Busy) -> Response:
    return _error(503, "too many requests are waiting: try again in a moment")


def _gone(_: Request, error: Exception) -> Response:
    return _error(499, "cancelled")


def _failed(_: Request, error: Exception) -> Response:
    if is_out_of_memory(error):
        return _error(503, "out of memory: ask for less at once")
    return _error(500, f"the server failed ({type(error).__name__}): restart it, or report this")
