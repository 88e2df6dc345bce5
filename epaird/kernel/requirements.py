"""Requirements that this machine or process does not meet, with a remedy for each."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from epaird.kernel import abi

_TUN_DEVICE: Final = "/dev/net/tun"
_REMEDY: Final = f"modprobe tun; in a container, start it with --device {_TUN_DEVICE}"


def missing(*, namespaces: bool = True, tun_device: str = _TUN_DEVICE) -> list[str]:
    """Return one line for each unmet requirement, with a remedy; empty when all are met.

    ``namespaces``: True when devices are to be in namespaces other than the daemon's own.
    """
    return [*_missing_capabilities(namespaces), *_missing_device(tun_device)]


def missing_optional() -> list[str]:
    """Return one line for each unmet optional requirement, with its consequence and a remedy."""
    if _effective_capabilities() >> abi.CAP_NET_BROADCAST & 1:
        return []
    return [
        "CAP_NET_BROADCAST is missing: changes that others make to interfaces in other namespaces (up, down, "
        "MTU, name) are noticed by polling once a second only: run as root; in a container, add "
        "--cap-add NET_BROADCAST"
    ]


def _missing_capabilities(namespaces: bool) -> list[str]:
    required = {"CAP_NET_ADMIN": (abi.CAP_NET_ADMIN, "to create devices")}
    if namespaces:
        required["CAP_SYS_ADMIN"] = (abi.CAP_SYS_ADMIN, "to create and enter network namespaces")
    effective = _effective_capabilities()
    user = "root" if os.geteuid() == 0 else "not root"
    return [
        f"{name} is missing ({user}), needed {purpose}: run as root; in a container, add --cap-add {name[4:]}"
        for name, (number, purpose) in required.items()
        if not effective >> number & 1
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
            return [f"{path} is missing: {_REMEDY}"]
        if error.errno in (errno.ENODEV, errno.ENXIO):
            return [f"{path} exists, but the kernel has no TUN/TAP driver loaded: {_REMEDY}"]
        if error.errno in (errno.EPERM, errno.EACCES):
            return [f"{path} may not be opened: run as root; in a container, start it with --device {path}"]
        return [f"{path} cannot be opened: {os.strerror(error.errno or errno.EIO)}"]
    return []
