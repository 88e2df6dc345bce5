"""The catalogue: every word has one meaning, and each counter has a description."""

from __future__ import annotations

import pytest

from epaird.ipc import counters
from epaird.ipc.counters import REASON_HELP, REASONS, REASONS_MAX, SLOT_WORDS, Counter
from epaird.ipc.ledger import LAYOUT_1


@pytest.mark.parametrize("catalogue", [counters.INTERFACE, counters.WORKER])
def test_words_do_not_overlap(catalogue: tuple[Counter, ...]) -> None:
    words = [word for each in catalogue for word in range(each.word, each.word + words_of(each))]
    assert len(set(words)) == len(words)
    assert max(words) < counters.READING_WORDS
    assert all(each.word + words_of(each) <= SLOT_WORDS or each.word >= SLOT_WORDS for each in catalogue)
    names = [each.name for each in catalogue]
    assert len(set(names)) == len(names)


def words_of(counter: Counter) -> int:
    return REASONS_MAX if counter.by_reason else 1


def test_each_constant_is_a_word_of_the_catalogue() -> None:
    words = {each.name: each.word for each in counters.INTERFACE}
    assert all(getattr(counters, name.upper()) == word for name, word in words.items())


def test_reasons_fit_and_are_explained() -> None:
    assert len(REASONS) <= REASONS_MAX
    assert set(REASON_HELP) == set(REASONS)
    assert len(set(REASONS)) == len(REASONS)


def test_every_counter_of_0_1_0_has_a_successor() -> None:
    assert LAYOUT_1.interface.keys() <= {each.name for each in counters.INTERFACE}
    assert LAYOUT_1.worker.keys() <= {each.name for each in counters.WORKER}
    assert set(LAYOUT_1.reasons) <= set(REASONS)


def test_help_is_one_sentence_without_a_full_stop() -> None:
    for each in (*counters.INTERFACE, *counters.WORKER):
        assert each.help[0].isupper() or each.help[0].isdigit()
        assert not each.help.endswith(".")
        assert "\n" not in each.help
