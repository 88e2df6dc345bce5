"""The times at which lines run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from epaird.dataplane.impair.timetable import LEAD_MAX_NS, NEVER, WRITE_NS, Timetable


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


class Loop:
    """A loop that turns when the test says so, with a clock that the test moves."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.armed: list[int] = []
        self.watching = False
        self.table = Timetable(self.armed.append, self._watch, lambda: self.now_ns)

    def _watch(self) -> None:
        assert not self.watching
        self.watching = True

    def turn(self) -> bool:
        """Make a turn; return whether the loop may sleep."""
        self.watching = self.watching and self.table.turn()
        return not self.watching

    def settle(self) -> None:
        """Turn until the loop may sleep."""
        while not self.turn():
            pass

    def wake(self, late_ns: int = 0) -> None:
        """Sleep until the timer ends, or a while longer."""
        self.settle()
        self.now_ns = self.armed[-1] + late_ns
        self.table.woken()


@given(st.lists(st.lists(st.integers(1, 1000), min_size=1, max_size=8), min_size=1, max_size=8))
def test_every_line_runs_when_it_is_due_and_the_timer_is_armed_for_the_next(times: list[list[int]]) -> None:
    loop = Loop()
    table = loop.table
    lines = [Frames(table, *sorted(each)) for each in times]
    table.lead_ns = 0
    for now_ns in sorted({time for each in times for time in each}):
        loop.settle()
        assert loop.armed[-1] == now_ns == table.next_ns
        loop.now_ns = now_ns
        table.woken()
        table.lead_ns = 0
        for line, each in zip(lines, times, strict=True):
            assert line.released == sorted(time for time in each if time <= now_ns)
    assert table.next_ns == NEVER
    loop.settle()


def test_only_the_last_time_of_a_line_counts() -> None:
    table = Loop().table
    line = Frames(table, 10)
    table.schedule(line, 20)
    table.run(10)
    assert line.released == []
    assert table.next_ns == 20
    table.cancel(line)
    assert table.next_ns == NEVER
    table.run(30)
    assert line.released == []


def test_a_line_that_is_due_again_waits_for_the_next_turn() -> None:
    loop = Loop()

    class Busy(Frames):
        def run(self, now_ns: int, until_ns: int) -> int:
            self.released.append(min(now_ns, until_ns))
            self._table.schedule(self, 1)
            return 1

    line = Busy(loop.table, 1)
    loop.now_ns = 5
    for turns in range(1, 4):
        assert not loop.turn()
        assert line.released == [5] * turns


def test_the_timer_is_not_armed_while_frames_come() -> None:
    loop = Loop()
    line = Frames(loop.table, *range(10, 1000, 10))
    for _ in range(50):
        loop.now_ns += 10
        assert not loop.turn()
    assert len(line.released) == 50
    assert loop.armed == []
    loop.settle()
    assert loop.armed == [510]


def test_a_timer_that_ends_earlier_is_left_and_a_later_one_replaced() -> None:
    loop = Loop()
    early = Frames(loop.table, 100)
    loop.settle()
    loop.table.schedule(early, 200)
    Frames(loop.table, 150)
    loop.settle()
    assert loop.armed == [100]
    Frames(loop.table, 50)
    loop.settle()
    assert loop.armed == [100, 50]
    loop.wake()
    loop.settle()
    assert loop.armed == [100, 50, 150]


def test_the_timer_is_armed_earlier_by_what_waking_up_takes() -> None:
    loop = Loop()
    lateness_ns = 50_000
    line = Frames(loop.table, *range(1_000_000, 300_000_000, 1_000_000))
    while line.left:
        loop.wake(lateness_ns)
    assert abs(loop.table.lead_ns - lateness_ns) <= 2000
    line = Frames(loop.table, *range(1_000_000_000, 1_300_000_000, 1_000_000))
    while line.left:
        loop.wake(10 * LEAD_MAX_NS)
    assert loop.table.lead_ns == LEAD_MAX_NS


def test_a_worker_that_polls_is_woken_earlier_and_turns_until_the_frame_is_due() -> None:
    loop = Loop()
    table = loop.table
    table.early_ns = 100_000
    line = Frames(table, 1_000_000)
    loop.settle()
    assert loop.armed == [900_000]
    loop.now_ns = 950_000
    table.woken()
    for _ in range(5):
        assert not loop.turn()
        assert table.polling
    assert line.released == []
    assert table.lead_ns == 0
    loop.now_ns = 1_000_000 - WRITE_NS
    loop.turn()
    assert line.released == [1_000_000]
    loop.settle()
    assert not table.polling
