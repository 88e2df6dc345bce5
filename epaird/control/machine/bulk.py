"""Creating and configuring many devices at once: the part that runs in the thread that calls the kernel."""

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
    """A namespace in which a device is created."""

    netns: str
    """Name or path of the namespace."""
    identity: Identity
    """Expected identity of the namespace: another one may have been put in its place."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A request to create a device."""

    device: str
    """The daemon's own name for the device, which the kernel may call otherwise."""
    name: str
    """Name of the device where it is created."""
    home: Home | None
    """Namespace in which it is created; None for the daemon's own."""
    open: Callable[[str], Tap]
    """Creates the device under a name, in the current namespace of the thread."""


@dataclass(frozen=True, slots=True)
class Configuring:
    """A request to configure a device."""

    netns: str | None
    """Namespace of the device; None for the daemon's own."""
    change: LinkChange
    """Properties, addresses and routes to set."""


def open_all(openings: Sequence[Opening]) -> list[Tap | Exception]:
    """Create devices; return the outcome of each, in order."""
    outcomes: dict[int, Tap | Exception] = {}
    for home in dict.fromkeys(opening.home for opening in openings):
        numbers = [number for number, opening in enumerate(openings) if opening.home == home]
        try:
            with contextlib.nullcontext() if home is None else _inside(home):
                outcomes |= {number: _opened(openings[number]) for number in numbers}
        except KernelError as error:
            outcomes |= dict.fromkeys(numbers, error)
    return [outcomes[number] for number in range(len(openings))]


def configure_all(requests: Sequence[Configuring]) -> list[Exception | None]:
    """Configure devices; return the outcome of each, in order."""
    outcomes: dict[int, Exception | None] = {}
    for netns in dict.fromkeys(request.netns for request in requests):
        numbers = [number for number, request in enumerate(requests) if request.netns == netns]
        try:
            refusals = change_all([requests[number].change for number in numbers], netns)
            outcomes |= dict(zip(numbers, refusals, strict=True))
        except KernelError as error:
            outcomes |= dict.fromkeys(numbers, error)
    return [outcomes[number] for number in range(len(requests))]


@contextlib.contextmanager
def _inside(home: Home) -> Iterator[None]:
    with namespace.inside(home.netns):
        if namespace.identity(None) != home.identity:
            raise KernelError(errno.ENOENT, f"namespace {home.netns}: was replaced by another one")
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
