"""What the control plane and a worker say to each other.

One SOCK_SEQPACKET socketpair joins the control plane to each worker; a packet is one message, a
JSON object whose ``type`` names the class, and the file descriptors it speaks of ride along
(SCM_RIGHTS).  Requests carry an ``id`` and are answered by one :class:`Done`, in any order:
a cable whose frames are still in flight answers late and holds up nobody.

A worker may be older or newer than the control plane that finds it.  One that speaks another
:data:`PROTOCOL` is given no cable and no other order, only asked what it has and told to let go.  So what is
said for that stays as it is, whatever the protocol: Adopt, Adopted, Attached, Detach, Done, End.

This module is part of the data plane's world too: it imports the standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

PROTOCOL: Final = 1
"""To be raised when a message, or what it means, is another."""


@dataclass(frozen=True, slots=True)
class Start:
    """The first message to a worker.  With it: the ledger's memory file and, where it is to outlive the
    control plane, a socket that listens for the next one."""

    worker: int
    """The worker's number."""
    slot: int
    """The worker's own slot of the ledger."""
    queue_limit: int
    """Frames its queue may hold."""
    poll_spin_us: int
    """Microseconds to look again for frames before sleeping; 0 for never."""
    orphan_timeout: float = 0
    """Seconds to go on without a control plane and to wait for another one."""


class CableKind:
    """What is done with the frames of a cable."""

    CABLE: Final = "cable"
    """What one of two interfaces sends is delivered to the other."""
    UNPLUGGED: Final = "unplugged"
    """What one interface sends goes nowhere, and is counted."""
    REFLECT: Final = "reflect"
    """What a loopback sends is delivered to itself, source and destination swapped."""
    VERBATIM: Final = "verbatim"
    """What a loopback sends is delivered to itself as it is."""
    KEPT: Final = "kept"
    """Nothing is read: see :class:`Keep`."""


@dataclass(frozen=True, slots=True)
class Attach:
    """Forward a cable.  With it: the descriptors of its ends, in this order."""

    id: int
    cable: str
    """The cable's name, unique in its worker: ``epair0`` or, of one queue of several, ``epair0.1``."""
    names: tuple[str, ...]
    """The interfaces' names, for the log: two for a cable between halves, one otherwise."""
    slots: tuple[int, ...]
    """Their slots of the ledger."""
    mtus: tuple[int, ...]
    """Their MTUs in bytes."""
    coalesce: bool
    """Whether datagrams may be delivered joined: both devices take UDP super-frames."""
    kind: str = CableKind.CABLE
    """One of :class:`CableKind`."""


@dataclass(frozen=True, slots=True)
class Resize:
    """The MTU of a half has changed."""

    id: int
    cable: str
    mtus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Detach:
    """Stop reading a cable, let its frames in flight arrive, forget it."""

    id: int
    cable: str
    patience: float
    """Seconds to wait for a receiver that takes nothing; then its frames are dropped and counted."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Let a cable go as at :class:`Detach`, but keep its descriptors until it is attached again under this
    name, or detached: meanwhile nobody else may have them besides a control plane that may be killed."""

    id: int
    cable: str
    patience: float


@dataclass(frozen=True, slots=True)
class Tune:
    """What :class:`Start` said is otherwise from now on."""

    id: int
    queue_limit: int
    """Frames."""
    poll_spin_us: int
    """Microseconds."""
    orphan_timeout: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Give a sign of life.  Answered by a beat of the worker's heart, in the ledger."""


@dataclass(frozen=True, slots=True)
class End:
    """End now.  Only this ends a worker: a control plane that is gone may have a successor."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """The first message of another control plane to a worker whose own is gone: say what you have.

    Answered by :class:`Adopted`, an :class:`Attached` for each cable, and Done."""

    id: int


@dataclass(frozen=True, slots=True)
class Adopted:
    """What the worker was told at its start.  With it: the ledger's memory file."""

    pid: int
    worker: int
    slot: int
    queue_limit: int
    poll_spin_us: int
    protocol: int = 0
    """That it speaks; 0 is one of before there were any."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A cable that the worker forwards, as it was told to.  With it: the descriptors of its ends."""

    cable: str
    names: tuple[str, ...]
    slots: tuple[int, ...]
    mtus: tuple[int, ...]
    coalesce: bool
    kind: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker has imported all it needs, dropped its privileges, and takes requests."""

    pid: int


@dataclass(frozen=True, slots=True)
class Done:
    """The answer to the request ``id``."""

    id: int
    error: str = ""
    """What was wrong, in one line; empty when the request was carried out."""


@dataclass(frozen=True, slots=True)
class Gone:
    """A device answers as one that no longer exists; its cable is not read any more."""

    cable: str
    name: str


@dataclass(frozen=True, slots=True)
class Overflow:
    """The worker's queue has filled, or is no longer found full."""

    full: bool
    name: str
    """The interface that found it full; empty once it is not."""


@dataclass(frozen=True, slots=True)
class UnknownFamily:
    """A loopback has been given what is neither IPv4 nor IPv6; said of the first such packet."""

    name: str
    version: int
    """The first four bits."""


Message = (
    Start
    | Attach
    | Resize
    | Detach
    | Keep
    | Tune
    | Ping
    | End
    | Adopt
    | Adopted
    | Attached
    | Ready
    | Done
    | Gone
    | Overflow
    | UnknownFamily
)

_TYPES: Final[dict[str, Callable[..., Message]]] = {
    kind.__name__: kind
    for kind in (
        Start,
        Attach,
        Resize,
        Detach,
        Keep,
        Tune,
        Ping,
        End,
        Adopt,
        Adopted,
        Attached,
        Ready,
        Done,
        Gone,
        Overflow,
        UnknownFamily,
    )
}


def encode(message: Message) -> bytes:
    """One packet."""
    return json.dumps({"type": type(message).__name__, **asdict(message)}).encode()


def decode(packet: bytes) -> Message:
    """The message in a packet; what it raises on anything else is a bug of ours."""
    fields: dict[str, Any] = json.loads(packet)
    kind = _TYPES[fields.pop("type")]
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()})
