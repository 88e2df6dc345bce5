"""The readers of queues: whatever happens, each queue gets one at a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from epaird.control.workers.readers import Readers


def test_a_claim_waits_until_the_reader_has_let_go() -> None:
    readers, granted = Readers(), list[str]()
    readers.claim("old", (1, 2), lambda: granted.append("old"))
    readers.claim("new", (2, 3), lambda: granted.append("new"))
    readers.claim("other", (4,), lambda: granted.append("other"))
    assert granted == ["old", "other"]
    readers.release("old", (1,))
    assert granted == ["old", "other"]
    readers.release("old", (2,))
    assert granted == ["old", "other", "new"]
    assert readers.of(2) == ("new",)


def test_claims_are_granted_in_their_order() -> None:
    readers, granted = Readers(), list[str]()
    readers.record("old", (1,))
    readers.claim("first", (1, 2), lambda: granted.append("first"))
    readers.claim("second", (2,), lambda: granted.append("second"))
    assert granted == [], "the second one may not overtake the first one for ever"
    readers.release_all("first")
    assert granted == ["second"]


def test_two_readers_that_an_earlier_version_left() -> None:
    readers, granted = Readers(), list[str]()
    readers.record("one", (1,))
    readers.record("two", (1,))
    readers.claim("new", (1,), lambda: granted.append("new"))
    readers.release("one", (1,))
    assert granted == []
    readers.release_all("two")
    assert granted == ["new"]


class Machine(RuleBasedStateMachine):
    """Processes that claim and release queues in any order."""

    @initialize()
    def begin(self) -> None:
        self.readers = Readers()
        self.reading: dict[int, set[int]] = {}

    @rule(reader=st.integers(0, 3), slots=st.frozensets(st.integers(0, 4), min_size=1, max_size=2))
    def claim(self, reader: int, slots: frozenset[int]) -> None:
        self.readers.claim(reader, slots, lambda: self._granted(reader, slots))

    @rule(reader=st.integers(0, 3), slots=st.frozensets(st.integers(0, 4), min_size=1, max_size=2))
    def release(self, reader: int, slots: frozenset[int]) -> None:
        for slot in slots:
            self.reading.get(slot, set()).discard(reader)
        self.readers.release(reader, slots)

    @rule(reader=st.integers(0, 3))
    def end(self, reader: int) -> None:
        for each in self.reading.values():
            each.discard(reader)
        self.readers.release_all(reader)

    def _granted(self, reader: int, slots: frozenset[int]) -> None:
        for slot in slots:
            found = self.reading.setdefault(slot, set())
            assert found <= {reader}, "a second reader"
            found.add(reader)

    def teardown(self) -> None:
        for reader in range(4):
            self.end(reader)
        assert not any(self.readers.of(slot) for slot in range(5))


TestReaders = Machine.TestCase


@given(st.lists(st.integers(0, 9), min_size=1))
def test_everyone_who_waits_is_served_in_the_end(order: list[int]) -> None:
    readers, served = Readers(), list[int]()
    for number, slot in enumerate(order):
        readers.claim(number, (slot,), lambda number=number: served.append(number))  # type: ignore[misc]
    for number in range(len(order)):
        readers.release_all(number)
    assert sorted(served) == list(range(len(order)))
