"""Limits how often the changes that others make to one device are handled.

The owner of a namespace can change a device thousands of times a second. Each change would be logged,
published, written to the state file and perhaps repaired. So each device has a token bucket:

1. While there are tokens, a change is handled at once. Ordinary use never empties the bucket.
2. Without a token the change waits. Later ones are merged into it, so that the last one wins and nothing that
   the kernel removed in between is forgotten. It is handled with the next token, within a quarter of
   a second. By then the device may have changed again.
3. What was merged is reported in one line every REPORT_S seconds.

No device waits for another one's tokens.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from epaird.control.interfaces.ifnet import Ifnet
from epaird.control.tokenbucket import Rate, TokenBucket
from epaird.kernel.watch import LinkEvent, merged

log = logging.getLogger(__name__)

RATE: Final = Rate(burst=20, per_s=4)
"""Changes of one device that are handled."""
REPORT_S: Final = 10.0
"""Seconds between two reports of one device."""


@dataclass(slots=True)
class _Paced:
    """The changes of one device."""

    bucket: TokenBucket
    waiting: LinkEvent | None = None
    """The change that waits for a token."""
    timer: asyncio.TimerHandle | None = None
    """The timer that handles it."""
    merged: int = 0
    """Changes that were merged into another one and not reported yet."""
    since: float = 0.0
    """Time of the first of them."""
    report: asyncio.TimerHandle | None = None
    """The timer of the report."""


class Pacing:
    """Handles the changes of devices, each device at its own pace."""

    def __init__(
        self, handle: Callable[[Ifnet, LinkEvent], None], handle_late: Callable[[Ifnet, LinkEvent], None]
    ) -> None:
        """``handle_late`` is called with a change that has waited."""
        self._handle = handle
        self._handle_late = handle_late
        self._paced: dict[Ifnet, _Paced] = {}

    def happened(self, ifnet: Ifnet, event: LinkEvent) -> None:
        """Handle a change now, or with the next token."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        paced = self._paced.get(ifnet)
        if paced is None:
            paced = self._paced[ifnet] = _Paced(TokenBucket(RATE, now))
        if paced.waiting is not None:
            paced.waiting = merged(paced.waiting, event)
            self._count(ifnet, paced, event.count)
        elif paced.bucket.take(now):
            self._handle(ifnet, event)
        else:
            paced.waiting = event
            paced.timer = loop.call_later(paced.bucket.wait(now), self._due, ifnet, paced)
            self._count(ifnet, paced, event.count - 1)

    def forget(self, ifnet: Ifnet) -> None:
        """Report what is not reported yet, and drop the change that waits: the device is not tracked."""
        paced = self._paced.pop(ifnet, None)
        if paced is None:
            return
        if paced.timer is not None:
            paced.timer.cancel()
        if paced.report is not None:
            paced.report.cancel()
            self._report(ifnet, paced)

    def _due(self, ifnet: Ifnet, paced: _Paced) -> None:
        event, paced.waiting, paced.timer = paced.waiting, None, None
        paced.bucket.take(asyncio.get_running_loop().time())
        if event is not None:
            self._handle_late(ifnet, event)

    def _count(self, ifnet: Ifnet, paced: _Paced, changes: int) -> None:
        loop = asyncio.get_running_loop()
        if paced.report is None:
            paced.since = loop.time()
            paced.report = loop.call_later(REPORT_S, self._report, ifnet, paced)
        paced.merged += changes

    def _report(self, ifnet: Ifnet, paced: _Paced) -> None:
        count, paced.merged, paced.report = paced.merged, 0, None
        if count:
            seconds = asyncio.get_running_loop().time() - paced.since
            log.warning(
                "%s: %d more changes in the last %.0f s were not logged", ifnet.device, count, seconds
            )
