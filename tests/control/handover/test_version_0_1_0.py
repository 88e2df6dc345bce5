"""State, ledger and messages of epaird 0.1.0, recorded from a real one, are read by this version."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from epaird.control.handover import state
from epaird.control.handover.ledgers import finish_migration, open_ledger, table_identity
from epaird.control.handover.predecessor import LEDGER, find_leftovers
from epaird.control.handover.state import State
from epaird.ipc import counters
from epaird.ipc.counters import CPU_NS, REASONS
from epaird.ipc.encoding import decode
from epaird.ipc.ledger import LAYOUT_1, Table
from epaird.ipc.messages import Adopted, Attached, CableKind, CableSpec, Done, PortSpec
from epaird.kernel import abi, tunqueue
from epaird.kernel.namespace import Identity
from tests.loop import descriptors

RECORDED: Final = Path(__file__).with_name("version_0_1_0")
PACKETS: Final[list[dict[str, Any]]] = json.loads((RECORDED / "messages.json").read_text())
COUNTERS: Final[dict[str, dict[str, Any]]] = json.loads((RECORDED / "counters.json").read_text())
SIDES: Final = (PortSpec("epair0a", 3, 1500), PortSpec("epair0b", 4, 1500))
EPAIR0: Final = CableSpec("epair0", SIDES, coalesce=True)


@pytest.fixture
def ledger() -> Iterator[int]:
    """A copy of its ledger, which it could not seal."""
    fd = os.memfd_create("epaird-ledger", os.MFD_CLOEXEC)
    os.truncate(fd, 1 << 24)
    os.pwrite(fd, (RECORDED / "ledger.bin").read_bytes(), 0)
    yield fd
    os.close(fd)


@pytest.fixture
def saved() -> State:
    found = state.read(RECORDED)
    assert found is not None
    return found


def slots_of(saved: State) -> dict[str, int]:
    return {device.name: device.slots[0] for device in saved.devices}


def assert_counters(table: Table, saved: State) -> None:
    """The counters are those that its metrics page showed, but for the kernel's own."""
    slots = slots_of(saved)
    assert slots.keys() == COUNTERS.keys()
    for device, expected in COUNTERS.items():
        words = table.read(slots[device])
        for each in counters.STATISTICS:
            if each.name == "oqdrops" or each.name not in expected:
                continue  # the kernel's, or one that 0.1.0 does not count
            if each.by_reason:
                found: object = dict(zip(REASONS, words[each.word :], strict=False))
            else:
                found = words[each.word]
            wanted = expected[each.name]
            if each.by_reason:  # it knew fewer
                wanted = dict.fromkeys(REASONS, 0) | wanted
            assert found == wanted, (device, each.name)


def test_its_state_is_read(saved: State) -> None:
    assert (saved.version, saved.macs_made) == (1, 2)
    assert sorted(pair.name for pair in saved.pairs) == ["epair0", "epair1"]
    assert sorted(each.device.name for each in saved.loopbacks) == ["lo0", "lo1"]
    (pair,) = (pair for pair in saved.pairs if pair.name == "epair0")
    assert [half.device.place.netns for half in pair.halves] == ["labred", "labblue"]
    assert [half.peer for half in pair.halves] == ["epair0b", "epair0a"]


def test_its_answers_are_read() -> None:
    messages = [decode(each["packet"].encode()) for each in PACKETS]
    about = messages[0]
    assert isinstance(about, Adopted)
    assert (about.protocol, about.worker, about.slot) == (1, 0, 0)
    assert messages[-1] == Done(0)
    cables = {message.cable.name: message.cable for message in messages if isinstance(message, Attached)}
    assert cables["epair0"] == EPAIR0
    assert cables["lo0"].kind == CableKind.REFLECT
    assert [len(cable.ports) for cable in cables.values()] == [each["descriptors"] for each in PACKETS[1:-1]]


def test_its_counters_continue_from_their_values(ledger: int, saved: State) -> None:
    before = descriptors()
    old = Table(os.dup(ledger))
    assert old.layout == LAYOUT_1
    cpu_ns = old.worker_slot(0)[CPU_NS]
    slots = set(slots_of(saved).values())
    table = open_ledger({table_identity(old): os.dup(ledger)}, {0, *slots})
    os.close(old.fd)
    try:
        assert_counters(table, saved)
        for slot in slots:
            table.migrate(slot)
            assert_counters(table, saved)
        table.migrate_worker(0)
        assert table.slot(0)[CPU_NS] == cpu_ns > 0
        finish_migration(table, slots)
        assert table.older is None
        assert_counters(table, saved)
    finally:
        os.close(table.fd)
    assert descriptors() == before


def test_two_ledgers_are_left_by_a_daemon_that_was_killed_while_it_copied_one(
    ledger: int, saved: State
) -> None:
    slots = sorted(slots_of(saved).values())
    first = open_ledger({Identity(0, 0): os.dup(ledger)}, slots)
    for slot in slots[:3]:
        first.migrate(slot)
    left = {Identity(0, 0): os.dup(ledger), Identity(0, 1): os.dup(first.fd)}
    second = open_ledger(left, slots)
    try:
        assert table_identity(second) == table_identity(first)
        assert_counters(second, saved)
        finish_migration(second, slots)
        assert_counters(second, saved)
    finally:
        os.close(second.fd)
        os.close(first.fd)
        assert first.older is not None
        os.close(first.older.fd)


class Worker(threading.Thread):
    """Answers one control plane as the recorded worker did, and accepts only its own messages."""

    def __init__(self, path: Path, ledger: int, device: int) -> None:
        super().__init__()
        self.requested: list[object] = []
        self._ledger = ledger
        self._device = device
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen(1)

    def run(self) -> None:
        with self._listener, self._listener.accept()[0] as connection:
            self.requested.append(json.loads(connection.recv(65536)))
            for number, each in enumerate(PACKETS):
                fds = [self._ledger] if number == 0 else [self._device] * each["descriptors"]
                socket.send_fds(connection, [each["packet"].encode()], fds)
            while packet := connection.recv(65536):
                self.requested.append(json.loads(packet))
                connection.send(b'{"type": "Done", "id": 1, "error": " is not attached"}')


@pytest.mark.parametrize("pidfds", [True, False], ids=["pidfds", "Linux before 6.5"])
def test_its_workers_are_found_and_sent_its_own_messages(
    tmp_path: Path, ledger: int, saved: State, monkeypatch: pytest.MonkeyPatch, pidfds: bool
) -> None:
    monkeypatch.setattr(tunqueue, "is_queue", lambda _fd, **_: True)
    if not pidfds:
        monkeypatch.setattr(abi, "SO_PASSPIDFD", 9999)  # setsockopt() fails with ENOPROTOOPT
    before = descriptors()
    shutil.copy(RECORDED / "state.json", tmp_path)
    with Path(os.devnull).open() as device:
        worker = Worker(tmp_path / "worker-1.sock", ledger, device.fileno())
        worker.start()
        found = find_leftovers(tmp_path, [], Identity(*saved.home))
        (orphan,) = found.orphans
        assert found.usable
        assert orphan.about.protocol == 1
        assert orphan.cables["epair0"] == EPAIR0
        assert orphan.cables.keys() == {"epair0", "epair1", "lo0", "lo1"}
        assert found.fds.keys() == set(slots_of(saved).values())
        assert list(found.ledgers) == [orphan.ledger]
        orphan.connection.close()
        worker.join()
        confirm = {"type": "Detach", "id": 1, "cable": "", "patience": 0}
        assert worker.requested == [{"type": "Adopt", "id": 0}, *([] if pidfds else [confirm])]
        assert orphan.pid == os.getpid(), "a thread of this process"
        os.close(orphan.pidfd)
        found.close()
        for fd in found.ledgers.values():
            os.close(fd)
    assert LEDGER == "ledger"
    assert descriptors() == before
