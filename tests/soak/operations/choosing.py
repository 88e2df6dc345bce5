"""Which operation is next: chosen at random, by a seed and by what there has to be, and by nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Final

from tests.soak.expected import MADE, STEADY, Expected, Interface, Loopback, Pair, names, pair, with_half
from tests.soak.operations.external import (
    DeviceDeleted,
    DeviceFlapped,
    MadeNamespaceDeleted,
    NamespaceDeleted,
)
from tests.soak.operations.failures import (
    Concurrent,
    ControlDies,
    ControlKeeps,
    ControlStops,
    SpareDies,
    Upgrade,
    WorkerDies,
    WorkersDie,
)
from tests.soak.operations.files import FailingReload, Invalid, Plan, Reload, Save
from tests.soak.operations.operation import Operation
from tests.soak.operations.requests import Create, Destroy, Monitors, Patch, Refused, Set, Unpatch

AT_RUNTIME: Final = range(20, 40)
"""Units of pairs and loopbacks that are made by name."""
IN_THE_FILE: Final = range(10, 16)
MOST: Final = 8
"""Interfaces made at runtime."""
MTUS: Final = (1280, 1400, 1500, 4000, 9000)

Draw = Callable[[Random, Expected], Operation | None]
"""Draws an operation of a kind; None where there is nothing to do it to."""


def some_pair(choose: Random, unit: int) -> Pair:
    """A pair somewhere."""
    return pair(
        unit,
        choose.choice(("", "$green", "$green")),
        choose.choice(("", "$white", "$white")),
        queues=choose.choice((1, 1, 1, 2)),
        offload=choose.choice((True, True, True, False)),
        coalesce=choose.choice((True, True, False)),
        carrier=choose.choice(("peer", "peer", "always")),
    )


def some_loopback(choose: Random, unit: int) -> Loopback:
    """A loopback somewhere."""
    mode = choose.choice(("reflect", "verbatim"))
    routed = mode == "verbatim" and choose.random() < 0.5
    return Loopback(choose.choice(("", "$green")), mode, routed, (f"10.89.{unit}.1/24",))


def create(choose: Random, expected: Expected) -> Operation | None:
    """One more, unless there are enough."""
    if len(expected.runtime) >= MOST:
        return None
    kind = choose.choice(("epair", "epair", "epair", "lo"))
    by_kind = choose.random() < 0.5
    free = [unit for unit in AT_RUNTIME if f"{kind}{unit}" not in expected.interfaces]
    name = expected.lowest(kind) if by_kind else f"{kind}{choose.choice(free)}"
    unit = int(name.removeprefix(kind))
    found = some_pair(choose, unit) if kind == "epair" else some_loopback(choose, unit)
    return Create(name, found, by_kind)


def by_name(choose: Random, expected: Expected) -> Operation | None:
    """As create, by a name."""
    found = create(choose, expected)
    if not isinstance(found, Create):
        return None
    return replace(found, by_kind=False)


def destroy(choose: Random, expected: Expected) -> Operation | None:
    """One less."""
    if not expected.mutable:
        return None
    name, found = choose.choice(list(expected.mutable.items()))
    return Destroy(name, choose.choice((name, *names(name, found))))


def set_(choose: Random, expected: Expected) -> Operation | None:
    """One otherwise, in place."""
    if not expected.mutable:
        return None
    name, found = choose.choice(list(expected.mutable.items()))
    mtu = choose.choice(MTUS)
    if isinstance(found, Loopback):
        return Set(name, name, f"mtu={mtu}", replace(found, mtu=mtu))
    match choose.choice(("half", "half", "both", "pair")):
        case "half":
            side = choose.choice("ab")
            key, value = choose.choice((("mtu", mtu), ("up", choose.random() < 0.7), ("txqueuelen", mtu)))
            text = str(value).lower()
            return Set(name, name + side, f"{key}={text}", with_half(found, side, **{key: value}))
        case "both":
            both = with_half(with_half(found, "a", mtu=mtu), "b", mtu=mtu)
            return Set(name, name, f"mtu={mtu}", both)
    if choose.random() < 0.5:
        carrier = choose.choice(("peer", "always", "off"))
        return Set(name, name, f"carrier={carrier}", replace(found, carrier=carrier))
    coalesce = not found.coalesce
    return Set(name, name, f"coalesce={str(coalesce).lower()}", replace(found, coalesce=coalesce))


def _halves(expected: Expected) -> list[tuple[str, Pair]]:
    pairs = [(name, found) for name, found in expected.mutable.items() if isinstance(found, Pair)]
    return [(device, found) for name, found in pairs for device in names(name, found)]


def patch(choose: Random, expected: Expected) -> Operation | None:
    """A half plugged otherwise."""
    if not (halves := _halves(expected)):
        return None
    half, found = choose.choice(halves)
    others = [each for each, other in halves if each != half and other.queues == found.queues]
    if not others or choose.random() < 0.25:
        return Unpatch(half)
    return Patch(half, choose.choice(others))


REFUSALS: Final = (
    Refused(("destroy", "lo0"), "EPERM"),
    Refused(("destroy", "epair63"), "ENXIO"),
    Refused(("create", "epair0"), "EEXIST"),
    Refused(("create", "gif0"), "EINVAL"),
    Refused(("create", "epair63", "a.netns=nowhere"), "ENOENT"),
    Refused(("create", "epair63", "a.name=eth9", "a.netns=$red", "b.name=eth0", "b.netns=$red"), "EEXIST"),
    Refused(("set", "epair63a", "mtu=1500"), "ENXIO"),
    Refused(("set", "epair0a", "mtu=70000"), "EINVAL"),
    Refused(("set", "epair0", "queues=2"), "EINVAL"),
    Refused(("patch", "epair0a", "epair1a"), "EBUSY"),
)


def refused(choose: Random, _expected: Expected) -> Operation:
    """What cannot be had."""
    return choose.choice(REFUSALS)


def watchers(choose: Random, _expected: Expected) -> Operation:
    """Some who watch."""
    return Monitors(choose.randint(1, 4))


def reload(choose: Random, expected: Expected) -> Operation:
    """Another file."""
    file = dict(expected.file)
    told = [_edit(choose, file) for _ in range(choose.randint(1, 4))]
    workers, queue_limit = expected.workers, expected.queue_limit
    if choose.random() < 0.4:
        workers = choose.choice((1, 2, 3))
        told.append(f"workers = {workers}")
    if choose.random() < 0.3:
        queue_limit = choose.choice((500, 2100, 4000))
        told.append(f"queue_limit = {queue_limit}")
    by_signal = choose.random() < 0.2
    return Reload(", ".join(told), tuple(file.items()), workers, queue_limit, by_signal)


def _edit(choose: Random, file: dict[str, Interface]) -> str:
    """Change something in a file; what."""
    name = f"epair{choose.choice(IN_THE_FILE)}"
    match choose.choice(("pair", "pair", "half", "half", "namespace", "loopback")):
        case "namespace":
            return _turned(file, "epair50", pair(50, "$green", MADE))
        case "loopback":
            return _turned(file, "lo10", Loopback("$green", addresses=("10.89.10.1/24",)))
        case "half" if isinstance(found := file.get(name), Pair):
            side = choose.choice("ab")
            mtu, up = choose.choice(MTUS), choose.random() < 0.8
            file[name] = with_half(found, side, mtu=mtu, up=up)
            return f"~ {name}{side}"
    return _turned(file, name, some_pair(choose, int(name.removeprefix("epair"))))


def _turned(file: dict[str, Interface], name: str, found: Interface) -> str:
    """Have it in the file, or not any more, or otherwise."""
    if name not in file:
        file[name] = found
        return f"+ {name}"
    if isinstance(found, Pair) and MADE not in (found.a.netns, found.b.netns) and found.queues == 2:
        file[name] = found
        return f"-/+ {name}"
    del file[name]
    return f"- {name}"


def invalid(choose: Random, _expected: Expected) -> Operation:
    """A file with a mistake."""
    more, complaint = choose.choice((
        ("[epair.epair63]\nqueue = 1\n", "did you mean queues"),
        ("[epair.epair63]\na.mtu = 1\n", "epair63.a.mtu"),
        ("[epair.epair63]\na.addresses = ['10.0.0.1/24']\nb.addresses = ['10.0.0.1/24']\n", "10.0.0.1"),
        ("[epair.epair63\n", "line"),
    ))  # fmt: skip
    return Invalid(more, complaint, upgrading=choose.random() < 0.3)


def midway(_choose: Random, _expected: Expected) -> Operation:
    """A file that cannot be had."""
    return FailingReload()


def consulted(choose: Random, expected: Expected) -> Operation:
    """What there is is compared with the file, or saved."""
    return choose.choice((Plan(expected.changed), Save()))


def worker_dies(choose: Random, expected: Expected) -> Operation:
    """One worker."""
    how = choose.choice(("killed", "killed", "stopped", "hangs"))
    number, times = choose.randrange(expected.workers), choose.choice((1, 1, 1, 3))
    return WorkerDies(number, how, choose.random() < 0.2, times)


def other_processes(choose: Random, _expected: Expected) -> Operation:
    """Any others."""
    return choose.choice((WorkersDie(), SpareDies(), ControlStops(0.5), ControlStops(2.0)))


def succession(choose: Random, _expected: Expected) -> Operation:
    """Another control plane."""
    return choose.choice((ControlDies(), ControlDies(), ControlKeeps(), Upgrade(), Upgrade(by_signal=True)))


def by_owners(choose: Random, expected: Expected) -> Operation | None:
    """What becomes of devices and namespaces behind the daemon's back."""
    what = choose.choice(("device", "device", "jiggled", "jiggled", "namespace", "made"))
    made = [
        name
        for name, each in expected.mutable.items()
        if isinstance(each, Pair) and MADE in (each.a.netns, each.b.netns)
    ]
    if what == "namespace":
        return NamespaceDeleted()
    if what == "made":
        return MadeNamespaceDeleted(tuple(made)) if expected.namespace_made else None
    if not expected.mutable:
        return None
    name, found = choose.choice(list(expected.mutable.items()))
    device = choose.choice(names(name, found))
    _, settings = expected.devices[device]
    if what == "device":
        return DeviceDeleted(name, device, settings.netns)
    return DeviceFlapped(device, settings.netns, settings.mtu, settings.up)


def while_a_worker_dies(choose: Random, expected: Expected) -> Operation | None:
    """A change, and a worker that dies of something meanwhile."""
    change = _a_change(choose, expected) if choose.random() < 0.8 else ControlStops(1.0)
    if change is None:
        return None
    workers = min(expected.workers, change.workers if isinstance(change, Reload) else expected.workers)
    how = choose.choice(("killed", "stopped"))
    return Concurrent(change, WorkerDies(choose.randrange(workers), how), choose.randrange(400))


def while_the_control_plane_dies(choose: Random, expected: Expected) -> Operation | None:
    """A change, and a control plane that dies meanwhile."""
    change = _a_change(choose, expected)
    return None if change is None else Concurrent(change, ControlDies(), choose.randrange(150, 500))


def while_both_go(choose: Random, _expected: Expected) -> Operation:
    """An upgrade, and a control plane that dies of it, before or behind itself."""
    return Concurrent(Upgrade(), ControlDies(), choose.randrange(200, 4000))


def two_changes(choose: Random, expected: Expected) -> Operation | None:
    """Two changes that have nothing to do with each other, at once."""
    runtime = {name: found for name, found in expected.mutable.items() if name in expected.runtime}
    first = by_name(choose, expected)
    if first is None or not runtime:
        return None
    name, found = choose.choice(list(runtime.items()))
    mtu = choose.choice(MTUS)
    others: list[Operation] = [Destroy(name, name), reload(choose, expected)]
    if isinstance(found, Loopback):
        others.append(Set(name, name, f"mtu={mtu}", replace(found, mtu=mtu)))
    else:
        others.append(Set(name, name + "a", f"mtu={mtu}", with_half(found, "a", mtu=mtu)))
    return Concurrent(first, choose.choice(others), choose.randrange(200))


def while_upgrading(choose: Random, expected: Expected) -> Operation | None:
    """An upgrade, and a change or a worker's death meanwhile."""
    if choose.random() < 0.4:
        meanwhile: Operation | None = WorkerDies(choose.randrange(expected.workers))
    else:
        meanwhile = _a_change(choose, expected)
    return None if meanwhile is None else Concurrent(Upgrade(), meanwhile, choose.randrange(200, 3000))


def _a_change(choose: Random, expected: Expected) -> Operation | None:
    draw: Draw = choose.choice((by_name, by_name, destroy, set_, patch, reload))
    return draw(choose, expected)


KINDS: Final[dict[Draw, int]] = {
    create: 16,
    destroy: 12,
    set_: 10,
    patch: 8,
    refused: 4,
    watchers: 2,
    reload: 14,
    invalid: 3,
    midway: 2,
    consulted: 4,
    by_owners: 6,
    worker_dies: 8,
    other_processes: 4,
    succession: 4,
    while_a_worker_dies: 6,
    two_changes: 4,
    while_the_control_plane_dies: 2,
    while_upgrading: 2,
    while_both_go: 1,
}
"""How often each kind comes, relative to the others."""


def operations(seed: int, expected: Expected) -> Iterator[Operation]:
    """For ever, each to be done before the next is asked for; one of each kind first."""
    choose = Random(seed)
    first = [create, create, reload, *KINDS]
    choose.shuffle(first)
    for draw in [create, reload, *first]:
        if (found := draw(choose, expected)) is not None:
            yield found
    kinds, weights = list(KINDS), list(KINDS.values())
    while True:
        (draw,) = choose.choices(kinds, weights)
        if (found := draw(choose, expected)) is not None:
            yield found


def calm(expected: Expected) -> Iterator[Operation]:
    """What leads back to how it began."""
    for name in sorted(expected.runtime):
        yield Destroy(name, name)
    yield Reload("as in the beginning", tuple(STEADY.items()), 2, 2100)


WARM_UP: Final = len(KINDS) + 5
"""About so many operations are one of each kind."""
