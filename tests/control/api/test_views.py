"""Answers contain the values of readings and plans."""

from __future__ import annotations

from dataclasses import asdict

from epaird.control.api import views
from epaird.control.readings import Reading
from epaird.ipc.counters import REASONS
from epaird.plan.actions import Action, Detail
from tests.control.samples import interface, worker


def test_an_interface_has_the_readings_values() -> None:
    reading = interface(
        "epair0b", name="eth7", netns="blue", mtu=9000, up=False, refs=3, held_bytes=4, oactive=2
    )
    shown = asdict(views.interface(reading))
    assert shown == {name: getattr(reading, name) for name in shown}
    assert (shown["refs"], shown["held_bytes"], shown["oactive"]) == (3, 4, True)


def test_details_have_every_reason() -> None:
    counts = tuple(range(1, 1 + len(REASONS)))
    stats = views.details(interface("epair0a", ierrors=counts, too_big=7)).stats
    assert stats.ierrors == dict(zip(REASONS, counts, strict=True))
    assert stats.oerrors == dict.fromkeys(REASONS, 0)
    assert stats.too_big == 7


def test_statistics_have_every_interface_and_worker() -> None:
    reading = Reading(
        (interface("epair0a", opackets=5), interface("epair0b")), (worker(0), worker(1, restarts=2))
    )
    found = views.statistics(reading, 1.5)
    assert found.time == 1.5
    assert [(each.device, each.stats.opackets) for each in found.interfaces] == [
        ("epair0a", 5),
        ("epair0b", 0),
    ]
    assert [(each.worker, each.restarts) for each in found.workers] == [("0", 0), ("1", 2)]


def test_a_plan_that_only_adopts_changes_nothing() -> None:
    adopt = Action("adopt", "lo", "lo1", note="why")
    change = Action("change", "epair", "epair0", (Detail("a.mtu", "1500", "9000"),))
    assert not views.plan(()).changes
    assert not views.plan((adopt,)).changes
    found = views.plan(each for each in (adopt, change))
    assert found.changes
    assert [each.action() for each in found.actions] == [adopt, change]
