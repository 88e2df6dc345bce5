"""Whatever a process has written to a ring, the worker that is given it forwards."""

from __future__ import annotations

import os
import struct
import time
from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from epaird.dataplane.impair.decisions import STATE_WORDS
from epaird.ipc.counters import HELD_FRAMES, IERRORS, IPACKETS, OPACKETS, REASONS_MAX, WRITE_ERROR
from epaird.ipc.impairment import LineParameters, LineSpec, LossChain
from epaird.ipc.ringfile import (
    BIAS,
    COUNTED,
    DECISIONS,
    DIFFERENCE,
    HEAD,
    INTAKE,
    LAST,
    PAGE,
    RECORD,
    RELEASE,
    REPLACED,
    STATE,
    TABLE,
)
from tests.dataplane.conftest import numbered
from tests.dataplane.control import receives
from tests.dataplane.impair.loop import MS, Impaired, impaired
from tests.loop import on_loop, turns
from tests.waiting import eventually

HELD: Final = 40
FOREVER: Final = (1 << 62) - 1
RECORD_WORDS: Final = RECORD.size // 8
QUEUE: Final = DECISIONS + 4
"""Words of the decisions' queue: 4 of the rate, 13 of what waits, 5 of CoDel."""
CODEL: Final = QUEUE + 17

HOLDING: Final = LineParameters(delay_ns=10_000 * MS)
PARAMETERS: Final = (
    HOLDING,
    LineParameters(rate=10**8, limit_segments=30, codel=True, ecn=True),
    LineParameters(rate=10**6, limit_bytes=20_000, codel=True),
    LineParameters(
        jitter_ns=MS, jitter_correlation=0.5, distribution="pareto", loss=LossChain(0.1, 0.3, 1.0, 0.0),
        duplicate=0.2, corrupt=0.2, ber=1e-4, reorder=0.2,
    ),
)  # fmt: skip

Poison = tuple[int, int, int]
"""Page, word, and number."""
NUMBERS = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.sampled_from([0, 1, 2, 1 << 32, BIAS, BIAS - 1, BIAS + 1, 1 << 61, 1 << 63, (1 << 64) - 1]),
)
POISON = st.one_of(
    st.tuples(
        st.sampled_from([0, STATE, INTAKE, INTAKE + 1, RELEASE, RELEASE + 1]), st.integers(0, 60), NUMBERS
    ),
    st.tuples(
        st.sampled_from([INTAKE, INTAKE + 1]), st.integers(DECISIONS, DECISIONS + STATE_WORDS), NUMBERS
    ),
    st.tuples(st.just(TABLE), st.integers(0, (HELD + 12) * RECORD_WORDS), NUMBERS),
)


def poison(fd: int, places: list[Poison]) -> None:
    """Write as a process that has the ring, in both copies of a state."""
    for page, word, number in places:
        for copy in {INTAKE: (0, 1), RELEASE: (0, 1)}.get(page, (0,)):
            os.pwrite(fd, struct.pack("=Q", number), (page + copy) * PAGE + 8 * word)


def spec_of(parameters: LineParameters) -> LineSpec:
    return LineSpec(3, 7, time.monotonic_ns(), parameters=parameters)


async def hold(cable: Impaired, parameters: LineParameters = HOLDING) -> None:
    """Have the ring hold frames that no worker has."""
    await cable.attach(spec_of(parameters))
    cable.a.sends(*numbered(HELD))
    await eventually(lambda: cable.control.words(1)[OPACKETS] == HELD)
    await cable.detach()


def release_all(cable: Impaired) -> None:
    """Release what is due at any time."""
    timetable = cable.control.worker._lines._timetable
    for _ in range(3):
        for line in {held.line for held in cable.control.worker._lines._held.values()}:
            timetable.schedule(line, 0)
        timetable.run(time.monotonic_ns(), FOREVER)
        cable.b.receives()


@given(
    st.sampled_from(PARAMETERS), st.sampled_from(PARAMETERS),
    st.lists(POISON, max_size=4), st.lists(POISON, max_size=4),
)  # fmt: skip
@example(PARAMETERS[1], PARAMETERS[1], [(INTAKE, CODEL + 2, 0), (INTAKE, CODEL + 4, 1)], [])
@example(PARAMETERS[1], PARAMETERS[1], [(INTAKE, QUEUE, (1 << 64) - 1)], [])
@example(HOLDING, HOLDING, [(RELEASE, COUNTED, (1 << 64) - 1)], [])
@example(HOLDING, HOLDING, [(RELEASE, REPLACED, 1 << 60), (RELEASE, REPLACED + 6, 1 << 63)], [])
@example(HOLDING, HOLDING, [(TABLE, 5, (1 << 64) - 1)], [])
@example(HOLDING, HOLDING, [], [(TABLE, 5, (1 << 64) - 1), (TABLE, 1, 1 << 63), (STATE, DIFFERENCE, 0)])
@example(HOLDING, HOLDING, [], [(TABLE, 3, 0xFFFF_FFFF_FFFF_FFFF), (TABLE, RECORD_WORDS + 2, 1)])
@settings(max_examples=150, deadline=None)
@on_loop
async def test_no_content_of_a_ring_ends_a_worker(
    before: LineParameters, after: LineParameters, left: list[Poison], written: list[Poison]
) -> None:
    """``left`` is what a worker has left in the ring, ``written`` what it writes after it had to give it
    away."""
    async with impaired() as cable:
        await hold(cable, before)
        poison(cable.ring, left)
        for _ in range(2):
            await cable.attach(spec_of(after))
            poison(cable.ring, written)
            cable.a.sends(*numbered(10))
            await turns(5)
            release_all(cable)
            cable.a.sends(*numbered(10))
            await turns(5)
            release_all(cable)
            await cable.detach()


@pytest.mark.parametrize(
    ("places", "fault"),
    [
        ([(0, 0, 7)], "not a ring of this version"),
        ([(INTAKE, HEAD, 1 << 63)], "the state of a ring contradicts itself"),
        ([(TABLE, 5 * RECORD_WORDS + 3, 7)], "the records of a ring contradict its state"),
        ([(TABLE, 1, 1 << 50)], "a record of a ring is beyond its data"),
        ([(TABLE, 0, FOREVER)], "a record of a ring is due after the last one"),
    ],
)
def test_a_ring_that_no_line_leaves_begins_anew(
    places: list[Poison], fault: str, capfd: pytest.CaptureFixture[str]
) -> None:
    @on_loop
    async def scenario() -> None:
        async with impaired() as cable:
            await hold(cable)
            receiver, line = cable.control.words(2), cable.control.table.read(3)
            poison(cable.ring, places)
            await cable.attach(spec_of(LineParameters()))
            cable.a.sends(*numbered(5))
            assert await receives(cable.b, 5) == numbered(5)
            await eventually(lambda: receiver[IPACKETS] == 5)
            assert sum(receiver[IERRORS : IERRORS + REASONS_MAX]) == HELD == receiver[IERRORS + WRITE_ERROR]
            now = cable.control.table.read(3)
            assert now[HELD_FRAMES] == 0
            assert all(
                after >= first
                for word, (first, after) in enumerate(zip(line, now, strict=True))
                if not HELD_FRAMES <= word < HELD_FRAMES + 3
            )

    scenario()
    assert capfd.readouterr().err.count(f"epair0a: {fault}: the frames that impairment held are lost") == 1


@on_loop
async def test_a_deadline_that_no_impairment_makes_is_lowered() -> None:
    async with impaired() as cable:
        await hold(cable)
        poison(
            cable.ring, [(INTAKE, LAST, FOREVER), (INTAKE, DECISIONS + 3, FOREVER), (INTAKE, QUEUE, FOREVER)]
        )
        poison(cable.ring, [(TABLE, number * RECORD_WORDS, FOREVER) for number in range(HELD)])
        await cable.attach(LineSpec(3, 7, time.monotonic_ns(), longest_ns=20 * MS))
        cable.a.sends(*numbered(5))
        assert len(await receives(cable.b, HELD + 5)) == HELD + 5


@on_loop
async def test_decisions_that_contradict_themselves_begin_anew(capfd: pytest.CaptureFixture[str]) -> None:
    async with impaired() as cable:
        await hold(cable)
        poison(cable.ring, [(INTAKE, DECISIONS + 1, 1 << 63)])
        await cable.attach(spec_of(LineParameters()))
        assert (
            "epair0a: the state of its decisions contradicts itself: they begin anew"
            in capfd.readouterr().err
        )
        release_all(cable)
        assert cable.control.words(2)[IPACKETS] == HELD, "what is held is not touched"
