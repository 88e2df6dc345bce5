"""Creating and configuring many devices at once: the part that runs in the thread that calls the kernel."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from epaird.control.machine.place import Place, is_in, left_namespace, location_of
from epaird.kernel import location, namespace
from epaird.kernel.convergence import Target, converge, default_qdiscs
from epaird.kernel.errors import KernelError
from epaird.kernel.link import LinkChange, execute
from epaird.kernel.location import Location
from epaird.kernel.namespace import Fingerprint
from epaird.kernel.tun import Tap


@dataclass(frozen=True, slots=True)
class Home:
    """A namespace in which a device is created."""

    netns: str
    """Name or path of the namespace."""
    fingerprint: Fingerprint
    """Expected fingerprint of the namespace: another one may have been put in its place."""


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

    location: Location
    """The device and its place, which is verified before anything is changed."""
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
    for identity in dict.fromkeys(request.location.namespace for request in requests):
        numbers = [number for number, each in enumerate(requests) if each.location.namespace == identity]
        try:
            outcomes |= dict(zip(numbers, _configured([requests[number] for number in numbers]), strict=True))
        except KernelError as error:
            outcomes |= dict.fromkeys(numbers, error)
    return [outcomes[number] for number in range(len(requests))]


def _configured(requests: Sequence[Configuring]) -> list[KernelError | None]:
    """Configure devices of one namespace."""
    with location.at_all([request.location for request in requests]) as (route, elsewhere):
        here = [request.change for request, why in zip(requests, elsewhere, strict=True) if why is None]
        refusals = iter(execute(route, here))
        return [why or next(refusals) for why in elsewhere]


def converge_all(targets: Sequence[tuple[Tap, Place, Target]]) -> list[KernelError | None]:
    """Give devices what they are to have; return the first refusal of each that remained, in order."""
    qdiscs = default_qdiscs()
    outcomes: dict[int, KernelError | None] = {}
    left = [n for n, (tap, place, target) in enumerate(targets) if _left_behind(tap, place, target)]
    for number in left:
        outcomes[number] = _cleaned_up(targets[number])
    for identity in dict.fromkeys(place.identity for _, place, _ in targets):
        numbers = [
            number
            for number, (_, place, _) in enumerate(targets)
            if place.identity == identity and number not in outcomes
        ]
        try:
            refusals = _converged([targets[number] for number in numbers], qdiscs) if numbers else []
            outcomes |= dict(zip(numbers, refusals, strict=True))
        except KernelError as error:
            outcomes |= dict.fromkeys(numbers, error)
    return [outcomes[number] for number in range(len(targets))]


def _left_behind(tap: Tap, place: Place, target: Target) -> bool:
    """Return whether only rules that a device left in a namespace are to be removed."""
    wanted = target.wanted
    nothing = not wanted.addresses and not wanted.routes and wanted.policy_table is None
    return nothing and not is_in(tap, place)


def _converged(
    targets: Sequence[tuple[Tap, Place, Target]], qdiscs: Collection[str]
) -> list[KernelError | None]:
    """Let devices of one namespace converge."""
    locations = [location_of(tap, place) for tap, place, _ in targets]
    with location.at_all(locations) as (route, elsewhere):
        here = [
            replace(target, index=place.index)
            for (_, place, target), why in zip(targets, elsewhere, strict=True)
            if why is None
        ]
        refusals = iter(converge(route, here, qdiscs))
        return [why or next(refusals) for why in elsewhere]


def _cleaned_up(left: tuple[Tap, Place, Target]) -> KernelError | None:
    """Remove the rules that a device left behind; return why it failed."""
    _, place, target = left
    try:
        with left_namespace(place) as route:
            (refusal,) = converge(route, [replace(target, index=0)])
            return refusal
    except KernelError as error:
        return error


@contextlib.contextmanager
def _inside(home: Home) -> Iterator[None]:
    with namespace.opened(home.netns) as found:
        if not namespace.fingerprint(found).matches(home.fingerprint):
            raise KernelError(errno.ENOENT, f"namespace {home.netns}: was replaced by another one")
        with namespace.inside(found):
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
