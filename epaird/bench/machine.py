"""A description of the machine on which the figures were measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from epaird import __version__

_GIB: Final = 1 << 30


def description() -> dict[str, str | int | float]:
    """Return the machine's properties that affect the figures, with its present load."""
    cpuinfo = _first_values("/proc/cpuinfo")
    memory = int(_first_values("/proc/meminfo").get("MemTotal", "0").split()[0]) * 1024
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


def summary_line(machine: Mapping[str, str | int | float]) -> str:
    """Return a description in one line."""
    kind = ", virtual" if machine["virtual"] else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores{kind}, {machine['memory_gib']} GiB, "
        f"Linux {machine['kernel']}, Python {machine['python']}, epaird {machine['epaird']}"
    )


def _first_values(path: str) -> dict[str, str]:
    """Return the keys and values of a file in /proc, with the first value of a repeated key."""
    found: dict[str, str] = {}
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    return found
