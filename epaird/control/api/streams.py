"""Events as an answer without an end: a line of JSON each, or server-sent events for those who ask.

A reader that is slower than the events loses some, in the bus behind them; here nothing is kept but the
one on its way, so that a reader costs what its socket's buffers hold.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable
from typing import Final

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from epaird.control.api.models import Happened, happened
from epaird.control.operations import Events, Refused

NDJSON: Final = "application/x-ndjson"
SERVER_SENT: Final = "text/event-stream"

STREAMS_MAX: Final = 64
"""Clients that follow the events: each holds a file descriptor for as long as it likes."""


class Streams:
    """The streams there are."""

    def __init__(self, subscribe: Callable[[], Events]) -> None:
        """``subscribe`` begins a new reading of the events."""
        self._subscribe = subscribe
        self._open: set[Events] = set()
        self._closed = False

    def answer(self, accept: str) -> StreamingResponse:
        """Follow the events from now on, in the form that the Accept header asks for.

        Raises Refused, EAGAIN when too many do already."""
        if self._closed:
            raise Refused(errno.ESHUTDOWN, "the daemon is stopping")
        if len(self._open) >= STREAMS_MAX:
            raise Refused(errno.EAGAIN, f"{STREAMS_MAX} clients follow the events already, no more can")
        if SERVER_SENT in accept:
            return _Stream(self._open, self._subscribe(), _server_sent, SERVER_SENT)
        return _Stream(self._open, self._subscribe(), _line, NDJSON)

    async def close(self) -> None:
        """End every stream, and begin no other."""
        self._closed = True
        for events in tuple(self._open):
            await events.aclose()


class _Stream(StreamingResponse):
    """One client's stream, open until the client goes or the daemon stops."""

    def __init__(
        self, streams: set[Events], events: Events, encode: Callable[[Happened], bytes], media_type: str
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


async def _encoded(events: Events, encode: Callable[[Happened], bytes]) -> AsyncIterator[bytes]:
    async for event in events:
        yield encode(happened(event))


def _line(event: Happened) -> bytes:
    return event.model_dump_json().encode() + b"\n"


def _server_sent(event: Happened) -> bytes:
    return f"event: {event.what}\ndata: {event.model_dump_json()}\n\n".encode()
