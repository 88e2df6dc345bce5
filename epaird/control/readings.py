"""What one look at the daemon saw: frozen values, for the metrics page and for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InterfaceReading:
    """One interface at one moment.  Counters have the interface owner's viewpoint."""

    device: str
    """The interface's own name, which it keeps for life: ``epair0a``."""
    kind: str
    """The cloner that made it: ``epair`` or ``lo``."""
    pair: str
    """The pair it is a half of: ``epair0``; empty for a loopback."""
    half: str
    """Which half: ``a`` or ``b``; empty for a loopback."""
    peer: str
    """The half it is patched to: ``epair0b``; empty when it is patched to none, and for a loopback."""
    origin: str
    """Who asked for it: ``configuration`` or ``runtime``."""
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
    held_bytes: int
    """Memory of the frames that wait to be delivered to it."""
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
    too_big: int
    """ICMP messages of ours to the owner, about frames too long for the peer."""
    coalesced_datagrams: int
    """Frames that reached the owner as part of a super-frame of our making."""
    coalesced_superframes: int
    """Super-frames of our making that reached the owner."""
    oerrors: tuple[int, ...]
    """One count for each of :data:`epaird.ipc.counters.REASONS`, in that order."""
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
class ConfigurationReading:
    """The file that the configuration was read from, and how that went."""

    successful: bool = True
    """The last reload was, or there was none."""
    success_time: float = 0.0
    """Seconds since the epoch, of the start or the last reload that was successful."""
    successes: int = 0
    """Reloads."""
    failures: int = 0
    sha256: str = ""
    """Of the file whose configuration is in force."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything at one moment."""

    interfaces: tuple[InterfaceReading, ...]
    workers: tuple[WorkerReading, ...]
    configuration: ConfigurationReading = ConfigurationReading()
    tasks: int = 0
    """asyncio tasks of the control plane."""
