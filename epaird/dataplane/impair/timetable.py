"""When each line has to release frames: a heap for one timer. Times are CLOCK_MONOTONIC in nanoseconds."""

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

    def run(self, now_ns: int) -> None:
        """Release what is due."""


class Timetable:
    """The lines of a worker that hold frames, by the time of their first one."""

    __slots__ = ("_arm", "_heap", "_number", "_running", "early_ns", "next_ns")

    def __init__(self, arm: Callable[[int], None]) -> None:
        """``arm`` has :meth:`run` called at a time; 0 ends that."""
        self.next_ns = NEVER
        """The earliest time that a line is scheduled for; NEVER without one."""
        self.early_ns = 0
        """How much earlier the timer is to end, so that the caller can poll until the time has come."""
        self._arm = arm
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
            self._arm(max(1, at_ns - self.early_ns))

    def cancel(self, line: Scheduled) -> None:
        """Forget a line."""
        line.due_ns = NEVER
        self._heap = [entry for entry in self._heap if entry[2] is not line]
        heapq.heapify(self._heap)

    def run(self, now_ns: int) -> None:
        """Run the lines that are due, each once, and arm the timer for the next one."""
        heap = self._heap
        due = []
        while heap and heap[0][0] <= now_ns:
            at_ns, _, line = heapq.heappop(heap)
            if line.due_ns == at_ns:
                line.due_ns = NEVER
                due.append(line)
        self._running = True
        try:
            for line in due:
                line.run(now_ns)
        finally:
            self._running = False
            heap = self._heap
            while heap and heap[0][2].due_ns != heap[0][0]:
                heapq.heappop(heap)
            self.next_ns = heap[0][0] if heap else NEVER
            self._arm(max(1, self.next_ns - self.early_ns) if heap else 0)
