from __future__ import annotations

import ast
from pathlib import Path

import pytest

import epaird.dataplane
from epaird.dataplane.account import COUNT_MAX, Account, crossed
from epaird.dataplane.frames import HEADER
from epaird.ipc import counters
from epaird.ipc.counters import (
    ADDED_SEGMENTS,
    COALESCED_DATAGRAMS,
    COALESCED_SUPERFRAMES,
    HELD_BYTES,
    IBYTES,
    IERRORS,
    IMCASTS,
    IN_FLIGHT,
    IPACKETS,
    JOINING,
    LISTED,
    OACTIVE,
    OBYTES,
    OERRORS,
    OMCASTS,
    OPACKETS,
    OVERSIZE,
    PEER_DOWN,
    REASONS,
    RUNT,
    SLOT_WORDS,
    TOO_BIG,
    WRITE_ERROR,
)

MODULES = sorted(Path(epaird.dataplane.__path__[0]).glob("*.py"))


def imported_counters(module: Path) -> set[str]:
    """Return the names that a module imports from the catalogue of counters."""
    return {
        alias.name
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "epaird.ipc.counters"
        for alias in node.names
    }


class RecordingWords:
    """A slot that records the order of its stores."""

    def __init__(self, stores: list[int], label: int = 0) -> None:
        self._words = [0] * SLOT_WORDS
        self._stores = stores
        self._label = label

    def __getitem__(self, word: int) -> int:
        return self._words[word]

    def __setitem__(self, word: int, value: int) -> None:
        self._stores.append(self._label + word)
        self._words[word] = value


def account(stores: list[int] | None = None, label: int = 0) -> Account:
    made = Account(memoryview(bytearray(8 * SLOT_WORDS)).cast("Q"))
    made.words = RecordingWords([] if stores is None else stores, label)  # type: ignore[assignment]
    return made


def test_no_other_module_knows_the_words_of_an_interface() -> None:
    words = imported_counters(next(module for module in MODULES if module.name == "account.py"))
    assert {getattr(counters, name) for name in words} >= {
        each.word for each in counters.STATISTICS if each.word < SLOT_WORDS
    }
    for module in MODULES:
        assert module.name == "account.py" or not imported_counters(module) & words, module.name


def test_a_new_writer_clears_what_is_held_and_keeps_what_was_counted() -> None:
    words = memoryview(bytearray(b"\1" * 8 * SLOT_WORDS)).cast("Q")
    before = words[OPACKETS]
    Account(words).answered()
    assert words[TOO_BIG] == before + 1
    words[TOO_BIG] = before
    assert [words[each] for each in (IN_FLIGHT, LISTED, OACTIVE, HELD_BYTES)] == [0] * 4
    assert {words[each] for each in (OPACKETS, IPACKETS, OERRORS, IERRORS, TOO_BIG)} == {before}


def test_frames_are_counted_without_their_virtio_net_hdr() -> None:
    counted = account()
    frames = [bytes(HEADER + 100), bytes(HEADER + 60)]
    counted.transmitted(frames, 1)
    counted.received(frames, 2)
    counted.transmitted([], 0)
    assert [counted.words[each] for each in (OPACKETS, OBYTES, OMCASTS)] == [2, 160, 1]
    assert [counted.words[each] for each in (IPACKETS, IBYTES, IMCASTS)] == [2, 160, 2]


@pytest.mark.parametrize("reason", range(len(REASONS)))
def test_an_error_is_counted_in_the_word_of_its_reason(reason: int) -> None:
    words = memoryview(bytearray(8 * SLOT_WORDS)).cast("Q")
    counted = Account(words)
    counted.undeliverable(reason, 5)
    counted.refused([reason])
    counted.lost(reason, 2)
    found = {word: count for word, count in enumerate(words) if count}
    assert found == {OERRORS + reason: 6, IERRORS + reason: 2}


def test_errors_are_counted_by_reason_and_direction() -> None:
    counted = account()
    counted.refused([OVERSIZE, RUNT, OVERSIZE])
    counted.undeliverable(PEER_DOWN, 7)
    counted.lost(PEER_DOWN)
    counted.lost(WRITE_ERROR, 3)
    assert [counted.words[OERRORS + each] for each in (PEER_DOWN, OVERSIZE, RUNT)] == [7, 2, 1]
    assert [counted.words[IERRORS + each] for each in (PEER_DOWN, WRITE_ERROR)] == [1, 3]


def test_state_is_recorded() -> None:
    counted = account()
    counted.mark_listed(True)
    counted.mark_oactive(True)
    counted.held(500, 3)
    counted.held(-100, 2)
    counted.answered()
    counted.segmented(44)
    counted.segmented(3)
    assert counted.words[ADDED_SEGMENTS] == 47
    state = (LISTED, OACTIVE, HELD_BYTES, IN_FLIGHT, TOO_BIG)
    assert [counted.words[each] for each in state] == [1, 1, 400, 2, 1]
    counted.mark_listed(False)
    counted.mark_oactive(False)
    counted.in_flight(0)
    assert [counted.words[each] for each in (LISTED, OACTIVE, IN_FLIGHT)] == [0, 0, 0]


def test_a_burst_that_crossed_is_counted_in_the_order_that_settling_relies_on() -> None:
    stores: list[int] = []
    sender, receiver = account(stores), account(stores, 1000)
    receiver.in_flight(64)
    crossed(sender, receiver, 64, 9000, 2)
    assert stores == [
        *(1000 + IN_FLIGHT, 1000 + IN_FLIGHT),
        *(OPACKETS, OBYTES, OMCASTS),
        *(1000 + IPACKETS, 1000 + IBYTES, 1000 + IMCASTS),
    ]
    assert [sender.words[each] for each in (OPACKETS, OBYTES, OMCASTS)] == [64, 9000, 2]
    assert [receiver.words[each] for each in (IPACKETS, IBYTES, IMCASTS)] == [64, 9000, 2]
    assert receiver.words[IN_FLIGHT] == 0
    del stores[:]
    crossed(sender, receiver, 1, 60, 0)
    assert OMCASTS not in stores
    assert 1000 + IMCASTS not in stores


def test_joined_datagrams_are_counted_once_they_are_not_joining_any_more() -> None:
    stores: list[int] = []
    receiver = account(stores)
    receiver.joining(3, 20, 40)
    assert receiver.words[JOINING] == 3 << 32 | 20 << 16 | 40
    receiver.joined(2, 80)
    assert stores == [JOINING, JOINING, COALESCED_SUPERFRAMES, COALESCED_DATAGRAMS]
    state = (JOINING, COALESCED_SUPERFRAMES, COALESCED_DATAGRAMS)
    assert [receiver.words[each] for each in state] == [0, 2, 80]


def test_a_count_that_any_worker_may_have_written_does_not_end_the_next_one() -> None:
    words = memoryview(bytearray(SLOT_WORDS * 8)).cast("Q")
    words[OPACKETS], words[OBYTES] = (1 << 64) - 1, 7
    account = Account(words)
    account.transmitted([bytes(HEADER + 50)] * 2, 0)
    assert words[OPACKETS] == COUNT_MAX + 2
    assert words[OBYTES] == 107
