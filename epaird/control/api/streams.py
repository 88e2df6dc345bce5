"""Events as an answer without an end: a line of JSON each, or server-sent events if the client requests them.

A reader that is slower than the events loses some in the bus. Here only the event that is being sent is
kept, so that a reader costs no more than the buffers of its socket.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable
from typing import Final

from pydantic import TypeAdapter
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from epaird.client.events import Event
from epaird.control.http.negotiation import media_types
from epaird.control.operations import Events, Refused

NDJSON: Final = "application/x-ndjson"
SERVER_SENT: Final = "text/event-stream"

STREAMS_MAX: Final = 64
"""Clients that may follow the events: each holds a file descriptor while it is connected."""
OF_OTHERS_MAX: Final = 48
"""Of these, clients that are not root."""

_EVENT: Final = TypeAdapter(Event)


class Streams:
    """The streams that are open."""

    def __init__(self, subscribe: Callable[[], Events]) -> None:
        """``subscribe`` returns events from now on."""
        self._subscribe = subscribe
        self._open: set[Events] = set()
        self._closed = False

    def response(self, accept: str, *, root: bool = True) -> StreamingResponse:
        """Return a response with the events from now on, in the form that the Accept header asks for.

        ``root`` is True for a client that is root, for which some streams are kept. Raises Refused: EAGAIN if
        there are too many streams, ESHUTDOWN once closed."""
        if self._closed:
            raise Refused(errno.ESHUTDOWN, "the daemon is stopping")
        if (open_now := len(self._open)) >= (STREAMS_MAX if root else OF_OTHERS_MAX):
            raise Refused(errno.EAGAIN, f"{open_now} clients follow the events already, more are not allowed")
        if media_types(accept, (NDJSON, SERVER_SENT))[:1] == (SERVER_SENT,):
            return _Stream(self._open, self._subscribe(), _server_sent, SERVER_SENT)
        return _Stream(self._open, self._subscribe(), _line, NDJSON)

    async def close(self) -> None:
        """End every stream and open no more."""
        self._closed = True
        for events in tuple(self._open):
            await events.aclose()


class _Stream(StreamingResponse):
    """One client's stream, open until the client disconnects or the daemon stops."""

    def __init__(
        self, streams: set[Events], events: Events, encode: Callable[[Event], bytes], media_type: str
    ) -> None:
        super().__init__(
            _encoded(events, encode), headers={"cache-control": "no-store"}, media_type=media_type
        )
        self._streams = streams
        self._events = events
        streams.add(events)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with scope["state"]["connection"].endless():
                await super().__call__(scope, receive, send)
        finally:
            self._streams.discard(self._events)
            await self._events.aclose()


async def _encoded(events: Events, encode: Callable[[Event], bytes]) -> AsyncIterator[bytes]:
    async for event in events:
        yield encode(event)


def _line(event: Event) -> bytes:
    return _EVENT.dump_json(event) + b"\n"


def _server_sent(event: Event) -> bytes:
    return f"event: {event.what}\ndata: {_EVENT.dump_json(event).decode()}\n\n".encode()
