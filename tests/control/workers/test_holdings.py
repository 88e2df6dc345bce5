"""What one process has: a line belongs to all queues of its pair."""

from __future__ import annotations

from epaird.control.workers.holdings import Holdings
from epaird.control.workers.readers import Readers
from epaird.ipc.impairment import LineSpec
from epaird.ipc.messages import CableSpec, PortSpec


def queue(number: int) -> CableSpec:
    ports = PortSpec("epair0a", 2 * number, line=(LineSpec(9),)), PortSpec("epair0b", 2 * number + 1)
    return CableSpec(f"epair0.{number}", ports)


def test_a_process_gets_a_line_when_another_one_has_released_the_last_queue() -> None:
    readers, granted = Readers(), list[str]()
    old, new = Holdings("old", readers), Holdings("new", readers)
    for number in (0, 1):
        old.claim(queue(number), lambda: granted.append("old"))
    new.claim(queue(0), lambda: granted.append("new"))
    assert granted == ["old", "old"]
    old.release("epair0.0")
    assert readers.of(0) == ()
    assert readers.of(9) == ("old",)
    assert granted == ["old", "old"]
    old.release("epair0.1")
    assert granted == ["old", "old", "new"]
    assert readers.of(9) == ("new",)


def test_a_process_that_has_ended_has_nothing() -> None:
    readers = Readers()
    old, new = Holdings("old", readers), Holdings("new", readers)
    old.record(queue(0))
    granted = list[int]()
    new.claim(queue(0), lambda: granted.append(1))
    new.withdraw(queue(0))
    old.release_all()
    assert not granted
    assert readers.of(9) == ()
