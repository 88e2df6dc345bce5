"""A ledger that is only read from: one of another layout, or one that a worker could make shorter.

A worker has the ledger's descriptor. Access to a mapping beyond the end of a file ends the process with
SIGBUS, so a ledger whose size is not sealed is never mapped by the control plane.
"""

from __future__ import annotations

import os
import struct

from epaird.ipc import counters
from epaird.ipc.counters import SLOT_WORDS
from epaird.ipc.ledger import HEADER_BYTES, Layout


class OldLedger:
    """The ledger behind a descriptor."""

    def __init__(self, fd: int) -> None:
        """Read the header. The caller has to close ``fd``. Raises ValueError when it is no ledger."""
        self.fd = fd
        self.layout = Layout.decode(os.pread(fd, HEADER_BYTES, 0))

    def converted(self, index: int) -> list[int]:
        """Return the words of an interface's slot in the current layout, copied by name."""
        old = self._slot(index)
        words = [0] * SLOT_WORDS
        for word, place in self.layout.words_of(counters.INTERFACE).items():
            words[word] = old[place]
        return words

    def cpu_ns(self, index: int) -> int:
        """Return the processor time of a worker in nanoseconds."""
        place = self.layout.words_of(counters.WORKER).get(counters.CPU_NS)
        return 0 if place is None else self._slot(index)[place]

    def _slot(self, index: int) -> tuple[int, ...]:
        """Return the words of a slot; zeros for those beyond the end of the file."""
        form = struct.Struct(f"@{self.layout.slot_words}Q")
        data = os.pread(self.fd, form.size, self.layout.header_bytes + index * form.size)
        return form.unpack(data.ljust(form.size, b"\0"))
