"""The daemon's first lines: what it made, what to type next, and where the metrics are."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface

from epaird import __version__
from epaird.control.interfaces.ifnet import Half, Loopback, Pair
from epaird.control.interfaces.registry import Interfaces
from epaird.names.cloners import EPAIR, LO

_PAIRS_SHOWN = 8
_PACKAGES = {"ip": "iproute2", "nsenter": "util-linux", "ping": "iputils-ping"}
"""The Debian package of each program that the suggested command runs."""


def greeting(interfaces: Interfaces, workers: int, metrics: str | None) -> Iterator[str]:
    """The lines.  ``metrics`` is the page's address, None when there is none."""
    pairs = sorted(interfaces.pairs, key=lambda pair: EPAIR.unit_of(pair.name))
    loopbacks = sorted(interfaces.loopbacks, key=lambda each: LO.unit(each.device) or 0)
    yield f"epaird {__version__}: {census(interfaces, workers)}"
    for number, pair in enumerate(pairs):
        if number == _PAIRS_SHOWN:
            yield f"  and {len(pairs) - number} more"
            break
        a, b = pair.halves
        if a.peer is b:
            yield f"  {pair.name}: {_described(a)} <-> {_described(b)}"
        else:
            for half in pair.halves:
                peer = half.peer.device if half.peer is not None else "nothing"
                yield f"  {pair.name}: {_described(half)} <-> {peer}"
    for number, loopback in enumerate(loopbacks):
        if number == _PAIRS_SHOWN:
            yield f"  and {len(loopbacks) - number} more"
            break
        yield f"  {_described(loopback)}: {loopback.settings.mode}"
    command = next(filter(None, map(_ping, pairs)), None)
    if command is not None:
        yield f"try:     {command}{_remark(command)}"
    if metrics is not None:
        yield f"metrics: {metrics}"


def census(interfaces: Interfaces, workers: int) -> str:
    """``2 pairs, 1 loopback, 2 workers``; loopbacks only where there are any."""
    made = [_counted(len(interfaces.pairs), "pair")]
    if len(interfaces.loopbacks):
        made.append(_counted(len(interfaces.loopbacks), "loopback"))
    return ", ".join([*made, _counted(workers, "worker")])


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _described(half: Half | Loopback) -> str:
    name = half.device if half.place.name == half.device else f"{half.device} as {half.place.name}"
    where = f" in {half.place.netns}" if half.place.netns else ""
    addresses = " ".join(str(address) for address in half.settings.addresses)
    return f"{name}{where} ({addresses})" if addresses else f"{name}{where}"


def _ping(pair: Pair) -> str | None:
    """A command that sends across the pair."""
    for here, there in (pair.halves, pair.halves[::-1]):
        for target in there.settings.addresses:
            if _reaches(here, target):
                return f"{_inside(here.place.netns)}ping {target.ip}"
    return None


def _remark(command: str) -> str:
    """Return which programs of the command are missing here and how to install them, or nothing."""
    needed = dict.fromkeys((command.split()[0], "ping"))
    missing = [program for program in needed if shutil.which(program) is None]
    if not missing:
        return ""
    packages = " ".join(_PACKAGES[program] for program in missing)
    return f" (not installed here: {', '.join(missing)}; on Debian: apt-get install {packages})"


def _reaches(half: Half, target: IPv4Interface | IPv6Interface) -> bool:
    return any(
        target.version == address.version and target.ip in address.network
        for address in half.settings.addresses
    )


def _inside(netns: str) -> str:
    if not netns:
        return ""
    return f"nsenter --net={netns} " if "/" in netns else f"ip netns exec {netns} "
