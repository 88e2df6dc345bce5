"""The sink: frames of an unplugged interface are dropped."""

from __future__ import annotations

from collections.abc import Sequence

from epaird.dataplane.burst import Burst
from epaird.dataplane.links import ETHERNET_LINK
from epaird.dataplane.pipeline import Pipeline
from epaird.dataplane.port import Port
from epaird.ipc.counters import PEER_DOWN


class Sink:
    """Drops frames and counts them as errors of their sender, ``peer_down``."""

    link = ETHERNET_LINK

    def __init__(self, pipeline: Pipeline, ports: Sequence[Port]) -> None:
        """Become the forwarding of these ports."""
        self._pipeline = pipeline
        for port in ports:
            port.forwarding = self
            port.examine = self.link.objection

    def exchange(self, source: Port) -> bool:
        """Drop one burst. True when there was no more to read."""
        return self._pipeline.transmit(source)

    def deliver(self, source: Port, burst: Burst) -> None:
        """Drop a burst."""
        slots = burst.accepted()
        burst.verdicts.update(dict.fromkeys(slots, PEER_DOWN))
        source.account.undeliverable(PEER_DOWN, len(slots))
