"""The server: which address gives what, in which thread, and what an error looks like."""

import asyncio
import mimetypes
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flax_punkvae.errors import UserError, is_out_of_memory
from flax_punkvae.page import explorer, facts
from flax_punkvae.page.explorer import Heard
from flax_punkvae.page.fields import Fields
from flax_punkvae.page.guard import Guard, error
from flax_punkvae.page.library import Library
from flax_punkvae.page.worker import Busy, Worker

_LARGEST_BODY = 2**20
_LARGEST_FILE = 2**23
# Jobs that may wait: answers that a person drags for, and searches that take seconds.
_QUICK, _SLOW = 256, 8
# Seconds between two looks at whether the browser still waits.
_LOOK = 0.2

Endpoint = Callable[[Request], Awaitable[Response]]


class NobodyWaits(Exception):
    """The browser has gone, or asked for something else."""


def application(library: Library, host: str, port: int) -> Starlette:
    """The ASGI application; it fills the library while it runs. `host` and `port` are what the server is bound to."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        library.start()
        yield
        library.stop()

    handlers: Any = {
        UserError: lambda _, wrong: error(400, str(wrong)),
        HTTPException: lambda _, wrong: error(wrong.status_code, wrong.detail),
        Busy: lambda *_: error(503, "too many requests are waiting: try again in a moment"),
        NobodyWaits: lambda *_: error(499, "cancelled"),
        ClientDisconnect: lambda *_: error(499, "cancelled"),
        Exception: _failed,
    }
    guard = Middleware(Guard, host=host, port=port)
    return Starlette(routes=_routes(library), lifespan=lifespan, exception_handlers=handlers, middleware=[guard])


def _routes(library: Library) -> list[Route]:
    served, static = _Served(library), _static_files()

    def file(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in static:
            raise HTTPException(404, "there is no such page")
        content, kind = static[name]
        return Response(content, media_type=kind)

    told = {"model": facts.about, "progress": facts.progress, "latents": facts.latents, "map": facts.the_map}
    told["edits"] = facts.edits
    answers = ("certificate", "nudge", "edit", "mix", "strip", "of_image", "project", "place")
    posted = {
        **{name: served.answer(getattr(explorer, name)) for name in answers},
        "sample": served.search(explorer.sample),
        "complete": served.search(explorer.complete),
        "picture": served.picture,
        "png": served.png,
        "strip_file": served.strip_file,
        "open": served.opened,
    }
    return [
        Route("/", file),
        Route("/static/{name}", file),
        *(Route(f"/api/{name}", served.tell(about)) for name, about in told.items()),
        Route("/api/map/{layout}", served.positions),
        Route("/api/atlas/{page:int}", served.atlas),
        *(Route(f"/api/{name}", endpoint, methods=["POST"]) for name, endpoint in posted.items()),
    ]


class _Served:
    """The endpoints. Answers are computed in one thread, one after another, and searches in another one."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._quick, self._slow = Worker("quick", _QUICK), Worker("slow", _SLOW)

    def tell(self, about: Callable[[Library], Any]) -> Endpoint:
        """A JSON answer that needs no computing."""

        async def endpoint(_: Request) -> Response:
            return JSONResponse(about(self._library))

        return endpoint

    def answer(self, function: Callable[[Library, Fields], Any]) -> Endpoint:
        """A JSON answer to the fields of a request, at once."""

        async def endpoint(request: Request) -> Response:
            fields = await self._fields(request)
            return JSONResponse(await self._quick.run(lambda: function(self._library, fields)))

        return endpoint

    def search(self, function: Callable[[Library, Fields, Heard], Any]) -> Endpoint:
        """A JSON answer that takes longer; the work ends soon after the browser has gone."""

        async def endpoint(request: Request) -> Response:
            fields = await self._fields(request)
            gone = threading.Event()

            def heard() -> None:
                if gone.is_set() or self._library.is_stopped:
                    raise NobodyWaits

            task = asyncio.ensure_future(self._slow.run(lambda: function(self._library, fields, heard)))
            while not (await asyncio.wait({task}, timeout=_LOOK))[0]:
                if await request.is_disconnected():
                    gone.set()
                    task.cancel()
                    raise NobodyWaits
            return JSONResponse(task.result())

        return endpoint

    async def picture(self, request: Request) -> Response:
        """The pixels of a picture, RGB or RGBA row by row."""
        fields = await self._fields(request)
        begun = time.perf_counter()
        pixels = await self._quick.run(lambda: explorer.picture(self._library, fields))
        headers = {
            "Server-Timing": f"decode;dur={(time.perf_counter() - begun) * 1000:.2f}",
            "X-Size": f"{pixels.shape[1]}x{pixels.shape[0]}",
        }
        return Response(pixels.tobytes(), media_type="application/octet-stream", headers=headers)

    async def png(self, request: Request) -> Response:
        """A PNG file."""
        fields = await self._fields(request)
        return Response(await self._quick.run(lambda: explorer.png(self._library, fields)), media_type="image/png")

    async def strip_file(self, request: Request) -> Response:
        """A GIF or a PNG file."""
        fields = await self._fields(request)
        content, kind = await self._slow.run(lambda: explorer.strip_file(self._library, fields))
        return Response(content, media_type=kind)

    async def opened(self, request: Request) -> Response:
        """The recipe of a file that was dropped on the page."""
        file = await _body(request, _LARGEST_FILE)
        self._library.last_request = time.monotonic()
        return JSONResponse(await self._slow.run(lambda: explorer.opened(self._library, file)))

    async def positions(self, request: Request) -> Response:
        """A layout of the map: float32 x and y of each image."""
        layouts = {"pca": self._library.map, "tsne": self._library.tsne}
        found = layouts.get(request.path_params["layout"])
        if found is None:
            raise HTTPException(404, "this layout is not ready")
        return Response(found.positions.astype("<f4").tobytes(), media_type="application/octet-stream")

    async def atlas(self, request: Request) -> Response:
        """A page of the atlas."""
        pages = self._library.map.atlas.pages if self._library.map else []
        if request.path_params["page"] >= len(pages):
            raise HTTPException(404, "there is no such page of the atlas")
        return Response(pages[request.path_params["page"]], media_type="image/png")

    async def _fields(self, request: Request) -> Fields:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "expected a body of type application/json")
        body = await _body(request, _LARGEST_BODY)
        self._library.last_request = time.monotonic()
        return Fields(body, self._library.model.description)


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
    mimetypes.add_type("text/javascript", ".js")
    folder = resources.files("flax_punkvae.page") / "static"
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    return {name: (content, mimetypes.guess_type(name)[0] or "text/plain") for name, content in files.items()}


def _failed(_: Request, failure: Exception) -> Response:
    if is_out_of_memory(failure):
        return error(503, "out of memory: ask for less at once")
    return error(500, f"the server failed ({type(failure).__name__}): restart it, or report this")
