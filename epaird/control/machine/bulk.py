"""Devices made and configured many at once: what is done in the thread that talks to the kernel."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from epaird.kernel import namespace
from epaird.kernel.errors import KernelError
from epaird.kernel.link import LinkChange, change_all
from epaird.kernel.namespace import Identity
from epaird.kernel.tun import Tap


@dataclass(frozen=True, slots=True)
class Home:
    """A namespace in which a device is made."""

    netns: str
    """Its name or path."""
    identity: Identity
    """What it must be, lest somebody has put another in its place."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A device to be made."""

    device: str
    """What it is called by here, whatever its name."""
    name: str
    """Its name where it is made."""
    home: Home | None
    """Where it is made; None is the daemon's own namespace."""
    open: Callable[[str], Tap]
    """Makes it, under a name, in the thread's namespace."""


@dataclass(frozen=True, slots=True)
class Configuring:
    """A device to be configured."""

    netns: str | None
    """The namespace it is in; None is the daemon's own."""
    change: LinkChange


def open_all(openings: Sequence[Opening]) -> list[Tap | Exception]:
    """What became of each, in their order."""
    outcomes: dict[int, Tap | Exception] = {}
    for home in dict.fromkeys(opening.home for opening in openings):
        numbers = [number for number, opening in enumerate(openings) if opening.home == home]
        try:
            with contextlib.nullcontext() if home is None else _inside(home):
                outcomes |= {number: _opened(openings[number]) for number in numbers}
        except KernelError as error:
            outcomes |= dict.fromkeys(numbers, error)
    return [outcomes[number] for number in range(len(openings))]


def configure_all(wanted: Sequence[Configuring]) -> list[Exception | None]:
    """What became of each, in their order."""
    outcomes: dict[int, Exception | None] = {}
    for netns in dict.fromkeys(each.netns for each in wanted):
        numbers = [number for number, each in enumerate(wanted) if each.netns == netns]
        try:
            refusals = change_all([wanted[number].change for number in numbers], netns)
            outcomes |= dict(zip(numbers, refusals, strict=True))
        except KernelError as error:
            outcomes |= dict.fromkeys(numbers, error)
    return [outcomes[number] for number in range(len(wanted))]


@contextlib.contextmanager
def _inside(home: Home) -> Iterator[None]:
    with namespace.inside(home.netns):
        if namespace.identity(None) != home.identity:
            raise KernelError(errno.ENOENT, f"namespace {home.netns}: is another one now")
        yield


def _opened(opening: Opening) -> Tap | Exception:
    try:
        return replace(opening.open(opening.name), name=opening.device)
    except KernelError as error:
        if error.errno != errno.EEXIST or opening.home is None:
            return error
        where = f"{opening.name} in namespace {opening.home.netns}"
        return KernelError(
            errno.EEXIST, f"{opening.device}: cannot be {where}: a device of this name exists already"
        )
