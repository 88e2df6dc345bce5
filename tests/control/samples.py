"""Readings for tests of the API and the metrics page."""

from __future__ import annotations

from typing import Any

from epaird.control.readings import InterfaceReading, Reading, WorkerReading
from epaird.ipc.counters import REASONS


def interface(device: str, **changes: object) -> InterfaceReading:
    """Return an idle half of a pair; ``changes`` are fields of the reading."""
    fields: dict[str, Any] = {
        "device": device,
        "kind": "epair",
        "peer": device[:-1] + {"a": "b"}.get(device[-1], "a"),
        "origin": "configuration",
        "pair": device[:-1],
        "half": device[-1],
        "name": "eth0",
        "netns": "red",
        "mac": "02:5d:11:22:33:0a",
        "worker": "0",
        "up": True,
        "carrier": True,
        "mtu": 1500,
        "refs": 1,
        "held_bytes": 0,
        "too_big": 0,
        "coalesced_datagrams": 0,
        "coalesced_superframes": 0,
        "oactive": False,
        "oerrors": (0,) * len(REASONS),
        "ierrors": (0,) * len(REASONS),
    }
    counters = ("opackets", "obytes", "omcasts", "oqdrops", "ipackets", "ibytes", "imcasts")
    return InterfaceReading(**fields | dict.fromkeys(counters, 0) | changes)


def worker(number: int = 0, **changes: object) -> WorkerReading:
    """Return an idle worker; ``changes`` are fields of the reading."""
    fields: dict[str, Any] = {
        "worker": str(number),
        "queue_frames": 0,
        "queue_limit": 2100,
        "drain_list": 0,
        "oactive": False,
        "restarts": 0,
        "cpu_seconds": 0.0,
        "alive": True,
    }
    return WorkerReading(**fields | changes)


def pair(**changes: object) -> Reading:
    """Return ``epair0`` and its worker; ``changes`` are those of the half a."""
    return Reading((interface("epair0a", **changes), interface("epair0b", netns="blue")), (worker(),))
