"""Decisions: the same for every division of the traffic, and after every change of process."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.dataplane.impair.decisions import DROPS, STATE_WORDS, Decisions, Fate, Hit
from epaird.ipc.impairment import LineParameters, LineSpec, LossChain, Phase

FULL: Final = 1538
"""Bytes on the wire of a full frame."""
MS: Final = 1_000_000
BUSY: Final = LineParameters(
    loss=LossChain(0.05, 0.4, 0.9, 0.01), ber=2e-6, duplicate=0.05, corrupt=0.03, reorder=0.04
)

EXACT: Final = [
    Hit(32, Fate.LOSS),
    Hit(127, Fate.DUPLICATE),
    Hit(145, Fate.LOSS),
    Hit(191, Fate.LOSS),
    Hit(194, Fate.LOSS),
    Hit(290, Fate.LOSS),
    Hit(405, Fate.BER),
    Hit(419, Fate.LOSS),
]


def independent(probability: float) -> LossChain:
    return LossChain(probability, 1 - probability)


def fates(
    decisions: Decisions, sizes: list[int], parts: list[int], now_ns: int = 0
) -> list[tuple[int, Fate]]:
    """Judge segments in calls of so many, after asking whether they are quiet; return absolute numbers."""
    found = []
    done = 0
    for part in parts:
        first, burst = decisions.segment, sizes[done : done + part]
        done += part
        if not decisions.quiet(now_ns, len(burst), 8 * sum(burst)):
            found += [(first + hit.segment, hit.fate) for hit in decisions.judge(now_ns, burst)]
    assert done >= len(sizes)
    return found


def test_a_line_that_does_nothing_is_quiet() -> None:
    decisions = Decisions(LineSpec(seed=1))
    assert not decisions.judge(5, [FULL])
    assert decisions.quiet(5, 1 << 40, 1 << 54)
    assert decisions.segment == (1 << 40) + 1
    assert decisions.deadline(7, FULL) == 7
    assert not decisions.shaped
    assert decisions.piece_octets == 0


def test_a_seed_hits_exactly_these_segments() -> None:
    spec = LineSpec(seed=7, parameters=LineParameters(loss=independent(0.01), duplicate=0.003, ber=1e-7))
    assert Decisions(spec).judge(0, [FULL] * 460) == EXACT


@given(
    seed=st.integers(0, 2**64 - 1),
    sizes=st.lists(st.integers(84, 9000), min_size=1, max_size=300),
    parts=st.lists(st.integers(1, 64), max_size=300),
)
def test_the_division_of_the_traffic_changes_nothing(seed: int, sizes: list[int], parts: list[int]) -> None:
    spec = LineSpec(seed=seed, parameters=BUSY)
    whole = fates(Decisions(spec), sizes, [len(sizes)])
    assert fates(Decisions(spec), sizes, [1] * len(sizes)) == whole
    assert fates(Decisions(spec), sizes, [45] * 7) == whole
    assert fates(Decisions(spec), sizes, [*parts, len(sizes)]) == whole
    assert whole == sorted(whole)


@given(
    seed=st.integers(0, 2**64 - 1),
    sizes=st.lists(st.integers(84, 9000), min_size=1, max_size=300),
    parts=st.lists(st.integers(1, 64), max_size=300),
)
def test_a_segment_is_dropped_once_and_then_has_no_other_fate(
    seed: int, sizes: list[int], parts: list[int]
) -> None:
    found = fates(Decisions(LineSpec(seed=seed, parameters=BUSY)), sizes, [*parts, len(sizes)])
    dropped = [segment for segment, fate in found if fate in DROPS]
    assert len(dropped) == len(set(dropped))
    assert not set(dropped) & {segment for segment, fate in found if fate not in DROPS}


RICH: Final = LineSpec(
    seed=11,
    applied_ns=MS,
    parameters=replace(BUSY, delay_ns=3 * MS, jitter_ns=MS, rate=10**7, limit_bytes=20_000, codel=True),
    phases=(
        Phase(20 * MS, 10 * MS, 60 * MS, replace(BUSY, delay_ns=MS, loss=independent(0.5), limit_segments=9)),
        Phase(90 * MS, 0, 0, replace(BUSY, rate=10**8, duplicate=0.0, limit_segments=30)),
    ),
)
TRACE: Final = [MS * each for each in (0, 3, 3, 4, 9, 12)]


@pytest.mark.parametrize("trace", [None, TRACE])
@pytest.mark.parametrize("renew", [1, 3, 10])
def test_a_successor_goes_on_exactly(renew: int, trace: list[int] | None) -> None:
    first, second = Decisions(RICH, (), trace), Decisions(RICH, (), trace)
    for step in range(400):
        now = MS + step * MS // 3
        sizes = [84 + 97 * (step * 3 + index) % 1455 for index in range(3)]
        if step % renew == 0:
            second = Decisions(RICH, second.state(), trace)
        assert second.judge(now, sizes) == first.judge(now, sizes)
        for octets in sizes:
            assert second.deadline(now, octets) == first.deadline(now, octets)
        assert second.state() == first.state()
    assert len(first.state()) == STATE_WORDS
    assert all(0 <= word < 2**64 for word in first.state())


def test_a_state_of_zeros_is_that_of_a_new_line() -> None:
    spec = LineSpec(seed=3, parameters=BUSY)
    assert Decisions(spec, [0] * STATE_WORDS).judge(0, [FULL] * 100) == Decisions(spec).judge(0, [FULL] * 100)


def test_processes_with_the_same_numbers_go_on_after_a_change() -> None:
    spec = LineSpec(seed=3, parameters=BUSY)
    expected = [hit for hit in Decisions(spec).judge(0, [FULL] * 2000) if hit.fate is not Fate.DUPLICATE]
    changed = Decisions(spec)
    found = fates(changed, [FULL] * 700, [700])
    other = replace(spec, applied_ns=99, parameters=replace(BUSY, duplicate=0.0, delay_ns=5))
    changed = Decisions(other, changed.state())
    found += fates(changed, [FULL] * 1300, [64] * 21)
    assert [hit for hit in found if hit[1] is not Fate.DUPLICATE] == expected


def test_a_process_that_was_off_begins_at_the_present_segment() -> None:
    quiet = Decisions(LineSpec(seed=3))
    quiet.judge(0, [FULL] * 10)
    loud = Decisions(LineSpec(seed=3, parameters=LineParameters(loss=LossChain(1, 0))), quiet.state())
    assert loud.judge(0, [FULL] * 2) == [Hit(0, Fate.LOSS), Hit(1, Fate.LOSS)]
    assert loud.segment == 12


def test_another_seed_decides_otherwise() -> None:
    first = Decisions(LineSpec(seed=1, parameters=BUSY))
    second = Decisions(LineSpec(seed=2, parameters=BUSY), first.state())
    assert first.judge(0, [FULL] * 500) != second.judge(0, [FULL] * 500)


def test_phases_replace_the_parameters_and_name_the_reason() -> None:
    spec = LineSpec(
        seed=5,
        applied_ns=1000 * MS,
        parameters=LineParameters(delay_ns=MS, loss=independent(0.5)),
        phases=(
            Phase(10 * MS, 10 * MS, 0, LineParameters(loss=LossChain(1, 0))),
            Phase(30 * MS, 10 * MS, 0, LineParameters(delay_ns=7 * MS, loss=independent(0.5))),
        ),
    )
    decisions = Decisions(spec)
    reasons = []
    for moment in (0, 9, 10, 19, 20, 30, 39, 40):
        now = (1000 + moment) * MS
        assert not decisions.quiet(now, 1, 8 * FULL) or moment in (9, 19, 39)
        found = decisions.judge(now, [FULL] * 200)
        reasons.append({(hit.fate, len(found) == 200) for hit in found})
    loss, all_of_them = {(Fate.LOSS, False)}, {(Fate.SCHEDULE, True)}
    assert reasons == [loss, loss, all_of_them, all_of_them, loss, loss, loss, loss]


def test_a_phase_that_leaves_the_losses_alone_does_not_change_which_segments_are_lost() -> None:
    parameters = LineParameters(loss=LossChain(0.02, 0.3))
    spec = LineSpec(seed=5, parameters=parameters)
    phased = replace(spec, phases=(Phase(MS, 5 * MS, 7 * MS, replace(parameters, delay_ns=MS)),))
    decisions = Decisions(phased)
    found = []
    for step in range(100):
        found += fates(decisions, [FULL] * 10, [10], step * MS)
    assert found == fates(Decisions(spec), [FULL] * 1000, [1000])


def test_deadlines_never_go_back() -> None:
    spec = LineSpec(seed=1, parameters=LineParameters(delay_ns=100 * MS))
    decisions = Decisions(spec)
    assert decisions.deadline(5, FULL) == 5 + 100 * MS
    changed = Decisions(replace(spec, parameters=LineParameters(delay_ns=MS)), decisions.state())
    assert changed.deadline(10, FULL) == 5 + 100 * MS
    assert changed.deadline(200 * MS, FULL) == 201 * MS


def test_the_delay_begins_when_the_queue_is_left() -> None:
    spec = LineSpec(parameters=LineParameters(delay_ns=10 * MS, rate=8_000_000))
    decisions = Decisions(spec)
    assert [decisions.deadline(MS, 1000) for _ in range(3)] == [12 * MS, 13 * MS, 14 * MS]
    assert decisions.shaped
    assert decisions.piece_octets == 1000


def test_a_change_of_the_rate_keeps_what_was_accepted() -> None:
    slow = LineSpec(parameters=LineParameters(rate=8_000_000))
    decisions = Decisions(slow)
    assert decisions.deadline(MS, 5000) == 6 * MS
    none = Decisions(LineSpec(), decisions.state())
    assert none.deadline(MS, 1000) == 6 * MS
    fast = Decisions(LineSpec(parameters=LineParameters(rate=80_000_000)), none.state())
    assert fast.deadline(MS, 1000) == 6 * MS + MS // 10


def test_a_replay_decides_by_its_file_alone() -> None:
    limited = LineParameters(loss=independent(0.5), rate=1000, limit_segments=1, codel=True)
    spec = LineSpec(seed=4, applied_ns=77, parameters=limited, replay=True)
    before = Decisions(replace(spec, replay=False, applied_ns=5))
    before.judge(77, [FULL] * 30)
    numbers = [2, Fate.LOSS, 2, 99, 5, Fate.QUEUE_FULL, 70, Fate.MARK]
    decisions = Decisions(spec, before.state(), None, numbers)
    assert fates(decisions, [FULL] * 3, [3], 77) == [(32, Fate.LOSS)]
    decisions = Decisions(spec, decisions.state(), None, numbers)
    assert fates(decisions, [FULL] * 90, [1] * 90, 77) == [(35, Fate.QUEUE_FULL), (100, Fate.MARK)]
    assert not any(isinstance(decisions.deadline(77, FULL), Fate) for _ in range(10))

    after = Decisions(replace(spec, replay=False), decisions.state())
    found = fates(after, [FULL] * 100, [100])
    assert min(segment for segment, _ in found) >= 123
    assert 20 < len(found) < 80


@given(st.integers(0, 2**63), st.integers(1, 1 << 20))
def test_the_wrong_bit_is_one_of_the_segment(segment: int, bits: int) -> None:
    decisions = Decisions(LineSpec(seed=9))
    assert 0 <= decisions.corrupt_bit(segment, bits) < bits
    assert decisions.corrupt_bit(segment, bits) == Decisions(LineSpec(seed=9)).corrupt_bit(segment, bits)


def test_wrong_bits_are_everywhere() -> None:
    decisions = Decisions(LineSpec(seed=9))
    assert {decisions.corrupt_bit(segment, 100) for segment in range(2000)} == set(range(100))


def test_a_trace_that_takes_no_time_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="after 0"):
        Decisions(LineSpec(trace=True), (), [0])


def goodput(rate: int, seconds: int = 20) -> float:
    """Bits of TCP's payload a second through a queue that is never empty."""
    decisions = Decisions(LineSpec(parameters=LineParameters(rate=rate, delay_ns=10 * MS)))
    count = rate * seconds // (8 * FULL)
    last = 0
    for _ in range(count // 45):
        answer = decisions.deadline(0, FULL * 45, 45)
        assert not isinstance(answer, Fate)
        last = answer
    return count // 45 * 45 * 1448 * 8 / ((last - 10 * MS) / 1e9)


@pytest.mark.parametrize("rate", [10**7, 10**8, 10**9])
def test_the_goodput_of_tcp_is_that_of_theory(rate: int) -> None:
    assert goodput(rate) == pytest.approx(rate * 1448 / FULL, rel=1e-6)
