"""The queues and lines that one process may have, by cable."""

from __future__ import annotations

from collections.abc import Callable

from epaird.control.workers.readers import Readers
from epaird.ipc.messages import CableSpec


class Holdings:
    """What one process has of the slots that only one process at a time may have: queues and lines.

    The queues of an impaired pair are cables of their own and have the same lines."""

    def __init__(self, owner: object, readers: Readers) -> None:
        """``readers`` are those of all queues."""
        self._owner = owner
        self._readers = readers
        self._slots: dict[str, tuple[int, ...]] = {}

    def record(self, cable: CableSpec) -> None:
        """Record that a predecessor gave the process a cable."""
        self._slots[cable.name] = _slots_of(cable)
        self._readers.record(self._owner, _slots_of(cable))

    def claim(self, cable: CableSpec, granted: Callable[[], None]) -> None:
        """Call ``granted`` once no other process has anything of a cable."""

        def given() -> None:
            self._slots[cable.name] = _slots_of(cable)
            granted()

        self._readers.claim(self._owner, _slots_of(cable), given)

    def withdraw(self, cable: CableSpec) -> None:
        """Give up a cable, or the claim to it."""
        self._slots.pop(cable.name, None)
        self._free(_slots_of(cable))

    def release(self, cable: str) -> None:
        """Record that the process does not have a cable any more."""
        self._free(self._slots.pop(cable, ()))

    def release_all(self) -> None:
        """Record that the process has ended."""
        self._slots.clear()
        self._readers.release_all(self._owner)

    def _free(self, slots: tuple[int, ...]) -> None:
        others = {slot for each in self._slots.values() for slot in each}
        self._readers.release(self._owner, tuple(slot for slot in slots if slot not in others))


def _slots_of(cable: CableSpec) -> tuple[int, ...]:
    return (*cable.slots, *cable.line_slots)
