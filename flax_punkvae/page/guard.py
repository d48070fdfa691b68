"""What keeps other sites out: checks of each request, and headers of each response."""

import ipaddress
import json
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
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


class Guard:
    """Middleware that refuses requests which another site makes in the person's browser.

    The Host must be this machine's own name or, with an address that the person chose, that name or any number: so a
    name of another site that resolves to this machine (DNS rebinding) is refused. The Origin, if any, must be the Host.
    """

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        self._app, self._port = app, port
        self._names = {*LOOPBACK, host}
        self._any_number = host not in LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
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
        await (error(403, refused) if refused else self._app)(scope, receive, with_headers)

    def _refused(self, headers: dict[str, str]) -> str:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_ours(host):
            return "this address is not the server's own: open the address that it printed"
        same_site = headers.get("sec-fetch-site", "none") in ("same-origin", "none")
        if not same_site or origin not in (None, f"http://{host}"):
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


def error(status: int, text: str) -> Response:
    """The response of every error: one line in JSON."""
    return Response(json.dumps({"error": text}), status, media_type="application/json")


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
