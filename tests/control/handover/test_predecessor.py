"""State, orphans and descriptors of a predecessor, in the run directory and among the passed ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from epaird.config.settings import LoopbackSettings
from epaird.control.handover.notify import Inherited
from epaird.control.handover.predecessor import LEDGER, Leftovers, find_leftovers
from epaird.control.handover.state import STATE, Keeper, SavedWorker, State, memory_file
from epaird.control.interfaces.saved import SavedDevice, SavedLoopback, SavedPlace
from epaird.control.workers.socketfile import socket_name
from epaird.ipc.ledger import Table
from epaird.ipc.messages import CableKind, CableSpec, PortSpec
from epaird.kernel import tunqueue
from epaird.kernel.namespace import Identity
from tests.control.handover.orphan import FakeOrphan, pipe
from tests.loop import on_loop

HOME = Identity(4, 5)
LO = LoopbackSettings()


@pytest.fixture(autouse=True)
def _pipes_are_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunqueue, "is_queue", lambda _fd, **_: True)


def state(origin: str = "configuration", configured: LoopbackSettings | None = None) -> State:
    """Return a state with worker 0 in slot 0 and lo1 in slot 1."""
    place = SavedPlace(name="lo1", index=7, netns="", nsid=None, identity=(4, 5))
    device = SavedDevice(
        name="lo1", slots=(1,), tap_index=7, offloads=0, missing=(), place=place, mtu=1500, up=True,
        carrier=True, bases=(),
    )  # fmt: skip
    lo = SavedLoopback.model_validate(
        {"device": device, "settings": LO, "origin": origin, "worker": 0, "said": configured}
    )
    worker = SavedWorker(number=0, slot=0, pid=77, restarts=0)
    return State(home=(4, 5), macs_made=0, workers=(worker,), pairs=(), loopbacks=(lo,))


@on_loop
async def write(directory: Path, written: State) -> None:
    Keeper(directory, lambda: written).write()


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def closed(leftovers: Leftovers) -> None:
    """Close everything that a test has left."""
    leftovers.close()
    for orphan in leftovers.orphans:
        orphan.connection.close()
        os.close(orphan.pidfd)
    for fd in leftovers.ledgers.values():
        os.close(fd)


def test_an_orphan_reports_its_cables_and_passes_their_descriptors(tmp_path: Path) -> None:
    write(tmp_path, state())
    table, device = Table.create(8), pipe()
    fake = FakeOrphan(0, 0, table.fd)
    spec = CableSpec("lo1", (PortSpec("lo1", 1, 1500),), CableKind.REFLECT)
    fake.cables["lo1"] = (spec, (device,))
    with fake.listening(tmp_path):
        found = find_leftovers(tmp_path, (), HOME)
        assert found.usable
        (orphan,) = found.orphans
        assert (orphan.about, orphan.cables) == (fake.about, {"lo1": spec})
        assert list(found.ledgers) == [orphan.ledger]
        assert list(found.fds) == [1]
        assert found.slots == {0, 1}
        assert (found.worker_slot(0), found.worker_slot(1)) == (0, None)
        closed(found)
    os.close(table.fd)
    os.close(device)


def test_passed_descriptors_are_used_by_name_and_unknown_ones_closed(tmp_path: Path) -> None:
    write(tmp_path, state())
    table = Table.create(8)
    names = ("lock", LEDGER, "lo1", "epair9a")
    fds = (pipe(), table.fd, pipe(), pipe())
    passed = [Inherited(fd, name) for fd, name in zip(fds, names, strict=True)]
    found = find_leftovers(tmp_path, passed, HOME, keep=("lock",))
    assert found.usable
    assert (found.fds, found.unknown) == ({1: fds[2]}, ["epair9a"])
    assert [is_open(fd) for fd in fds] == [True, True, True, False]
    os.close(fds[0])
    closed(found)
    assert not is_open(fds[2])


@pytest.mark.parametrize("home", [HOME, Identity(4, 6)])
def test_without_a_usable_state_everything_is_closed(tmp_path: Path, home: Identity) -> None:
    if home != HOME:
        write(tmp_path, state())
    table, device = Table.create(8), pipe()
    fake = FakeOrphan(0, 0, table.fd)
    path = tmp_path / socket_name(fake.process.pid)
    with fake.listening(tmp_path):
        found = find_leftovers(tmp_path, [Inherited(table.fd, LEDGER), Inherited(device, "lo1")], home)
    assert not found.usable
    assert (found.orphans, found.ledgers, found.fds, found.slots) == ([], {}, {}, set())
    assert set(found.unknown) == {LEDGER, "lo1"}
    assert not is_open(device)
    assert not path.exists()


def test_a_damaged_state_is_not_taken_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    damaged = state().model_copy(update={"workers": (SavedWorker(number=0, slot=1, pid=77, restarts=0),)})
    write(tmp_path, damaged)
    device = pipe()
    found = find_leftovers(tmp_path, [Inherited(device, "lo1")], HOME)
    assert (found.state, found.slots) == (None, set())
    assert not is_open(device)
    assert caplog.messages == [
        "the state that another daemon has left is damaged: slot 1 is there twice: not taken over"
    ]


def test_slots_of_an_older_state_file_are_not_used_again(tmp_path: Path) -> None:
    """A successor that only has the file would take another device in such a slot for the one it names."""
    write(tmp_path, state())
    passed = state().model_copy(update={"loopbacks": ()})
    table = Table.create(8)
    inherited = [Inherited(table.fd, LEDGER), Inherited(memory_file(passed), STATE)]
    found = find_leftovers(tmp_path, inherited, HOME)
    assert found.state == passed
    assert found.slots == {0, 1}
    closed(found)


def test_a_socket_without_a_process_is_removed(tmp_path: Path) -> None:
    write(tmp_path, state())
    fake = FakeOrphan(0, 0, -1)
    fake.end()
    path = tmp_path / socket_name(fake.process.pid)
    path.touch()
    found = find_leftovers(tmp_path, (), HOME)
    assert not path.exists()
    assert found.orphans == []


def test_the_configured_settings_of_what_the_configuration_created() -> None:
    configured = LoopbackSettings(mtu=1400)
    assert Leftovers().configured == {}
    assert Leftovers(state()).configured == {"lo1": LO}
    assert Leftovers(state(configured=configured)).configured == {"lo1": configured}
    assert Leftovers(state("runtime", configured)).configured == {}
