"""When each line has to release frames: a heap for one timer. Times are CLOCK_MONOTONIC in nanoseconds.

A process that sleeps until a moment wakes up after it, and then takes a while to write: 50 to 100 us in all.
So the timer is armed that much earlier: by the median of what was measured, which a step of one microsecond
up or down after each time follows. Frames that are due by then are released; half of them are early, by
less than that.

To arm the timer costs as much as to forward a frame. So it is not armed while frames come: what is due is
released in each turn of the loop, and the timer is armed before the loop sleeps. It is not armed again for a
later time either: it then ends early once, for nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final, Protocol

NEVER: Final = 1 << 62
"""A time that does not come."""


class Scheduled(Protocol):
    """A line, as the timetable uses it."""

    due_ns: int
    """The time for which it is scheduled, or NEVER; written by the timetable."""

    def run(self, now_ns: int, until_ns: int) -> int:
        """Release what is due until a time; return how many writes that took."""


LEAD_MAX_NS: Final = 90_000
"""Most nanoseconds by which frames are released early."""
_STEP_NS: Final = 1000
_FEW: Final = 2
"""Writes of a time that is measured; more take longer."""
WRITE_NS: Final = 15_000
"""Nanoseconds between the decision to release a frame and its arrival, while polling."""


class Timetable:
    """The lines of a worker that hold frames, by the time of their first one."""

    __slots__ = (
        "_arm",
        "_armed_ns",
        "_clock",
        "_heap",
        "_number",
        "_running",
        "_seen",
        "_watch",
        "_watching",
        "early_ns",
        "lead_ns",
        "next_ns",
        "polling",
    )

    def __init__(
        self, arm: Callable[[int], None], watch: Callable[[], None], clock: Callable[[], int]
    ) -> None:
        """``arm`` has :meth:`woken` called at a time, and no more at another one. ``watch`` has :meth:`turn`
        called in the next turn of the loop, which does not sleep before that. ``clock`` returns the time."""
        self.next_ns = NEVER
        """The earliest time that a line is scheduled for; NEVER without one."""
        self.early_ns = 0
        """The time by which the timer ends earlier, so that the loop can poll until the frame is due."""
        self.polling = False
        """True while the loop turns only because a line will be due soon."""
        self.lead_ns = 0
        """The time that waking up takes; 0 while the loop polls."""
        self._arm = arm
        self._watch = watch
        self._clock = clock
        self._armed_ns = NEVER
        self._watching = False
        self._seen = 0
        self._heap: list[tuple[int, int, Scheduled]] = []
        self._number = 0
        self._running = False

    def schedule(self, line: Scheduled, at_ns: int) -> None:
        """Have a line run at a time, and not when it was scheduled before."""
        line.due_ns = at_ns
        self._number += 1
        heapq.heappush(self._heap, (at_ns, self._number, line))
        if at_ns < self.next_ns and not self._running:
            self.next_ns = at_ns
            self._begin()

    def cancel(self, line: Scheduled) -> None:
        """Forget a line."""
        line.due_ns = NEVER
        self._heap = [entry for entry in self._heap if entry[2] is not line]
        heapq.heapify(self._heap)
        self.next_ns = self._heap[0][0] if self._heap else NEVER

    def woken(self) -> None:
        """Run the lines that are due: the timer has ended."""
        now_ns, armed_ns, lead_ns = self._clock(), self._armed_ns, self.lead_ns
        self._armed_ns = NEVER
        if self.early_ns:
            self.run(now_ns)
        elif 0 < self.run(now_ns, lead_ns) <= _FEW:
            lead_ns += _STEP_NS if self._clock() - armed_ns > lead_ns else -_STEP_NS
            self.lead_ns = max(0, min(LEAD_MAX_NS, lead_ns))
        self._seen = self._number  # the loop slept: no frames come

    def turn(self) -> bool:
        """Run the lines that are due: the loop has made a turn. True when this is to be called again after
        the next one. False when the loop may sleep: then the timer is armed."""
        now_ns, early_ns = self._clock(), self.early_ns
        ahead_ns = WRITE_NS if early_ns else 0
        if self.next_ns <= now_ns + ahead_ns:
            self.run(now_ns, ahead_ns)
        self.polling = False
        if self._number != self._seen:
            self._seen = self._number
            return True
        if self.next_ns - now_ns <= early_ns:
            self.polling = True
            return True
        self._watching = False
        wanted_ns = max(1, self.next_ns - (early_ns or self.lead_ns))
        if wanted_ns < self._armed_ns and self.next_ns != NEVER:
            self._armed_ns = wanted_ns
            self._arm(wanted_ns)
        return False

    def run(self, now_ns: int, lead_ns: int = 0) -> int:
        """Run the lines that are due, or will be within ``lead_ns``, each once; return how many writes
        that took."""
        heap, until_ns, writes = self._heap, now_ns + lead_ns, 0
        due = []
        while heap and heap[0][0] <= until_ns:
            at_ns, _, line = heapq.heappop(heap)
            if line.due_ns == at_ns:
                line.due_ns = NEVER
                due.append(line)
        self._running = True
        try:
            for line in due:
                writes += line.run(now_ns, until_ns)
        finally:
            self._running = False
            heap = self._heap
            while heap and heap[0][2].due_ns != heap[0][0]:
                heapq.heappop(heap)
            self.next_ns = heap[0][0] if heap else NEVER
            self._begin()
        return writes

    def _begin(self) -> None:
        """Have the loop make turns until it may sleep."""
        if not self._watching and self.next_ns != NEVER:
            self._watching = True
            self._seen = -1
            self._watch()
