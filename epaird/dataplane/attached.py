"""A cable that a worker forwards, as its requests see it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence

from epaird.dataplane.burst import frames_at_once
from epaird.dataplane.forwarding import Forwarding
from epaird.dataplane.port import Port
from epaird.ipc.messages import CableSpec
from epaird.ipc.settlement import Correction, amend


class AttachedCable:
    """Ports that are attached and detached together."""

    __slots__ = ("deadline", "detached", "forwarding", "keep", "ports", "spec")

    def __init__(self, ports: tuple[Port, ...], spec: CableSpec, forwarding: Forwarding[Port]) -> None:
        """``spec`` describes the cable of these ports, which have this forwarding."""
        self.ports = ports
        self.spec = spec
        """The cable as it was requested."""
        self.forwarding = forwarding
        """The forwarding of its ports."""
        self.detached: Callable[[], None] | None = None
        """Called once it is detached; None until that is requested."""
        self.keep = False
        """True when its descriptors are kept once it is detached."""
        self.deadline: asyncio.TimerHandle | None = None
        """The timer after which waiting frames are dropped."""

    @property
    def free(self) -> bool:
        """True when no frame waits for it and it is on no drain list: nothing refers to it any more."""
        return all(port.refs == 1 for port in self.ports)

    def resize(self, mtus: tuple[int, ...]) -> None:
        """Apply new MTUs, in bytes."""
        self.spec = self.spec.resized(mtus)
        limit = self.forwarding.link.read_limit(mtus)
        for port in self.ports:
            port.limit = limit
            port.at_once = frames_at_once(limit)

    def amend(self, corrections: Sequence[Correction]) -> None:
        """Count frames that others have left uncounted, for each port as the one that transmits."""
        for port, missing in zip(self.ports, corrections, strict=False):
            line = port.receiver.incoming
            if line is not None:
                line.begin()
            amend(port.account.words, port.receiver.account.words, missing)
            if line is not None:
                line.rest()

    def close(self) -> None:
        """Close its descriptors."""
        for port in self.ports:
            os.close(port.fd)
