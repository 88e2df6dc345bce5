"""The claims of a process about what it was given."""

from __future__ import annotations

import pytest

from epaird.control.workers import claims
from epaird.control.workers.claims import Claims
from epaird.ipc.encoding import InvalidMessage
from epaird.ipc.messages import CableSpec, Done, Gone, Message, Overflow, PortSpec, UnknownFamily

CABLE = CableSpec("epair0", (PortSpec("epair0a", 1, 1500), PortSpec("epair0b", 2, 1500)))


def accepted(found: Claims, report: Message, now: float = 0) -> bool:
    try:
        found.check(report, now)
    except InvalidMessage:
        return False
    return True


def test_reports_about_what_was_given() -> None:
    found = Claims(0)
    reports = (Gone("epair0", "epair0b"), Overflow(True, "epair0a"), UnknownFamily("epair0a", 3))
    assert not any(accepted(found, report) for report in reports)
    found.give([CABLE])
    assert all(accepted(found, report) for report in reports)
    assert not accepted(found, Gone("epair1", "epair0b"))
    assert not accepted(found, Gone("epair0", "epair1b"))
    assert accepted(found, Overflow(False, "")), "0.2.0 reports no name"


def test_a_late_report_about_what_was_detached() -> None:
    found = Claims(0)
    found.give([CABLE])
    found.withdraw("epair0", 1)
    found.withdraw("epair7", 1)
    assert accepted(found, Overflow(False, "epair0a"), 1.3)
    assert accepted(found, Gone("epair0", "epair0a"), 1.3)
    found.withdraw("epair7", 2 + claims.LATE_S)
    assert not accepted(found, Overflow(False, "epair0a"), 2 + claims.LATE_S)


@pytest.mark.parametrize("cables", [0, 1, 1000])
def test_reports_at_the_rate_of_a_worker_never_end_it(cables: int) -> None:
    found = Claims(0)
    ports = [(f"epair{unit}{side}") for unit in range(cables) for side in "ab"]
    for unit in range(cables):
        names = (f"epair{unit}a", f"epair{unit}b")
        found.give([CableSpec(f"epair{unit}", tuple(PortSpec(name, 0, 1500) for name in names))])
    for quarter in range(20 if cables > 1 else 200):
        for port in ports:
            found.check(Overflow(True, port), quarter / 4)
            found.check(Overflow(False, port), quarter / 4)


def test_a_flood_is_refused_after_a_bounded_number() -> None:
    found = Claims(0)
    found.give([CABLE])
    passed = 0
    while accepted(found, Done(9), passed * 1e-5):
        passed += 1
    assert claims.REPORTS <= passed <= 2 * claims.REPORTS
    assert accepted(found, Done(9), 10), "the allowance grows again"


def test_giving_and_detaching_again_and_again_gains_no_allowance() -> None:
    found = Claims(0)
    for _ in range(1000):
        found.give([CABLE])
        found.withdraw("epair0", 0)
    passed = 0
    while accepted(found, Done(9)):
        passed += 1
    assert passed <= claims.REPORTS + 2 * claims.REPORTS_PER_PORT


def passed(found: Claims, now: float) -> int:
    count = 0
    while accepted(found, Done(9), now):
        count += 1
    return count


def test_the_allowance_grows_with_the_interfaces_and_with_time() -> None:
    found = Claims(0)
    assert passed(found, 0) == 4096
    assert passed(found, 1) == 64
    found.give([CABLE])
    assert passed(found, 1) == 2 * 64
    assert passed(found, 2) == 64 + 2 * 16
    with pytest.raises(
        InvalidMessage, match=r"^it sends more than 96 messages a second that are no answers$"
    ):
        found.check(Done(9), 2)
    found.give([CABLE])
    assert passed(found, 2) == 0, "the same cable once more adds nothing"
    assert passed(found, 3) == 64 + 2 * 16
    found.withdraw("epair0", 3)
    assert passed(found, 4) == 64
    assert passed(found, 1000) == 4096


def test_a_cable_that_is_given_with_other_interfaces() -> None:
    found = Claims(0)
    found.give([CABLE])
    other = CableSpec("epair0", (PortSpec("epair0a", 1, 1500), PortSpec("epair7b", 2, 1500)))
    found.give([other])
    assert accepted(found, Overflow(True, "epair7b"))
    assert accepted(found, Overflow(True, "epair0a"))
    assert not accepted(found, Overflow(True, "epair0b"))
    found.withdraw("epair0", 0)
    found.give([CABLE])
    assert accepted(found, Overflow(True, "epair0b"))
    assert not accepted(found, Overflow(True, "epair7b"))
    assert not accepted(found, Gone("epair0", "epair7b"))


def test_what_was_detached_is_forgotten_after_a_minute_and_given_again_is_not() -> None:
    found = Claims(0)
    lo1, lo2 = (CableSpec(name, (PortSpec("lo1", 3, 1500),)) for name in ("lo1", "lo2"))
    found.give([CABLE, lo1, lo2])
    found.withdraw("epair0", 10)
    found.withdraw("lo2", 20)
    found.withdraw("epair7", 70)
    assert accepted(found, Overflow(False, "epair0a"), 70)
    found.withdraw("epair7", 70.5)
    assert not accepted(found, Overflow(False, "epair0a"), 70.5)
    assert accepted(found, Gone("lo2", "lo1"), 70.5)
    found.withdraw("epair7", 81)
    assert not accepted(found, Gone("lo2", "lo1"), 81)
    assert accepted(found, UnknownFamily("lo1", 3), 81), "another cable has that interface"
    found.withdraw("lo1", 90)
    found.withdraw("epair7", 200)
    assert not found._known, "nothing is kept of what is forgotten"
