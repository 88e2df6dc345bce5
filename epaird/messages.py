"""What the control plane and a worker say to each other.

One SOCK_SEQPACKET socketpair joins the control plane to each worker; a packet is one message, a
JSON object whose ``type`` names the class, and the file descriptors it speaks of ride along
(SCM_RIGHTS).  Requests carry an ``id`` and are answered by one :class:`Done`, in any order:
a cable whose frames are still in flight answers late and holds up nobody.

This module is part of the data plane's world too: it imports the standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Start:
    """The first message to a worker.  With it: the ledger's memory file."""

    worker: int
    """The worker's number."""
    slot: int
    """The worker's own slot of the ledger."""
    queue_limit: int
    """Frames its queue may hold."""
    poll_spin_us: int
    """Microseconds to look again for frames before sleeping; 0 for never."""


@dataclass(frozen=True, slots=True)
class Attach:
    """Forward a cable.  With it: the descriptors of half a and half b, in this order."""

    id: int
    cable: str
    """The cable's name, unique in its worker: ``epair0`` or, of one queue of several, ``epair0.1``."""
    names: tuple[str, str]
    """The interfaces' names, for the log."""
    slots: tuple[int, int]
    """Their slots of the ledger."""
    mtus: tuple[int, int]
    """Their MTUs in bytes."""
    coalesce: bool
    """Whether datagrams may be delivered joined: both devices take UDP super-frames."""


@dataclass(frozen=True, slots=True)
class Resize:
    """The MTU of a half has changed."""

    id: int
    cable: str
    mtus: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Detach:
    """Stop reading a cable, let its frames in flight arrive, forget it."""

    id: int
    cable: str
    patience: float
    """Seconds to wait for a receiver that takes nothing; then its frames are dropped and counted."""


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


Message = Start | Attach | Resize | Detach | Ready | Done | Gone

_TYPES: Final[dict[str, Callable[..., Message]]] = {
    kind.__name__: kind for kind in (Start, Attach, Resize, Detach, Ready, Done, Gone)
}


def encode(message: Message) -> bytes:
    """One packet."""
    return json.dumps({"type": type(message).__name__, **asdict(message)}).encode()


def decode(packet: bytes) -> Message:
    """The message in a packet; what it raises on anything else is a bug of ours."""
    fields: dict[str, Any] = json.loads(packet)
    kind = _TYPES[fields.pop("type")]
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()})
