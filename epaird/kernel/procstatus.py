"""The kernel's view of a process: its user, privileges, namespaces and times, from /proc and its clock."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CAPABILITIES: Final = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
    "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
    "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
    "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
    "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
    "checkpoint_restore",
)  # fmt: skip
"""Names of the capabilities in the order of their numbers, without CAP_ (linux/capability.h)."""
SECCOMP: Final = ("none", "strict", "filter")
"""Modes of seccomp by their numbers (linux/seccomp.h)."""
NAMESPACES: Final = ("net", "ipc", "uts", "cgroup", "mnt", "pid", "user")
"""Kinds of namespaces, as /proc/PID/ns names them."""

_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """A process at one moment."""

    uid: int
    """Effective user id."""
    capabilities: tuple[str, ...]
    """Names of the capabilities in any of its sets, the bounding set excepted, without CAP_."""
    no_new_privs: bool
    """True when execve() gives it no privileges."""
    seccomp: str
    """``none``, ``strict`` or ``filter``; empty for a kernel without seccomp."""
    namespaces: tuple[str, ...] | None
    """Kinds of namespaces in which it is and this process is not; None when it may not be examined."""
    cpu_seconds: float
    """User and system time of all its threads."""
    age_seconds: float
    """Time since its start, that of a suspended machine included."""


def status_of(pid: int) -> ProcessStatus | None:
    """Return the status of a process; None when it does not exist or has ended.

    The caller has to know that the pid has not been given to another process."""
    place = Path(f"/proc/{pid}")
    try:
        shown = _fields((place / "status").read_text(errors="replace"))
        started = int((place / "stat").read_text(errors="replace").rpartition(")")[2].split()[19])
        # The CPU clock of a process, as clock_getcpuclockid() computes it.
        cpu_seconds = time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return None
    held = 0
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        held |= int(shown.get(name, "0"), 16)
    return ProcessStatus(
        uid=int(shown["Uid"].split()[1]),
        capabilities=capability_names(held),
        no_new_privs=shown.get("NoNewPrivs") == "1",
        seccomp=SECCOMP[int(shown["Seccomp"])] if "Seccomp" in shown else "",
        namespaces=_other_namespaces(place),
        cpu_seconds=cpu_seconds,
        age_seconds=max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started / _TICKS),
    )


def capability_names(held: int) -> tuple[str, ...]:
    """Return the names of a set of capabilities; one that has no name yet is its number."""
    numbers = [number for number in range(held.bit_length()) if held >> number & 1]
    return tuple(CAPABILITIES[each] if each < len(CAPABILITIES) else str(each) for each in numbers)


def _fields(text: str) -> Mapping[str, str]:
    lines = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in lines}


def _other_namespaces(place: Path) -> tuple[str, ...] | None:
    found = []
    for kind in NAMESPACES:
        try:
            own = Path(f"/proc/self/ns/{kind}").readlink()
        except FileNotFoundError:  # a kernel without this kind
            continue
        try:
            if (place / "ns" / kind).readlink() != own:
                found.append(kind)
        except OSError:
            return None
    return tuple(found)
