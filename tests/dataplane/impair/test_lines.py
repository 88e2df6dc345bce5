"""The lines of a worker: requests, descriptors, the timer."""

from __future__ import annotations

import os
from pathlib import Path

from epaird.ipc import ring
from epaird.ipc.counters import HELD_FRAMES, IPACKETS
from epaird.ipc.impairment import LineSpec
from epaird.ipc.messages import CableKind, Detach, Done, Drained, Keep
from epaird.ipc.ring import Ring
from tests.dataplane.conftest import numbered
from tests.dataplane.control import receives
from tests.dataplane.impair.loop import MS, impaired
from tests.loop import on_loop
from tests.waiting import eventually


def rings() -> int:
    """Return how many descriptors of rings this process has."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            found += "epaird-ring" in str(link.readlink())
        except FileNotFoundError:
            continue
    return found


@on_loop
async def test_frames_cross_and_the_descriptors_are_reported() -> None:
    async with impaired() as cable:
        await cable.attach(cable.spec(delay_ns=5 * MS))
        cable.a.sends(*numbered(5))
        assert await receives(cable.b, 5) == numbered(5)
        ((about, fds),) = cable.control.worker.attached()
        assert len(fds) == 3 == about.cable.descriptors
        await cable.detach()
        assert rings() == 1


@on_loop
async def test_a_worker_that_polls_delivers_too() -> None:
    async with impaired(spin_us=50) as cable:
        await cable.attach(cable.spec(delay_ns=5 * MS))
        cable.a.sends(*numbered(5))
        assert await receives(cable.b, 5) == numbered(5)
        lines = cable.control.worker._lines
        await eventually(lambda: not lines._timetable._watching)


@on_loop
async def test_a_line_that_is_removed_is_reported_once_it_is_empty() -> None:
    async with impaired() as cable:
        await cable.attach(cable.spec(delay_ns=300 * MS))
        cable.a.sends(*numbered(5))
        await eventually(lambda: cable.control.words(3)[HELD_FRAMES] == 5)
        await cable.impair(None)
        ((about, fds),) = cable.control.worker.attached()
        assert about.cable.ports[0].line[0].draining
        assert len(fds) == 3
        assert await receives(cable.b, 5) == numbered(5)
        await eventually(lambda: Drained("epair0", 0) in cable.control.received)
        ((about, fds),) = cable.control.worker.attached()
        assert about.cable.ports[0].line == ()
        assert len(fds) == 2
        await cable.impair(None)
        await eventually(lambda: cable.control.received.count(Drained("epair0", 0)) == 2)


@on_loop
async def test_a_line_that_is_attached_as_draining_is_dropped_once_it_is_empty() -> None:
    async with impaired() as cable:
        await cable.attach(LineSpec(3, draining=True))
        await eventually(lambda: Drained("epair0", 0) in cable.control.received)


@on_loop
async def test_another_ring_is_used_once_nothing_is_held() -> None:
    async with impaired() as cable:
        other = ring.create("epair0a", 32 << 20)
        await cable.attach(cable.spec(delay_ns=300 * MS))
        cable.a.sends(*numbered(3))
        await eventually(lambda: cable.control.words(3)[HELD_FRAMES] == 3)
        refusal = "epair0a: another ring cannot be used while frames are held"
        await cable.impair(cable.spec(), other, error=refusal)
        assert await receives(cable.b, 3) == numbered(3)
        await eventually(lambda: cable.control.words(3)[HELD_FRAMES] == 0)
        await cable.impair(cable.spec(), other)
        cable.a.sends(*numbered(3))
        assert await receives(cable.b, 3) == numbered(3)
        await cable.detach()
        assert rings() == 2
        os.close(other)


@on_loop
async def test_what_is_no_ring_is_refused_and_closed() -> None:
    async with impaired() as cable:
        own, cable.ring = cable.ring, os.open("/dev/null", os.O_RDWR)
        refusal = "epair0a: not a ring: [Errno 22] Invalid argument"
        await cable.attach(cable.spec(), error=refusal)
        assert not cable.control.worker._cables
        await cable.attach(None)
        await cable.impair(cable.spec(), error=refusal)
        ((about, _),) = cable.control.worker.attached()
        assert about.cable.ports[0].line == ()
        os.close(own)
        assert rings() == 0


@on_loop
async def test_a_ring_has_one_line() -> None:
    """Two would overwrite each other's frames."""
    async with impaired() as cable:
        await cable.attach(cable.spec())
        refusal = "epair0b: its ring is in use"
        await cable.impair(cable.spec(), port=1, error=refusal)


@on_loop
async def test_requests_for_what_cannot_be_impaired_are_refused() -> None:
    async with impaired() as cable:
        await cable.impair(cable.spec(), error="epair0 is not attached")
        await cable.attach(None)
        await cable.impair(cable.spec(), port=2, error="epair0 has no port 2 that can be impaired")
        assert rings() == 1
        await cable.detach()
        refusal = "epair0: only a cable between two ports can be impaired"
        await cable.attach(cable.spec(), error=refusal, kind=CableKind.REFLECT)


@on_loop
async def test_a_paused_cable_releases_nothing() -> None:
    async with impaired() as cable:
        await cable.attach(cable.spec(delay_ns=300 * MS))
        cable.a.sends(*numbered(5))
        await eventually(lambda: cable.control.words(3)[HELD_FRAMES] == 5)
        cable.control.pause()
        cable.a.sends(*numbered(1))
        ((_, _),) = cable.control.worker.attached()
        assert cable.control.worker._lines._timetable.next_ns
        cable.control.proceed()
        assert len(await receives(cable.b, 6)) == 6
        assert cable.control.words(2)[IPACKETS] == 6


@on_loop
async def test_a_ring_that_holds_nothing_gives_its_memory_back_while_the_worker_has_it() -> None:
    async with impaired() as cable:
        await cable.attach(cable.spec())
        lines = cable.control.worker._lines
        cable.a.sends(*numbered(5))
        assert await receives(cable.b, 5) == numbered(5)

        def fill() -> int:
            """Use some memory behind what is kept; return how much is used then."""
            used = Ring(cable.ring)
            used.data[16 << 20 : 18 << 20] = bytes([7]) * (2 << 20)
            used.close()
            return os.fstat(cable.ring).st_blocks * 512

        full = fill()
        lines.tend()
        lines.tend()
        assert os.fstat(cable.ring).st_blocks * 512 <= full - (2 << 20)
        cable.a.sends(*numbered(5))
        assert await receives(cable.b, 5) == numbered(5)
        cable.control.worker.handle(Keep(1, "epair0", 0), [])
        assert Done(1) in cable.control.received
        full = fill()
        for _ in range(3):
            lines.tend()
        assert os.fstat(cable.ring).st_blocks * 512 == full, "another process may have it"
        cable.control.worker.handle(Detach(2, "epair0", 0), [])


@on_loop
async def test_the_ring_of_a_cable_that_is_kept_is_given_to_the_next_one() -> None:
    """The half is patched to another: the next cable has another name."""
    async with impaired() as cable:
        await cable.attach(cable.spec(delay_ns=5 * MS))
        cable.control.worker.handle(Keep(1, "epair0", 0), [])
        await cable.attach(cable.spec(delay_ns=5 * MS), name="epair0a-epair1b")
        cable.control.worker.handle(Detach(2, "epair0", 0), [])
        cable.a.sends(*numbered(5))
        assert await receives(cable.b, 5) == numbered(5)
        cable.control.worker.handle(Detach(3, "epair0a-epair1b", 0), [])
