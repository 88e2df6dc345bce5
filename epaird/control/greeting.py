"""The daemon's first lines: its interfaces, a command to type next, and the address of the metrics."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from epaird import __version__
from epaird.config.addressing import AddressSettings
from epaird.control.interfaces.ifnet import Half, Ifnet, Pair
from epaird.control.interfaces.registry import Registry
from epaird.names.cloners import EPAIR, LO

_PAIRS_SHOWN = 8
_PACKAGES = {"ip": "iproute2", "nsenter": "util-linux", "ping": "iputils-ping"}
"""The Debian package of each program that the suggested command runs."""


def greeting(registry: Registry, workers: int, metrics: str | None) -> Iterator[str]:
    """Yield the lines. ``metrics`` is the URL of the page, None when there is none."""
    pairs = sorted(registry.pairs, key=lambda pair: EPAIR.unit_of(pair.name))
    loopbacks = sorted(registry.loopbacks, key=lambda each: LO.unit(each.device) or 0)
    yield f"epaird {__version__}: {summary(registry, workers)}"
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


def summary(registry: Registry, workers: int) -> str:
    """Return ``2 pairs, 1 loopback, 2 workers``; a kind other than pairs only if there are any."""
    listed = [kind for kind in registry.kinds if len(kind) or kind is registry.pairs]
    counts = [_counted(len(kind), kind.noun) for kind in listed]
    return ", ".join([*counts, _counted(workers, "worker")])


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _described(ifnet: Ifnet) -> str:
    name = ifnet.device if ifnet.place.name == ifnet.device else f"{ifnet.device} as {ifnet.place.name}"
    where = f" in {ifnet.place.netns}" if ifnet.place.netns else ""
    addresses = " ".join(str(each.address) for each in ifnet.settings.addresses)
    return f"{name}{where} ({addresses})" if addresses else f"{name}{where}"


def _ping(pair: Pair) -> str | None:
    """Return a command whose packets cross the pair; None when no address can be reached."""
    for half, other in (pair.halves, pair.halves[::-1]):
        for target in other.settings.addresses:
            if _reaches(half, target):
                return f"{_inside(half.place.netns)}ping {target.ip}"
    return None


def _remark(command: str) -> str:
    """Return which programs of the command are missing here and how to install them, or nothing."""
    needed = dict.fromkeys((command.split()[0], "ping"))
    missing = [program for program in needed if shutil.which(program) is None]
    if not missing:
        return ""
    packages = " ".join(_PACKAGES[program] for program in missing)
    return f" (not installed here: {', '.join(missing)}; on Debian: apt-get install {packages})"


def _reaches(half: Half, target: AddressSettings) -> bool:
    return any(target.ip in network for address in half.settings.addresses for network in address.networks)


def _inside(netns: str) -> str:
    if not netns:
        return ""
    return f"nsenter --net={netns} " if "/" in netns else f"ip netns exec {netns} "
