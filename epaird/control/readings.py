"""What one look at the daemon saw: frozen values, for the metrics page and for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InterfaceReading:
    """One interface at one moment.  Counters have the interface owner's viewpoint."""

    device: str
    """The interface's own name, which it keeps for life: ``epair0a``."""
    pair: str
    """The pair it is a half of: ``epair0``."""
    half: str
    """Which half: ``a`` or ``b``."""
    name: str
    """The device's name where it lives now: ``eth0``."""
    netns: str
    """The namespace it lives in, by name or path; empty for the daemon's own."""
    mac: str
    """The hardware address now, ``02:5d:11:22:33:0a``."""
    worker: str
    """The worker that forwards it, ``0``; with several queues ``0,1``."""
    up: bool
    """IFF_UP."""
    carrier: bool
    """IFF_LOWER_UP."""
    mtu: int
    """Bytes."""
    refs: int
    """1 + frames in flight to the interface + 1 for each queue of it on a drain list."""
    oactive: bool
    """Output is blocked: its worker's queue was full when it last sent."""
    opackets: int
    obytes: int
    omcasts: int
    oqdrops: int
    """Frames the owner sent that the kernel could not hand to us: its tx_dropped."""
    ipackets: int
    ibytes: int
    imcasts: int
    oerrors: tuple[int, ...]
    """One count for each of :data:`epaird.ledger.REASONS`, in that order."""
    ierrors: tuple[int, ...]
    """The same, for frames on their way to the owner."""


@dataclass(frozen=True, slots=True)
class WorkerReading:
    """One worker at one moment."""

    worker: str
    """Its number, ``0``."""
    queue_frames: int
    """Frames waiting in its queue."""
    queue_limit: int
    """Frames its queue may hold."""
    drain_list: int
    """Interfaces waiting for its queue to drain."""
    oactive: bool
    """Its queue has filled and has not drained since."""
    restarts: int
    """Times its process was replaced after dying."""
    cpu_seconds: float
    """User and system time, all its processes together."""
    alive: bool
    """Its own loop turned within the last second."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything at one moment."""

    interfaces: tuple[InterfaceReading, ...]
    workers: tuple[WorkerReading, ...]
