"""What every request to the API must pass first: whose it is, how much it says, and in what form."""

from __future__ import annotations

import errno
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from epaird.control.api.credentials import GROUP, Peer
from epaird.control.api.problems import of_status, problem

BODY_MAX: Final = 1 << 21
"""Bytes.  A pair with every setting there is takes a few hundred, and a file has thousands of them."""

_JSON: Final = b"application/json"
_TAKEN_FOR_JSON: Final = (b"", b"application/x-www-form-urlencoded")
"""curl -d says the second unless it is told otherwise."""

_WITHOUT_BODY: Final = ("GET", "HEAD", "OPTIONS")

_CLOSE: Final = {"connection": "close"}


class Guard:
    """ASGI middleware: lets pass who may control the daemon, and bodies of a bounded size that are JSON."""

    def __init__(self, app: ASGIApp, *, allowed: Callable[[Peer], bool]) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer with what is wrong with it."""
        peer: Peer = scope["state"]["connection"].peer
        answer = None if self._allowed(peer) else _not_allowed(peer)
        if answer is None and scope["method"] not in _WITHOUT_BODY:
            answer = _form(scope)
            if answer is None:
                body = await _whole_body(receive)
                answer = _too_large() if body is None else None
                receive = _again(body or b"", receive)
        await (answer or self._app)(scope, receive, send)


def _not_allowed(peer: Peer) -> Response:
    detail = f"user {peer.uid} may not control epaird: only root and the members of group {GROUP} may"
    return problem(HTTPStatus.FORBIDDEN, errno.EPERM, detail, headers=_CLOSE)


def _too_large() -> Response:
    detail = f"the body is larger than {BODY_MAX} bytes"
    return of_status(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, _CLOSE)


def _form(scope: Scope) -> Response | None:
    """See from its headers that a body is JSON and not too large, or tell what is wrong."""
    headers = dict(scope["headers"])
    if int(headers.get(b"content-length", b"0")) > BODY_MAX:  # h11 has seen that it is a number
        return _too_large()
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind in _TAKEN_FOR_JSON:
        others = [(name, text) for name, text in scope["headers"] if name != b"content-type"]
        scope["headers"] = [*others, (b"content-type", _JSON)]
    elif kind != _JSON:
        return of_status(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body is not application/json", _CLOSE)
    return None


async def _whole_body(receive: Receive) -> bytes | None:
    """The body; None when it is too large.  Empty when the client went away."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > BODY_MAX:
            return None
    return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the whole body first."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
