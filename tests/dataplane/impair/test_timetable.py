"""When lines run, with a clock that the test moves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from epaird.dataplane.impair.timetable import LEAD_MAX_NS, NEVER, Timetable


class Frames:
    """A line that holds frames with these deadlines."""

    def __init__(self, table: Timetable, *deadlines: int) -> None:
        self.due_ns = NEVER
        self.released: list[int] = []
        self.left = list(deadlines)
        self._table = table
        table.schedule(self, deadlines[0])

    def run(self, now_ns: int, until_ns: int) -> int:
        assert now_ns <= until_ns
        writes = 0
        while self.left and self.left[0] <= until_ns:
            self.released.append(self.left.pop(0))
            writes += 1
        if self.left:
            self._table.schedule(self, self.left[0])
        return writes


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0
        self.armed: list[int] = []

    def __call__(self) -> int:
        return self.now_ns


def tables() -> tuple[Timetable, Clock]:
    clock = Clock()
    return Timetable(clock.armed.append, clock), clock


@given(st.lists(st.lists(st.integers(1, 1000), min_size=1, max_size=8), min_size=1, max_size=8))
def test_every_line_runs_when_it_is_due_and_the_timer_is_armed_for_the_next(times: list[list[int]]) -> None:
    table, clock = tables()
    lines = [Frames(table, *sorted(each)) for each in times]
    for now_ns in sorted({time for each in times for time in each}):
        assert clock.armed[-1] == now_ns == table.next_ns
        clock.now_ns = now_ns
        table.run(now_ns)
        for line, each in zip(lines, times, strict=True):
            assert line.released == sorted(time for time in each if time <= now_ns)
    assert clock.armed[-1] == 0
    assert table.next_ns == NEVER


def test_only_the_last_time_of_a_line_counts() -> None:
    table, _ = tables()
    line = Frames(table, 10)
    table.schedule(line, 20)
    table.run(10)
    assert line.released == []
    assert table.next_ns == 20
    table.cancel(line)
    table.run(30)
    assert line.released == []


def test_a_line_that_is_due_again_waits_for_the_next_turn() -> None:
    table, clock = tables()

    class Busy(Frames):
        def run(self, now_ns: int, until_ns: int) -> int:
            self.released.append(min(now_ns, until_ns))
            self._table.schedule(self, 1)
            return 1

    line = Busy(table, 1)
    table.run(5)
    assert line.released == [5]
    assert clock.armed[-1] == 1


def test_the_timer_is_armed_earlier_by_what_waking_up_takes() -> None:
    table, clock = tables()
    lateness_ns = 50_000
    line = Frames(table, *range(1_000_000, 300_000_000, 1_000_000))
    while line.left:
        clock.now_ns = clock.armed[-1] + lateness_ns
        table.woken()
    assert abs(table.lead_ns - lateness_ns) <= 2000
    line = Frames(table, *range(1_000_000_000, 1_300_000_000, 1_000_000))
    while line.left:
        clock.now_ns = clock.armed[-1] + 10 * LEAD_MAX_NS
        table.woken()
    assert table.lead_ns == LEAD_MAX_NS


def test_a_worker_that_polls_is_woken_earlier_and_releases_nothing_early() -> None:
    table, clock = tables()
    table.early_ns = 100_000
    line = Frames(table, 1_000_000)
    assert clock.armed[-1] == 900_000
    clock.now_ns = 950_000
    table.woken()
    assert line.released == []
    assert table.lead_ns == 0
