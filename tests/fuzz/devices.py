"""Real devices: whatever a tenant sends through a packet socket, workers live on and the accounts balance."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hypothesis import strategies as st

from tests.fuzz.frames import frames
from tests.fuzz.target import Target
from tests.scenarios.lab import NAMESPACES, Daemon, Lab, pair

_SOL_PACKET: Final = 263
"""linux/socket.h"""
_PACKET_VNET_HDR: Final = 15
"""linux/if_packet.h"""
_REFUSED: Final = frozenset(
    (errno.EINVAL, errno.EMSGSIZE, errno.ENOBUFS, errno.EPROTONOSUPPORT, errno.ENOMEM)
)
"""Errors by which the kernel refuses a frame, or has no room for it."""
_FILE: Final = (
    NAMESPACES
    + pair(0)
    + pair(1, offload=False)
    + pair(2, a={"mtu": 9000})
    + pair(3, queues=2, coalesce=False)
)
"""Cables with and without offloads, with two MTUs, and with two queues."""
_DEVICES: Final = ("eth0", "eth1", "eth2", "eth3")
"""Their devices in namespace red."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A running daemon, and packet sockets of a tenant of one of its namespaces."""

    daemon: Daemon
    sockets: dict[str, socket.socket]
    """By device."""
    workers: tuple[int, ...]
    """Process ids."""


@contextlib.contextmanager
def _opened() -> Iterator[Tenant]:
    with Lab() as lab, contextlib.ExitStack() as opened:
        daemon = lab.daemon(_FILE, workers=2)
        sockets = {}
        for device in _DEVICES:
            packets = opened.enter_context(lab["red"].socket(socket.AF_PACKET, socket.SOCK_RAW))
            packets.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
            packets.bind((device, 0))  # 0: nothing is received
            sockets[device] = packets
        yield Tenant(daemon, sockets, tuple(sorted(daemon.workers())))
        opened.close()
        lab.finish()


def _endured(tenant: Tenant, sent: list[tuple[str, bytes]]) -> None:
    """Check that no worker has ended, and that each frame that the devices transmitted has one fate."""
    for device, frame in sent:
        try:
            tenant.sockets[device].send(frame)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
    tenant.daemon.at_rest()
    assert tuple(sorted(tenant.daemon.workers())) == tenant.workers, tenant.daemon.stderr
    assert "Traceback" not in tenant.daemon.stderr


DEVICES: Final = Target(
    name="devices",
    inputs=st.lists(st.tuples(st.sampled_from(_DEVICES), frames()), min_size=1, max_size=40),
    holds=_endured,
    opened=_opened,
    examples=40,
    subjects=(),
    real=True,
)
