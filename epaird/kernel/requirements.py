"""What this machine or this process lacks, and what to do about it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from epaird.kernel import abi

_TUN_DEVICE: Final = "/dev/net/tun"
_HOW_TO_HAVE: Final = f"modprobe tun; in a container, start it with --device {_TUN_DEVICE}"


def missing(*, namespaces: bool = True, tun_device: str = _TUN_DEVICE) -> list[str]:
    """One line for each thing that is missing, with what to do; empty when everything is there.

    ``namespaces``: whether devices shall live in other namespaces than the daemon's own.
    """
    return [*_missing_capabilities(namespaces), *_missing_device(tun_device)]


def lesser() -> list[str]:
    """One line for each thing that is missing and can be done without, with what is lost thereby."""
    if _effective_capabilities() >> abi.CAP_NET_BROADCAST & 1:
        return []
    return [
        "CAP_NET_BROADCAST is missing: what others do to interfaces in other namespaces (up, down, MTU, "
        "name) is seen by looking once a second only: run as root; in a container, add "
        "--cap-add NET_BROADCAST"
    ]


def _missing_capabilities(namespaces: bool) -> list[str]:
    wanted = {"CAP_NET_ADMIN": (abi.CAP_NET_ADMIN, "to make devices")}
    if namespaces:
        wanted["CAP_SYS_ADMIN"] = (abi.CAP_SYS_ADMIN, "to make and enter network namespaces")
    have = _effective_capabilities()
    who = "root" if os.geteuid() == 0 else "not root"
    return [
        f"{name} is missing ({who}), {purpose}: run as root; in a container, add --cap-add {name[4:]}"
        for name, (number, purpose) in wanted.items()
        if not have >> number & 1
    ]


def _effective_capabilities() -> int:
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _missing_device(path: str) -> list[str]:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return [f"{path} is missing: {_HOW_TO_HAVE}"]
        if error.errno in (errno.ENODEV, errno.ENXIO):
            return [f"{path} is there, but the kernel has no TUN/TAP driver loaded: {_HOW_TO_HAVE}"]
        if error.errno in (errno.EPERM, errno.EACCES):
            return [f"{path} may not be opened: run as root; in a container, start it with --device {path}"]
        return [f"{path} cannot be opened: {os.strerror(error.errno or errno.EIO)}"]
    return []
