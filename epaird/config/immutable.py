"""Keys that cannot change while an interface or the daemon runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ImmutableKey:
    """A key of an interface that cannot change in place: the reason, and an alternative."""

    reason: str
    """Reason, for a plan that destroys the interface and creates it again."""
    instead: str = ""
    """Other way to the same end; empty if there is none."""


IMMUTABLE: Final[Mapping[str, ImmutableKey]] = {
    "netns": ImmutableKey(
        "a device is created in its namespace", "move the device with ip link set DEVICE netns NAME"
    ),
    "queues": ImmutableKey("a device gets its queues when it is created"),
}
"""Keys of an interface, of its own table or of a half's."""
NEEDS_RESTART: Final = frozenset({"daemon.control_socket"})
"""Keys that only a restart of the daemon applies. The lock, the state file and the workers' sockets are
beside the control socket, and the next daemon looks for all of them in one place."""
