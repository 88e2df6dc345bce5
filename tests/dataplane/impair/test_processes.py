"""The processes side by side: counts, independence, bit errors in the space of bits."""

from __future__ import annotations

import math
from typing import Final

import pytest

from epaird.dataplane.impair.fates import Fate, Hit
from epaird.dataplane.impair.processes import PROCESSES_WORDS, UNCHECKED_BITS, Processes
from epaird.ipc.impairment import LineParameters, LossChain
from tests.dataplane.impair.oracles import within

FULL: Final = 1538
COUNT: Final = 200_000
NEW: Final = (0,) * PROCESSES_WORDS


def hits(parameters: LineParameters, sizes: list[int], seed: int = 1) -> list[Hit]:
    processes = Processes(seed, parameters, Fate.LOSS, 0, 0, NEW)
    bits = 8 * sum(sizes) - UNCHECKED_BITS * len(sizes)
    return processes.hits(0, 0, sizes, bits)


def test_each_process_hits_as_often_as_asked_for_and_independently_of_the_others() -> None:
    parameters = LineParameters(
        loss=LossChain(0.02, 0.98), duplicate=0.03, corrupt=0.04, reorder=0.05, ber=1e-6
    )
    found = hits(parameters, [FULL] * COUNT)
    of: dict[Fate, set[int]] = {fate: {hit.segment for hit in found if hit.fate is fate} for fate in Fate}
    wrong = 1 - (1 - 1e-6) ** (8 * FULL - UNCHECKED_BITS)
    passed = 0.98 * (1 - wrong)
    assert within(len(of[Fate.LOSS]), COUNT, 0.02)
    assert within(len(of[Fate.BER]), COUNT, 0.98 * wrong)
    assert within(len(of[Fate.DUPLICATE]), COUNT, 0.03 * passed)
    assert within(len(of[Fate.CORRUPT]), COUNT, 0.04 * passed)
    assert within(len(of[Fate.REORDER]), COUNT, 0.05 * passed)
    assert within(len(of[Fate.DUPLICATE] & of[Fate.CORRUPT]), COUNT, 0.03 * 0.04 * passed)
    assert within(len(of[Fate.CORRUPT] & of[Fate.REORDER]), COUNT, 0.04 * 0.05 * passed)


@pytest.mark.parametrize("octets", [84, 600, FULL, 9038])
@pytest.mark.parametrize("ber", [1e-3, 1e-5, 1e-6])
def test_a_frame_is_lost_for_any_wrong_bit_that_its_check_sequence_protects(ber: float, octets: int) -> None:
    found = hits(LineParameters(ber=ber), [octets] * 50_000)
    bits = 8 * octets - UNCHECKED_BITS
    assert within(len(found), 50_000, -math.expm1(bits * math.log1p(-ber)))


def test_long_frames_are_lost_more_often_than_short_ones_in_the_same_traffic() -> None:
    found = {hit.segment for hit in hits(LineParameters(ber=1e-6), [84, FULL] * (COUNT // 2))}
    short, long = sum(each % 2 == 0 for each in found), sum(each % 2 for each in found)
    assert within(short, COUNT // 2, -math.expm1(-512e-6))
    assert within(long, COUNT // 2, -math.expm1(-12144e-6))


def test_very_rare_bit_errors_come_as_seldom_as_asked_for() -> None:
    processes = Processes(1, LineParameters(ber=1e-12), Fate.LOSS, 0, 0, NEW)
    bits = 9000 * 8 - UNCHECKED_BITS
    bit = 0
    for _ in range(2000):
        # The place of the next error, without the frames before it.
        bit = processes.next_bit // bits * bits
        assert processes.hits(0, bit, [9000], bit + bits) == [Hit(0, Fate.BER)]
        bit += bits
    # The time until the 2000th error has a mean of 2000e12 bits and a relative deviation of 1 / sqrt(2000).
    assert abs(bit / 2000e12 - 1) < 5 / math.sqrt(2000)


def test_certain_errors_hit_every_frame() -> None:
    assert hits(LineParameters(ber=1.0), [84] * 3) == [Hit(index, Fate.BER) for index in range(3)]


def test_a_lost_segment_is_a_loss_even_with_a_wrong_bit() -> None:
    parameters = LineParameters(loss=LossChain(1, 0), ber=1.0, duplicate=1.0)
    assert hits(parameters, [84] * 2) == [Hit(0, Fate.LOSS), Hit(1, Fate.LOSS)]


def test_a_segment_can_have_several_fates() -> None:
    parameters = LineParameters(duplicate=1.0, corrupt=1.0, reorder=1.0)
    assert hits(parameters, [84]) == [Hit(0, Fate.DUPLICATE), Hit(0, Fate.CORRUPT), Hit(0, Fate.REORDER)]


def test_the_words_are_all_that_a_successor_needs() -> None:
    parameters = LineParameters(loss=LossChain(0.1, 0.5), duplicate=0.1, corrupt=0.1, reorder=0.1, ber=1e-5)
    first = Processes(1, parameters, Fate.LOSS, 0, 0, NEW)
    bits = 100 * (8 * FULL - UNCHECKED_BITS)
    first.hits(0, 0, [FULL] * 100, bits)
    second = Processes(1, parameters, Fate.LOSS, 100, bits, first.words())
    assert len(first.words()) == PROCESSES_WORDS
    assert (first.next, first.next_bit) == (second.next, second.next_bit)
    rest = (100, bits, [FULL] * 100, 2 * bits)
    assert first.hits(*rest) == second.hits(*rest)
