"""What the figures were measured on: half of what they mean."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from epaird import __version__

_GIB: Final = 1 << 30


def description() -> dict[str, str | int | float]:
    """The machine now, by what a reader would want to know of it."""
    cpuinfo = _first("/proc/cpuinfo")
    memory = int(_first("/proc/meminfo").get("MemTotal", "0").split()[0]) * 1024
    return {
        "cpu": cpuinfo.get("model name") or cpuinfo.get("Model") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "virtual": "hypervisor" in cpuinfo.get("flags", "").split(),
        "memory_gib": round(memory / _GIB, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "epaird": __version__,
        "load": round(os.getloadavg()[0], 2),
    }


def described(machine: Mapping[str, str | int | float]) -> str:
    """In one line."""
    kind = ", virtual" if machine["virtual"] else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores{kind}, {machine['memory_gib']} GiB, "
        f"Linux {machine['kernel']}, Python {machine['python']}, epaird {machine['epaird']}"
    )


def _first(path: str) -> dict[str, str]:
    """The keys and values of a file of /proc, the first of each key."""
    found: dict[str, str] = {}
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    return found
