"""Checks of every request to the API: the client's credentials, the size and the form of the body."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from epaird.config.bounds import JSON, MAX_BYTES, excess
from epaird.control.api.credentials import GROUP, Peer
from epaird.control.api.problems import of_status, problem

BODY_MAX: Final = 1 << 18
"""Bytes in a body. A pair with every setting takes a few hundred, each address some twenty."""
PLAN: Final = "/v1/plan"
"""Path of the request whose body contains a configuration."""
PLAN_MAX: Final = 2 * MAX_BYTES
"""Bytes in its body: JSON has two characters for each quote and line end of the configuration."""
PLANS_MAX: Final = 4
"""Such requests at a time, so that their bodies and plans take a bounded amount of memory."""

_JSON: Final = b"application/json"
_ACCEPTED_AS_JSON: Final = (b"", b"application/x-www-form-urlencoded")
"""curl -d sends the second by default."""

_WITHOUT_BODY: Final = ("GET", "HEAD", "OPTIONS")

_CLOSE: Final = {"connection": "close"}


class Guard:
    """ASGI middleware that passes requests of allowed clients, with bodies of bounded size that are JSON."""

    def __init__(self, app: ASGIApp, *, allowed: Callable[[Peer], bool]) -> None:
        self._app = app
        self._allowed = allowed
        self._plans = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a problem document."""
        peer: Peer = scope["state"]["connection"].peer
        if not self._allowed(peer):
            await _not_allowed(peer)(scope, receive, send)
        elif scope["method"] in _WITHOUT_BODY:
            await self._app(scope, receive, send)
        elif scope["path"] != PLAN:
            await self._pass(scope, receive, send, BODY_MAX)
        elif self._plans >= PLANS_MAX:
            await _too_many()(scope, receive, send)
        else:
            self._plans += 1
            try:
                await self._pass(scope, receive, send, PLAN_MAX)
            finally:
                self._plans -= 1

    async def _pass(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        """Pass a request on if its body is JSON and has at most ``limit`` bytes."""
        answer = _check_headers(scope, limit)
        if answer is None:
            try:
                body = await _whole_body(receive, limit)
            except ClientDisconnect:  # perhaps in the middle of the body: nothing is carried out
                return
            answer = _too_large(limit) if body is None else _check_body(body)
            receive = _replay(body or b"", receive)
        await (answer or self._app)(scope, receive, send)


def _not_allowed(peer: Peer) -> Response:
    detail = f"user {peer.uid} may not control epaird: only root and the members of group {GROUP} may"
    return problem(HTTPStatus.FORBIDDEN, errno.EPERM, detail, headers=_CLOSE)


def _too_many() -> Response:
    detail = f"{PLANS_MAX} plans are being made already, more are not allowed"
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, errno.EAGAIN, detail, headers=_CLOSE)


def _too_large(limit: int) -> Response:
    detail = f"the body is larger than {limit} bytes"
    return of_status(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, _CLOSE)


def _check_headers(scope: Scope, limit: int) -> Response | None:
    """Return a problem if the headers announce a body that is too large or not JSON; None otherwise."""
    headers = dict(scope["headers"])
    if int(headers.get(b"content-length", b"0")) > limit:  # h11 has checked that it is a number
        return _too_large(limit)
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind in _ACCEPTED_AS_JSON:
        others = [(name, text) for name, text in scope["headers"] if name != b"content-type"]
        scope["headers"] = [*others, (b"content-type", _JSON)]
    elif kind != _JSON:
        return of_status(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body is not application/json", _CLOSE)
    return None


def _check_body(body: bytes) -> Response | None:
    """Return a problem if the body is not in UTF-8, or takes too much time and memory to parse."""
    if not json.detect_encoding(body).startswith("utf-8"):
        return of_status(HTTPStatus.BAD_REQUEST, "the body is not JSON in UTF-8")
    # Each byte as a character: those of the syntax are ASCII, whatever else there is.
    found = excess(body.decode("latin-1"), JSON)
    if found is None:
        return None
    return of_status(HTTPStatus.BAD_REQUEST, f"the body, line {found.line}: {found.message}")


async def _whole_body(receive: Receive, limit: int) -> bytes | None:
    """Return the body; None if it is too large. Raises ClientDisconnect before it is complete."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit:
            return None
    return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that returns the whole body first."""
    replayed = False

    async def replay() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
