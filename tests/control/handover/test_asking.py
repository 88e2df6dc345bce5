"""Orphans that answer wrongly, late or not at all, with real devices."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from epaird.control.handover import asking
from epaird.control.handover.predecessor import Leftovers, find_leftovers
from epaird.control.workers.socketfile import socket_name
from epaird.ipc.encoding import encode
from epaird.ipc.impairment import LineSpec
from epaird.ipc.ledger import Table
from epaird.ipc.messages import Attached, CableKind, CableSpec, Detach, Done, More, Overflow, PortSpec
from epaird.ipc.ringfile import create, same
from epaird.kernel import abi, tun
from epaird.kernel.senders import open_process
from epaird.kernel.tun import Tap
from tests.control.handover.orphan import FakeOrphan
from tests.control.handover.test_predecessor import HOME, closed, write
from tests.control.handover.test_predecessor import state as state_of_lo1
from tests.loop import descriptors

pytestmark = pytest.mark.real

LO1 = CableSpec("lo1", (PortSpec("lo1", 1, 1500),), CableKind.REFLECT)


class Orphanage:
    """A run directory with the state of one loopback, a ledger and a device."""

    def __init__(self, directory: Path, device: Tap) -> None:
        self.directory = directory
        self.table = Table.create(8)
        self.device = device
        self.ended = False
        """Whether the orphan had ended, and was reaped, after the search for leftovers."""
        write(directory, state_of_lo1())

    def orphan(self) -> FakeOrphan:
        """Return an orphan that has the loopback, and answers as it should."""
        fake = FakeOrphan(0, 0, self.table.fd)
        fake.cables["lo1"] = (LO1, self.device.fds)
        fake.packets = fake.answers()
        return fake

    def found(self, fake: FakeOrphan) -> Leftovers:
        """Look for leftovers while an orphan listens."""
        with fake.listening(self.directory):
            found = find_leftovers(self.directory, (), HOME)
            self.ended = open_process(fake.process.pid) is None
            closed(found)
        return found


@pytest.fixture
def orphanage(tmp_path: Path) -> Iterator[Orphanage]:
    device = tun.open_tun(f"eptask{os.getpid() % 100_000}")
    made = Orphanage(tmp_path, device)
    yield made
    device.close()
    os.close(made.table.fd)


@pytest.fixture
def foreign() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of ours."""
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    assert process.poll() is None, "it was killed"
    process.kill()
    process.wait()


@pytest.fixture(params=[True, False], ids=["pidfds", "Linux before 6.5"])
def pidfds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the kernel passes pidfds; if not, setsockopt() really fails with ENOPROTOOPT."""
    if not request.param:
        monkeypatch.setattr(abi, "SO_PASSPIDFD", 9999)
    return bool(request.param)


@pytest.mark.usefixtures("pidfds")
def test_an_orphan_is_identified_by_the_kernel_whatever_it_says(
    orphanage: Orphanage, foreign: subprocess.Popen[bytes]
) -> None:
    before = descriptors()
    fake = orphanage.orphan()
    fake.about = replace(fake.about, pid=foreign.pid)
    fake.packets = fake.answers()
    with fake.listening(orphanage.directory):
        found = find_leftovers(orphanage.directory, (), HOME)
        (orphan,) = found.orphans
        assert (orphan.pid, orphan.about.pid) == (fake.process.pid, foreign.pid)
        signal.pidfd_send_signal(orphan.pidfd, signal.SIGKILL)
        assert fake.process.wait(30) == -signal.SIGKILL
        closed(found)
    assert descriptors().keys() <= before.keys()


@pytest.mark.usefixtures("pidfds")
def test_an_unusable_orphan_is_killed_and_no_other_process(
    orphanage: Orphanage, foreign: subprocess.Popen[bytes]
) -> None:
    fake = orphanage.orphan()
    fake.about = replace(fake.about, pid=foreign.pid, slot=1 << 20)
    fake.packets = fake.answers()
    assert orphanage.found(fake).orphans == []
    assert orphanage.ended


def changed_cable(**changes: object) -> bytes:
    """Return the report of a cable with other fields."""
    document = json.loads(encode(Attached(LO1)))
    document["cable"] = {**document["cable"], **changes}
    return json.dumps(document).encode()


def port(**changes: object) -> bytes:
    """Return the report of a cable whose port has other fields."""
    return changed_cable(ports=[{"name": "lo1", "slot": 1, "mtu": 1500, **changes}])


Wrong = Callable[[FakeOrphan, Orphanage], None]


def replaced(number: int, packet: bytes) -> Wrong:
    """Replace one packet of the answer, with the same descriptors."""

    def change(fake: FakeOrphan, _: Orphanage) -> None:
        assert fake.packets is not None
        fake.packets[number] = packet, fake.packets[number][1]

    return change


def passing(number: int, *fds: int) -> Wrong:
    """Replace the descriptors of one packet; -1 stands for the device, -2 for the ledger."""

    def change(fake: FakeOrphan, orphanage: Orphanage) -> None:
        assert fake.packets is not None
        known = {-1: orphanage.device.fds[0], -2: orphanage.table.fd}
        fake.packets[number] = fake.packets[number][0], tuple(known.get(fd, fd) for fd in fds)

    return change


def impaired(*fds: int) -> Wrong:
    """Report a cable whose port has a line, with these descriptors of its ring and its trace."""
    port = PortSpec("lo1", 1, 1500, line=(LineSpec(slot=2, trace=len(fds) > 1),))

    def change(fake: FakeOrphan, orphanage: Orphanage) -> None:
        replaced(1, encode(Attached(CableSpec("lo1", (port,), CableKind.REFLECT))))(fake, orphanage)
        passing(1, -1, *fds)(fake, orphanage)

    return change


def inserted(number: int, packet: bytes, times: int = 1, *fds: int) -> Wrong:
    """Insert packets into the answer."""

    def change(fake: FakeOrphan, orphanage: Orphanage) -> None:
        assert fake.packets is not None
        known = {-1: orphanage.device.fds[0]}
        passed = tuple(known.get(fd, fd) for fd in fds)
        fake.packets[number:number] = [(packet, passed)] * times

    return change


def slot_of_another(fake: FakeOrphan, orphanage: Orphanage) -> None:
    """Report a device in the slot that the state file gives to another one."""
    replaced(1, encode(Attached(CableSpec("lo9", (PortSpec("lo9", 1, 1500),), CableKind.REFLECT))))(
        fake, orphanage
    )


def settings(**changes: int) -> bytes:
    """Return the settings of worker 0 in slot 0 with other fields."""
    return json.dumps({"type": "Adopted", "worker": 0, "slot": 0, **changes}).encode()


WRONG: dict[str, tuple[Wrong, str]] = {
    "no JSON": (replaced(0, b"["), "not a message"),
    "no settings": (replaced(0, encode(Done(0))), "Done has 1 descriptors and should have 0"),
    "a worker without a number": (replaced(0, b'{"type": "Adopted", "worker": -1}'), "worker number -1"),
    "the slot of another": (slot_of_another, "it reports lo9 in the slot of lo1"),
    "a device's slot as a worker's": (replaced(0, settings(slot=1)), "reports worker 0 in the slot of lo1"),
    "another worker's slot": (replaced(0, settings(worker=1)), "reports worker 1 in the slot of worker 0"),
    "a worker's slot as a device's": (
        replaced(1, changed_cable(name="lo9", ports=[{"name": "lo9", "slot": 0, "mtu": 1500}])),
        "it reports lo9 in the slot of worker 0",
    ),
    "a slot outside": (replaced(1, port(slot=1 << 16)), "slot 65536 is out of range"),
    "no slot": (replaced(1, port(slot="one")), "slot: not an integer"),
    "no MTU": (replaced(1, port(mtu=3)), "MTU 3 is out of range"),
    "a name": (replaced(1, port(name="lo1\x1b[2J")), "is not the name"),
    "an unknown kind of device": (replaced(1, changed_cable(kind=CableKind.UNPLUGGED)), "is not that of a"),
    "a cable with one end": (replaced(1, changed_cable(kind=CableKind.CABLE)), "a cable with 1 ports"),
    "a cable twice": (inserted(1, encode(Attached(LO1)), 1, -1), "it reports lo1 twice"),
    "a request": (inserted(1, encode(Detach(1, "lo1"))), "a worker does not send Detach"),
    "descriptors without end": (inserted(1, encode(More()), 5, *[-1] * 200), "a worker does not send More"),
    "no descriptor": (passing(1), "Attached has 0 descriptors and should have 1"),
    "many descriptors": (passing(1, -1, -1, -1), "Attached has 3 descriptors and should have 1"),
    "standard input": (passing(1, 0), "a descriptor is not that of a device"),
    "the ledger as device": (passing(1, -2), "a descriptor is not that of a device"),
    "a device as ledger": (passing(0, -1), "its ledger is no memory file"),
    "a device as a ring": (impaired(-1), "a descriptor is not that of a line's file"),
    "a trace that can be changed": (impaired(-2, -2), "a descriptor is not that of a line's file"),
    "reports without end": (inserted(1, encode(Overflow(True, "lo1")), 5000), "too many messages"),
    "a second set of settings": (
        inserted(1, b'{"type": "Adopted"}', 1, -1),
        "Adopted comes at the wrong time",
    ),
}


@pytest.mark.parametrize(("wrong", "problem"), WRONG.values(), ids=WRONG)
def test_an_orphan_whose_answer_is_wrong_is_killed(
    orphanage: Orphanage, wrong: Wrong, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = descriptors()
    fake = orphanage.orphan()
    wrong(fake, orphanage)
    found = orphanage.found(fake)
    assert found.orphans == []
    assert orphanage.ended
    (line,) = caplog.messages[:1]
    assert line.startswith(f"orphan worker (pid {fake.process.pid}) cannot be taken over: ")
    assert problem in line
    assert line.isprintable()
    assert not (orphanage.directory / socket_name(fake.process.pid)).exists()
    assert descriptors() == before


def test_a_device_that_is_gone_is_no_fault_of_the_orphan(orphanage: Orphanage) -> None:
    name = orphanage.device.name
    subprocess.run(["ip", "link", "del", name], check=True)
    found = orphanage.found(orphanage.orphan())
    assert len(found.orphans) == 1


def test_two_orphans_in_a_new_slot(orphanage: Orphanage, caplog: pytest.LogCaptureFixture) -> None:
    """The state file does not know the slot yet, so it is that of the first one."""
    orphans = [FakeOrphan(number, 5, orphanage.table.fd) for number in range(2)]
    with contextlib.ExitStack() as listening:
        for fake in orphans:
            listening.enter_context(fake.listening(orphanage.directory))
        found = find_leftovers(orphanage.directory, (), HOME)
        assert len(found.orphans) == 1
        closed(found)
    assert "in the slot of another process of worker" in caplog.text


def test_an_orphan_that_reports_cable_after_cable_is_not_waited_for_without_end(
    orphanage: Orphanage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = itertools.count()
    monkeypatch.setattr(asking, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    monkeypatch.setattr(asking, "ANSWER_S", 20.0)
    fake = orphanage.orphan()
    for slot in range(2, 102):
        name = f"lo{slot}"
        spec = CableSpec(name, (PortSpec(name, slot, 1500),), CableKind.REFLECT)
        fake.cables[name] = (spec, orphanage.device.fds)
    fake.packets = fake.answers()
    assert orphanage.found(fake).orphans == []
    assert orphanage.ended
    assert "it does not answer" in caplog.text


def test_orphans_that_are_stopped_cost_the_time_of_one(
    orphanage: Orphanage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are found by the name of their socket, as they never answer."""
    monkeypatch.setattr(asking, "ANSWER_S", 0.5)
    stopped = [orphanage.orphan() for _ in range(5)]
    with contextlib.ExitStack() as listening:
        for fake in stopped:
            listening.enter_context(fake.listening(orphanage.directory))
        for fake in stopped[1:]:
            os.kill(fake.process.pid, signal.SIGSTOP)
        began = time.monotonic()
        found = find_leftovers(orphanage.directory, (), HOME)
        assert time.monotonic() - began < len(stopped[1:]) * asking.ANSWER_S
        assert [each.pid for each in found.orphans] == [stopped[0].process.pid]
        assert [open_process(fake.process.pid) for fake in stopped[1:]] == [None] * 4
        closed(found)


def test_a_process_that_has_the_id_of_an_orphan_by_now_is_left_alone(orphanage: Orphanage) -> None:
    """The socket of a worker that has ended has the id of a process of another daemon."""
    other = orphanage.orphan()
    path = orphanage.directory / socket_name(other.process.pid)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as ended:
        ended.bind(str(path))
        ended.listen(1)
    found = find_leftovers(orphanage.directory, (), HOME)
    assert other.process.poll() is None
    assert not path.exists()
    other.end()
    closed(found)


@pytest.mark.parametrize(
    ("kind", "stored", "taken"),
    [
        (CableKind.REFLECT, "none", True),
        (CableKind.REFLECT, "the same", False),
        (CableKind.REFLECT, "another", True),
        (CableKind.KEPT, "none", True),
        (CableKind.KEPT, "another", False),
    ],
)
def test_the_ring_that_a_worker_uses_is_the_one(
    orphanage: Orphanage, kind: str, stored: str, taken: bool
) -> None:
    """A larger ring replaces another; then the store, or a worker that keeps a cable, has the former one."""
    former, used = create("epair0a", 1), create("epair0a", 1)
    rings: dict[int, int] = {"none": {}, "the same": {5: used}, "another": {5: former}}[stored]
    fake = orphanage.orphan()
    port = replace(LO1.ports[0], line=(LineSpec(5),))
    fake.cables["lo1"] = replace(LO1, kind=kind, ports=(port,)), (*orphanage.device.fds, used)
    fake.packets = fake.answers()
    with fake.listening(orphanage.directory):
        path = next(orphanage.directory.glob(socket_name("*")))
        (inquiry,) = asking.ask([path], 8, set(rings), rings)
        assert inquiry.error is None
        found = inquiry.answer.lines.get(5, ())
        assert [same(fd, used) for fd in found] == [True] * taken
        assert (5 in inquiry.answer.in_use) == (taken and kind != CableKind.KEPT)
        inquiry.answer.close()
    for fd in (former, used):
        os.close(fd)
