"""The catalogue: every word has one meaning, and each counter has a description."""

from __future__ import annotations

import pytest

from epaird.ipc import counters
from epaird.ipc.counters import REASON_HELP, REASONS, REASONS_MAX, SLOT_WORDS, Counter
from epaird.ipc.ledger import LAYOUT_1


@pytest.mark.parametrize("catalogue", [counters.INTERFACE, counters.WORKER, counters.IMPAIRMENT])
def test_words_do_not_overlap(catalogue: tuple[Counter, ...]) -> None:
    words = [word for each in catalogue for word in range(each.word, each.word + words_of(each))]
    assert len(set(words)) == len(words)
    assert max(words) < counters.READING_WORDS
    assert all(each.word + words_of(each) <= SLOT_WORDS or each.word >= SLOT_WORDS for each in catalogue)
    names = [each.name for each in catalogue]
    assert len(set(names)) == len(names)


def words_of(counter: Counter) -> int:
    if counter.histogram:
        return counters.LATE_BUCKETS_MAX
    return REASONS_MAX if counter.by_reason else 1


def test_each_constant_is_a_word_of_the_catalogue() -> None:
    words = {each.name: each.word for each in counters.INTERFACE}
    assert all(getattr(counters, name.upper()) == word for name, word in words.items())


def test_each_constant_of_lines_is_a_word_of_their_catalogue() -> None:
    words = {each.name: each.word for each in counters.IMPAIRMENT}
    assert all(getattr(counters, name.upper()) == word for name, word in words.items())


def test_reasons_of_lines_fit_and_are_explained() -> None:
    assert counters.LINE_REASONS == ("loss", "queue_full", "aqm", "ber", "schedule")
    assert set(counters.LINE_REASON_HELP) == set(counters.LINE_REASONS)
    assert len(counters.LATE_BOUNDS_NS) + 1 == counters.LATE_BUCKETS_MAX
    assert sorted(set(counters.LATE_BOUNDS_NS)) == list(counters.LATE_BOUNDS_NS)


LINE_LAYOUT_2 = {
    "cut": 0, "duplicated": 1, "corrupted": 2, "reordered": 3, "marked": 4, "held_frames": 5,
    "held_segments": 6, "line_held_bytes": 7, "osegments": 8, "isegments": 9, "late_sum_ns": 10, "target": 11,
    "esegments": 12, "full": 13,
    "impaired": 16, "late_buckets": 32, "migrating": 63,
}  # fmt: skip
LAYOUT_2 = {
    "opackets": 0, "obytes": 1, "omcasts": 2, "ipackets": 3, "ibytes": 4, "imcasts": 5, "in_flight": 6,
    "listed": 7, "oactive": 8, "coalesced_datagrams": 9, "coalesced_superframes": 10, "joining": 11,
    "held_bytes": 12, "too_big": 13, "down": 14, "added_segments": 15, "oerrors": 16, "ierrors": 32,
    "migrating": 63,
}  # fmt: skip
"""The words of an interface since epaird 0.2.0, and the reasons of 0.3.0: new ones are only appended."""
WORKER_LAYOUT_2 = {"heartbeat_ns": 0, "cpu_ns": 1, "queue_frames": 2, "drain_list": 3, "oactive": 4}
REASONS_2 = ("peer_down", "oversize", "runt", "write_error", "worker_lost", "family", "flushed")


def test_no_word_of_the_layout_that_is_in_use_has_moved() -> None:
    """A ledger outlives the program that wrote it, and workers of two versions count in one."""
    assert (counters.LAYOUT, SLOT_WORDS, REASONS_MAX) == (2, 64, 16)
    assert {each.name: each.word for each in counters.INTERFACE}.items() >= LAYOUT_2.items()
    assert {each.name: each.word for each in counters.WORKER}.items() >= WORKER_LAYOUT_2.items()
    assert {each.name: each.word for each in counters.IMPAIRMENT}.items() >= LINE_LAYOUT_2.items()
    assert REASONS[: len(REASONS_2)] == REASONS_2
    names = ("HEARTBEAT_NS", "CPU_NS", "QUEUE_FRAMES", "DRAIN_LIST", "WORKER_OACTIVE")
    assert [getattr(counters, name) for name in names] == list(WORKER_LAYOUT_2.values())


def test_the_words_that_a_reading_appends_are_behind_the_slot() -> None:
    appended = [each.word for each in counters.INTERFACE if each.word >= SLOT_WORDS]
    assert appended == list(range(SLOT_WORDS, counters.READING_WORDS))


def test_only_errors_are_counted_by_reason() -> None:
    assert [each.name for each in counters.INTERFACE if each.by_reason] == ["oerrors", "ierrors"]


def test_users_see_each_counter_of_frames_and_no_state() -> None:
    """Clients rely on the keys and, in tables, on their order."""
    shown = [each.name for each in counters.STATISTICS]
    assert shown == [
        "opackets", "obytes", "omcasts", "oqdrops", "oerrors", "ipackets", "ibytes", "imcasts", "ierrors",
        "too_big", "coalesced_datagrams", "coalesced_superframes", "added_segments",
    ]  # fmt: skip
    assert all(each.type == "counter" for each in counters.STATISTICS)
    assert not any(each.statistic for each in counters.WORKER)


def test_reasons_fit_and_are_explained() -> None:
    assert len(REASONS) <= REASONS_MAX
    assert set(REASON_HELP) == set(REASONS)
    assert len(set(REASONS)) == len(REASONS)


def test_every_counter_of_0_1_0_has_a_successor() -> None:
    assert LAYOUT_1.interface.keys() <= {each.name for each in counters.INTERFACE}
    assert LAYOUT_1.worker.keys() <= {each.name for each in counters.WORKER}
    assert set(LAYOUT_1.reasons) <= set(REASONS)


def test_help_is_one_sentence_without_a_full_stop() -> None:
    for each in (*counters.INTERFACE, *counters.WORKER, *counters.IMPAIRMENT):
        assert each.help[0].isupper() or each.help[0].isdigit()
        assert not each.help.endswith(".")
        assert "\n" not in each.help
