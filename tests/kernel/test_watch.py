from __future__ import annotations

import contextlib
import itertools
import os
import select
import subprocess
from collections.abc import Callable

import pytest

from epaird.kernel import link, namespace, tunqueue
from epaird.kernel.errors import KernelError
from epaird.kernel.watch import LinkEvent, LinkEventKind, LinkWatch, merged
from tests.kernel.conftest import MakeTap
from tests.kernel.named import at, placed
from tests.kernel.test_privileges import in_a_child
from tests.waiting import until

pytestmark = pytest.mark.real


def nsid_of(netns: str) -> int:
    with namespace.opened(netns) as fd:
        return link.namespace_id(fd)


class Record:
    """All events of a watch so far."""

    def __init__(self, watch: LinkWatch) -> None:
        self._watch = watch
        self.events: list[LinkEvent] = []

    def of(self, index: int) -> list[LinkEvent]:
        self.events += self._watch.read()
        return [event for event in self.events if event.index == index]

    def until(self, condition: Callable[[LinkEvent], bool]) -> LinkEvent:
        """Wait for a matching event, discard it and all earlier ones, and return it."""

        def find() -> LinkEvent | None:
            self.events += self._watch.read()
            return next(filter(condition, self.events), None)

        event = until(find)
        del self.events[: self.events.index(event) + 1]
        return event


@pytest.fixture
def record(watch: LinkWatch) -> Record:
    return Record(watch)


def test_the_life_of_a_device_in_the_own_namespace(record: Record, new_tap: MakeTap) -> None:
    tap = new_tap()
    new = record.until(lambda event: event.index == tap.index)
    assert (new.kind, new.nsid, new.name, new.up, new.mtu) == (LinkEventKind.NEW, None, tap.name, False, 1500)
    link.set_up(tap.index, True)
    record.until(lambda event: event.index == tap.index and event.up and event.lower_up)
    link.set_mtu(tap.index, 1400)
    record.until(lambda event: event.index == tap.index and event.mtu == 1400)
    tunqueue.set_carrier(tap.fds[0], False)
    record.until(lambda event: event.index == tap.index and event.up and not event.lower_up)
    link.delete(tap.index)
    record.until(lambda event: event.index == tap.index and event.kind is LinkEventKind.DELETED)


def test_the_file_descriptor_is_readable_when_an_event_is_pending(watch: LinkWatch, new_tap: MakeTap) -> None:
    new_tap()
    assert select.select([watch], [], [], 10)[0] == [watch]


def test_a_move_from_the_own_namespace(
    record: Record, new_tap: MakeTap, new_namespace: Callable[[], str]
) -> None:
    tap, netns = new_tap(), new_namespace()
    nsid = nsid_of(netns)
    index = placed(tap, "eth0", netns)
    left = record.until(lambda event: event.index == tap.index and event.kind is LinkEventKind.DELETED)
    assert left.nsid is None
    record.until(lambda event: (event.nsid, event.index, event.name) == (nsid, index, "eth0"))
    at(netns, link.set_up, index, True)
    record.until(lambda event: (event.nsid, event.index, event.up) == (nsid, index, True))


def _named(nsid: int | None, name: str) -> Callable[[LinkEvent], bool]:
    return lambda event: (event.nsid, event.name) == (nsid, name)


def test_a_move_between_other_namespaces_and_a_rename(
    record: Record, new_tap: MakeTap, new_namespace: Callable[[], str]
) -> None:
    red, blue = new_namespace(), new_namespace()
    ids = nsid_of(red), nsid_of(blue)
    index = placed(new_tap(), "eth0", red)
    subprocess.run(["ip", "-n", red, "link", "set", "eth0", "netns", blue], check=True)
    left = record.until(lambda event: event.nsid == ids[0] and event.kind is LinkEventKind.DELETED)
    assert left.index == index
    new = record.until(lambda event: (event.nsid, event.name) == (ids[1], "eth0"))
    for name in ("eth7", "e\\xff\\x1b"):
        at(blue, link.set_name, new.index, name)
        record.until(_named(ids[1], name))


def test_deleted_in_a_namespace(record: Record, new_tap: MakeTap, new_namespace: Callable[[], str]) -> None:
    netns = new_namespace()
    nsid = nsid_of(netns)
    index = placed(new_tap(), "eth0", netns)
    at(netns, link.delete, index)
    deleted = record.until(lambda event: event.nsid == nsid and event.kind is LinkEventKind.DELETED)
    assert (deleted.index, deleted.name) == (index, "eth0")


def test_the_end_of_a_namespace(record: Record, new_tap: MakeTap, new_namespace: Callable[[], str]) -> None:
    """The watch does not keep it alive, and its devices disappear without events."""
    netns = new_namespace()
    nsid = nsid_of(netns)
    tap = new_tap()
    index = placed(tap, "eth0", netns)
    # The kernel frees an id before it reports that, so the end of an earlier namespace that had this id may
    # be reported first.
    record.until(lambda event: (event.nsid, event.index, event.name) == (nsid, index, "eth0"))
    namespace.remove(netns)
    record.until(lambda event: event == LinkEvent(LinkEventKind.NAMESPACE_GONE, nsid=nsid))

    def gone() -> bool:
        try:
            tunqueue.current_name(tap.fds[0])
        except KernelError:
            return True
        return False

    until(gone)
    assert not [event for event in record.of(index) if event.nsid == nsid]


def test_a_port_that_leaves_a_bridge_is_not_deleted(
    record: Record, new_tap: MakeTap, new_namespace: Callable[[], str]
) -> None:
    netns = new_namespace()
    nsid = nsid_of(netns)
    index = placed(new_tap(), "eth0", netns)
    for command in ("add br0 type bridge", "set eth0 master br0", "set eth0 nomaster"):
        subprocess.run(["ip", "-n", netns, "link", *command.split()], check=True)
    at(netns, link.set_mtu, index, 1234)
    seen: list[LinkEvent] = []

    def changed() -> bool:
        seen[:] = [event for event in record.of(index) if event.nsid == nsid]
        return any(event.mtu == 1234 for event in seen)

    until(changed)
    assert LinkEventKind.DELETED not in {event.kind for event in seen}
    assert not any(event.had_left for event in seen)


def test_no_event_of_a_burst_is_lost(watch: LinkWatch, new_tap: MakeTap) -> None:
    tap = new_tap()
    while watch.read():
        pass
    for number in range(3000):
        link.set_mac(tap.index, f"02:00:00:00:{number >> 8:02x}:{number & 0xFF:02x}")
    events: list[LinkEvent] = []
    while some := watch.read():
        events += some
    assert LinkEventKind.OVERRUN not in {event.kind for event in events}
    assert sum(event.count for event in events if event.index == tap.index) >= 3000


def test_pending_events_of_a_device_are_one_that_forgets_nothing(watch: LinkWatch, new_tap: MakeTap) -> None:
    tap, other = new_tap(), new_tap()
    link.set_up(tap.index, True)
    while watch.read():
        pass
    link.set_mtu(tap.index, 1000)
    link.set_mtu(other.index, 1300)
    link.set_up(tap.index, False)
    link.set_mtu(tap.index, 1400)
    link.set_up(tap.index, True)
    found = {event.index: event for event in watch.read() if event.kind is LinkEventKind.NEW}
    event = found[tap.index]
    assert (event.name, event.mtu, event.up) == (tap.name, 1400, True)
    assert event.was_down
    assert event.least_mtu == 1000
    assert event.count >= 4
    assert not event.had_left
    assert (found[other.index].mtu, found[other.index].was_down) == (1300, False)


def test_a_device_that_left_and_came_back_has_left(
    watch: LinkWatch, new_tap: MakeTap, new_namespace: Callable[[], str]
) -> None:
    netns, tap = new_namespace(), new_tap()
    while watch.read():
        pass
    index = placed(tap, tap.name, netns)
    subprocess.run(["ip", "-n", netns, "link", "set", tap.name, "netns", str(os.getpid())], check=True)
    found = [event for event in watch.read() if event.key == (None, index)]
    assert [(event.kind, event.had_left) for event in found] == [(LinkEventKind.NEW, True)]


def test_events_of_other_devices_are_skipped(watch: LinkWatch, new_tap: MakeTap) -> None:
    ours, foreign = new_tap(), new_tap()
    while watch.read():
        pass
    for tap in (ours, foreign):
        link.set_mtu(tap.index, 1400)
    assert {event.key for event in watch.read(frozenset({(None, ours.index)}))} == {(None, ours.index)}


@pytest.mark.parametrize(
    "kinds", list(itertools.product((LinkEventKind.NEW, LinkEventKind.DELETED), repeat=2))
)
def test_two_events_become_one(kinds: tuple[LinkEventKind, LinkEventKind]) -> None:
    first = LinkEvent(kinds[0], 1, 7, "eth0", up=False, mtu=1000, count=2)
    last = LinkEvent(kinds[1], 1, 7, "eth1", up=True, mtu=1500, count=3, least_mtu=1400)
    one = merged(first, last)
    assert (one.kind, one.name, one.up, one.mtu, one.count) == (kinds[1], "eth1", True, 1500, 5)
    new = kinds[0] is LinkEventKind.NEW
    assert (one.was_down, one.had_left, one.least_mtu) == (new, not new, 1000 if new else 1400)


def test_an_overrun_is_reported(new_tap: MakeTap) -> None:
    tap = new_tap()
    with contextlib.closing(LinkWatch(receive_bytes=4096)) as small:
        for number in range(200):
            link.set_mac(tap.index, f"02:00:00:00:00:{number:02x}")
        assert LinkEvent(LinkEventKind.OVERRUN) in small.read()
        link.set_mtu(tap.index, 1400)
        assert any(event.mtu == 1400 for event in small.read())


def test_without_the_capability_for_other_namespaces() -> None:
    program = """
from epaird.kernel import privileges
from epaird.kernel.watch import LinkWatch
privileges.drop_all()
watch = LinkWatch()
print(watch.everywhere)
watch.close()
"""
    assert in_a_child(program) == "False\n"
