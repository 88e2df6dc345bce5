"""Checks of every request to the API: the client's credentials, the size and the form of the body."""

from __future__ import annotations

import errno
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from epaird.control.api.credentials import GROUP, Peer
from epaird.control.api.problems import of_status, problem

BODY_MAX: Final = 1 << 21
"""Bytes in a body. A pair with every setting takes a few hundred, and a file may have thousands of pairs."""

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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a problem document."""
        peer: Peer = scope["state"]["connection"].peer
        answer = None if self._allowed(peer) else _not_allowed(peer)
        if answer is None and scope["method"] not in _WITHOUT_BODY:
            answer = _check_headers(scope)
            if answer is None:
                try:
                    body = await _whole_body(receive)
                except ClientDisconnect:  # perhaps in the middle of the body: nothing is carried out
                    return
                answer = _too_large() if body is None else None
                receive = _replay(body or b"", receive)
        await (answer or self._app)(scope, receive, send)


def _not_allowed(peer: Peer) -> Response:
    detail = f"user {peer.uid} may not control epaird: only root and the members of group {GROUP} may"
    return problem(HTTPStatus.FORBIDDEN, errno.EPERM, detail, headers=_CLOSE)


def _too_large() -> Response:
    detail = f"the body is larger than {BODY_MAX} bytes"
    return of_status(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, _CLOSE)


def _check_headers(scope: Scope) -> Response | None:
    """Return a problem if the headers announce a body that is too large or not JSON; None otherwise."""
    headers = dict(scope["headers"])
    if int(headers.get(b"content-length", b"0")) > BODY_MAX:  # h11 has checked that it is a number
        return _too_large()
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind in _ACCEPTED_AS_JSON:
        others = [(name, text) for name, text in scope["headers"] if name != b"content-type"]
        scope["headers"] = [*others, (b"content-type", _JSON)]
    elif kind != _JSON:
        return of_status(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body is not application/json", _CLOSE)
    return None


async def _whole_body(receive: Receive) -> bytes | None:
    """Return the body; None if it is too large. Raises ClientDisconnect before it is complete."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > BODY_MAX:
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
