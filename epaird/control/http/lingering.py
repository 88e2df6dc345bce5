"""Closing a connection whose client is still sending, so that it gets the answer.

The kernel resets a connection that is closed with unread data: the client's next write fails, and it may
never read the answer that says why, as a 413 does. So the sending side is closed first, and what arrives is
discarded until the client closes, within a bound in bytes and in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

LINGER_BYTES: Final = 1 << 24
"""Most bytes that are discarded: more than the largest body that is accepted."""
LINGER_S: Final = 5.0
"""Longest time in seconds for which bytes are discarded."""


class LingeringTransport:
    """A transport that lingers when it is closed while its client sends.

    Everything else is as with the transport that it wraps."""

    def __init__(self, transport: asyncio.Transport, sending: Callable[[], bool]) -> None:
        """``sending`` returns whether the client may still be sending a request."""
        self._transport = transport
        self._sending = sending
        self._left = LINGER_BYTES
        self._end: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._transport, name)

    @property
    def lingers(self) -> bool:
        """True while what arrives is to be discarded."""
        return self._end is not None

    def is_closing(self) -> bool:
        """Return whether nothing can be sent any more."""
        return self.lingers or self._transport.is_closing()

    def close(self) -> None:
        """Close the connection once everything is sent, or when the client has closed it; at once if it
        lingers already."""
        if self._end is not None:
            self._end.cancel()
        elif self._sending() and not self._transport.is_closing():
            self._end = asyncio.get_running_loop().call_later(LINGER_S, self.close)
            try:
                self._transport.write_eof()
                self._transport.resume_reading()
            except (OSError, RuntimeError):  # the client is gone
                self._transport.close()
            return
        self._transport.close()

    def discard(self, data: bytes) -> None:
        """Take bytes that arrived while it lingers; close the connection when they are too many."""
        self._left -= len(data)
        if self._left < 0:
            self.close()

    def closed(self) -> None:
        """Cancel the timer: the connection is closed."""
        if self._end is not None:
            self._end.cancel()
