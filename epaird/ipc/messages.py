"""The messages between the control plane and a worker.

One SOCK_SEQPACKET socketpair joins the control plane to each worker. A packet is one message
(:mod:`epaird.ipc.encoding`); file descriptors travel with it (SCM_RIGHTS). Requests carry an
``id`` and are answered by one :class:`Done`, in any order: a cable whose frames are still in flight is
answered late and delays no other request.

Processes of different versions may meet, after an upgrade and after a rollback:

- Decoding is tolerant, so a message may gain fields that have defaults. A message of an unknown type is
  decoded as :class:`Unknown`, which a worker answers with an error.
- A worker that speaks another :data:`PROTOCOL` than the control plane that finds it is given no cable. It
  receives only the requests to report its cables, to detach them and to end. So Adopt, Adopted, Attached,
  Detach, Done and End stay the same in every protocol.
- Protocol 1 is that of epaird 0.1.0, whose decoding is strict: Adopt, Detach and End keep exactly its fields.

This module is imported by worker processes: it uses the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from epaird.ipc.impairment import LineSpec
from epaird.ipc.settlement import Correction

PROTOCOL: Final = 2
"""Raised when a message, or its meaning, becomes another than tolerant decoding can bridge."""


class CableKind:
    """The ways of forwarding the frames of a cable."""

    CABLE: Final = "cable"
    """Frames that one of two ports transmits are delivered to the other."""
    UNPLUGGED: Final = "unplugged"
    """Frames that the port transmits are dropped and counted."""
    REFLECT: Final = "reflect"
    """Packets that a loopback transmits are delivered to itself, source and destination swapped."""
    VERBATIM: Final = "verbatim"
    """Packets that a loopback transmits are delivered to itself unchanged."""
    KEPT: Final = "kept"
    """Nothing is read: see :class:`Keep`."""


@dataclass(frozen=True, slots=True)
class PortSpec:
    """One port of a cable. Its descriptor travels with the message."""

    name: str = ""
    """Name of the interface, for the log."""
    slot: int = 0
    """Its slot of the ledger."""
    mtu: int = 0
    """MTU in bytes."""
    offload: bool = True
    """True when its owner takes super-frames and unfinished checksums."""
    pmtu: bool = True
    """True when its owner gets ICMP messages about packets that are too long for the peer."""
    line: tuple[LineSpec, ...] = ()
    """The impairment of what it transmits, of which there is one at most. The ports of a cable's other
    queues have the same line: the same slot and ring."""

    @property
    def files(self) -> int:
        """Number of descriptors that its impairment needs: a ring, a trace, a replay."""
        return sum(1 + each.trace + each.replay for each in self.line)


@dataclass(frozen=True, slots=True)
class CableSpec:
    """A cable as a worker forwards it: its ports and the way of forwarding."""

    name: str = ""
    """Name of the cable, unique in its worker: ``epair0`` or, of one queue of several, ``epair0.1``."""
    ports: tuple[PortSpec, ...] = ()
    """Two for a cable between halves, one otherwise; their descriptors travel in this order."""
    kind: str = CableKind.CABLE
    """One of :class:`CableKind`."""
    coalesce: bool = False
    """True when datagrams may be joined: both devices take UDP super-frames."""

    @property
    def slots(self) -> tuple[int, ...]:
        """Slots of the ledger of its ports."""
        return tuple(port.slot for port in self.ports)

    @property
    def line_slots(self) -> tuple[int, ...]:
        """Slots of the ledger of its lines."""
        return tuple(line.slot for port in self.ports for line in port.line)

    @property
    def mtus(self) -> tuple[int, ...]:
        """MTUs of its ports in bytes."""
        return tuple(port.mtu for port in self.ports)

    @property
    def descriptors(self) -> int:
        """Number of descriptors that travel with it: those of its ports, then the files of their lines."""
        return len(self.ports) + sum(port.files for port in self.ports)

    def impaired(self, number: int, line: tuple[LineSpec, ...]) -> CableSpec:
        """Return the same cable with another impairment of the port of this number."""
        ports = list(self.ports)
        ports[number] = replace(ports[number], line=line)
        return replace(self, ports=tuple(ports))

    def resized(self, mtus: tuple[int, ...]) -> CableSpec:
        """Return the same cable with these MTUs in bytes, one for each port."""
        ports = tuple(replace(port, mtu=mtu) for port, mtu in zip(self.ports, mtus, strict=True))
        return replace(self, ports=ports)


@dataclass(frozen=True, slots=True)
class Start:
    """The first message to a worker.

    With it travel the ledger's memory file and, where the worker is to outlive the control plane, a socket
    that listens for the next control plane."""

    worker: int = 0
    """Number of the worker."""
    slot: int = 0
    """The worker's own slot of the ledger."""
    queue_limit: int = 4096
    """Most frames in its queue."""
    poll_spin_us: int = 0
    """Microseconds to poll for more frames before sleeping; 0 disables it."""
    orphan_timeout: float = 0
    """Seconds to continue without a control plane, waiting for another one."""


@dataclass(frozen=True, slots=True)
class Attach:
    """Forward a cable. With it travel the descriptors of its ports, in order, and then for each port with a
    line, in order, its ring, its trace and its replay, as far as it has them."""

    id: int = 0
    cable: CableSpec = CableSpec()


@dataclass(frozen=True, slots=True)
class Resize:
    """Apply new MTUs to a cable."""

    id: int = 0
    cable: str = ""
    mtus: tuple[int, ...] = ()
    """MTU of each port in bytes."""


@dataclass(frozen=True, slots=True)
class Impair:
    """Apply another impairment to what a port transmits; no frame is lost, doubled or reordered by that.

    With it travel the ring, the trace and the replay of the line, as far as it has them. Answered when it is
    applied; a worker of 0.4.0 or older refuses it. For an interface with several queues there is a request
    for each, and the first one applies it to the line of all."""

    id: int = 0
    cable: str = ""
    port: int = 0
    """Number of the port in the cable."""
    line: tuple[LineSpec, ...] = ()
    """The impairment; empty for none. Then the line goes on without one until it holds nothing and this was
    requested for all its queues, which :class:`Drained` reports for each."""


@dataclass(frozen=True, slots=True)
class Detach:
    """Stop reading a cable, deliver its frames in flight, and close its descriptors."""

    id: int = 0
    cable: str = ""
    patience: float = 0
    """Seconds to wait for a receiver that takes nothing; then its frames are dropped and counted."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Detach a cable but keep its descriptors until it is attached again under this name, or detached.

    In between the only other process that has them is a control plane that may be killed."""

    id: int = 0
    cable: str = ""
    patience: float = 0
    """As in :class:`Detach`."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Read and write nothing of a cable until :class:`Continue`, or for some time at most.

    Answered when its counters are at rest. A request to detach the cable ends the pause."""

    id: int = 0
    cable: str = ""
    seconds: float = 0
    """Seconds after which the pause ends in any case."""


@dataclass(frozen=True, slots=True)
class Continue:
    """End the pause of a cable. Refused when it has ended already."""

    id: int = 0
    cable: str = ""


@dataclass(frozen=True, slots=True)
class Amend:
    """Add to the counters of a cable what processes that have died left uncounted."""

    id: int = 0
    cable: str = ""
    corrections: tuple[Correction, ...] = ()
    """One for each port as the one that transmits."""


@dataclass(frozen=True, slots=True)
class Tune:
    """Replace settings of :class:`Start`."""

    id: int = 0
    queue_limit: int = 4096
    """Frames."""
    poll_spin_us: int = 0
    """Microseconds."""
    orphan_timeout: float = 0
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Update the heartbeat in the ledger."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Listen for the next control plane on another socket, which travels with it; answered by Done.

    Others have removed the file of the present one."""

    id: int = 0


@dataclass(frozen=True, slots=True)
class End:
    """End now. Only this ends a worker: a control plane that is gone may be replaced."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """The first message of another control plane to an orphan: a request to report its cables.

    Answered by :class:`Adopted`, an :class:`Attached` for each cable, and Done."""

    id: int = 0


@dataclass(frozen=True, slots=True)
class Adopted:
    """The settings of an orphan. With it travels the ledger's memory file."""

    pid: int = 0
    worker: int = 0
    slot: int = 0
    queue_limit: int = 0
    poll_spin_us: int = 0
    protocol: int = 0
    """The protocol that it speaks; 0 is older than the first numbered one."""
    lines: bool = False
    """True where it carries out impairment; a worker of 0.4.0 or older does not."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A cable that an orphan forwards. The same descriptors travel with it as with Attach."""

    cable: CableSpec = CableSpec()


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker has imported everything it needs, dropped its privileges, and takes requests."""

    pid: int = 0


@dataclass(frozen=True, slots=True)
class Describe:
    """Report what the process is, by :class:`Description` and Done. A worker of 0.3.0 or older refuses it.

    With it travels the pipe that becomes the standard error of the process: the one that it was started with
    leads to a control plane that is gone."""

    id: int = 0


@dataclass(frozen=True, slots=True)
class Description:
    """What a process is: sent on request, and by a process at its start if its command line requires it."""

    version: str = ""
    """Version of epaird that it runs."""
    landlock: int = 0
    """Version of Landlock's ABI whose every right it has given up; 0 without Landlock."""
    namespaces: tuple[str, ...] = ()
    """Kinds of its namespaces that are its own and hold nothing, as /proc/PID/ns names them."""
    missing: tuple[str, ...] = ()
    """Layers of its sandbox that it lacks, each with the reason."""
    lines: bool = False
    """True where it carries out impairment; a worker of 0.4.0 or older does not."""


@dataclass(frozen=True, slots=True)
class Done:
    """The answer to the request ``id``."""

    id: int = 0
    error: str = ""
    """The error in one line; empty when the request was carried out."""
    errno: int = 0
    """Its number, where it has one."""


@dataclass(frozen=True, slots=True)
class Gone:
    """A device answers as one that no longer exists; its cable is not read any more."""

    cable: str = ""
    name: str = ""
    """Name of the interface."""


@dataclass(frozen=True, slots=True)
class Drained:
    """The line of a port without impairment holds nothing any more and was dropped: see :class:`Impair`."""

    cable: str = ""
    port: int = 0
    """Number of the port in the cable."""


@dataclass(frozen=True, slots=True)
class Overflow:
    """The output of an interface is blocked, or no longer: see :mod:`epaird.dataplane.queue`."""

    full: bool = False
    """True when frames that wait for the interface's receiver have used up its quota."""
    name: str = ""
    """The interface whose output it is; empty from a worker of 0.2.0 when it no longer is."""


@dataclass(frozen=True, slots=True)
class UnknownFamily:
    """A loopback was sent a packet that is neither IPv4 nor IPv6; sent for the first such packet."""

    name: str = ""
    """Name of the interface."""
    version: int = 0
    """The first four bits of the packet."""


@dataclass(frozen=True, slots=True)
class More:
    """Carries descriptors of the message that follows, which has more than one packet can carry."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of a type that this version does not know."""

    name: str = ""
    """Its type."""
    id: int = 0
    """Its id, where it is a request."""


Message = (
    Start | Attach | Resize | Impair | Detach | Keep | Pause | Continue | Amend | Tune | Ping
    | Listen | End | Adopt | Adopted | Attached | Ready | Describe | Description | Done | Gone
    | Drained | Overflow | UnknownFamily | More | Unknown
)  # fmt: skip
