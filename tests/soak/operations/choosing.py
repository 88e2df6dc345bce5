"""The choice of the next operation: random, and determined by the seed and the expected state alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Final

from tests.soak.expected import (
    MADE,
    STEADY,
    Expected,
    Half,
    Interface,
    Loopback,
    Pair,
    names,
    pair,
    toggled,
    with_half,
    written,
)
from tests.soak.operations import stalls
from tests.soak.operations.external import (
    IPV6_LEAST,
    AddressRemoved,
    ConfiguredDeviceDeleted,
    DeviceDeleted,
    DeviceFlapped,
    DeviceRenamed,
    DeviceResized,
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
from tests.soak.operations.hostilities import BETWEEN, HOSTILITIES
from tests.soak.operations.impairing import impair, random_impairment
from tests.soak.operations.namespaces import (
    MadeNamespaceDeleted,
    NamespaceDeleted,
    NamespaceMadeAgain,
    NamespaceReplaced,
    NamespaceReturns,
)
from tests.soak.operations.operation import Draw, Operation
from tests.soak.operations.requests import Create, Destroy, Monitors, Patch, Refused, Set, Unpatch

AT_RUNTIME: Final = range(20, 40)
"""Units of pairs and loopbacks created by name."""
IN_THE_FILE: Final = range(10, 16)
RUNTIME_MAX: Final = 8
"""Limit of interfaces created at run time."""
TOGGLED: Final = ("offload", "coalesce", "pmtu")
"""Settings of a pair that change in place."""
MTUS: Final = (1280, 1400, 1500, 4000, 9000)


def random_pair(choose: Random, unit: int) -> Pair:
    """Return a random pair."""
    queues = choose.choice((1, 1, 1, 2))
    made = pair(
        unit,
        choose.choice(("", "$green", "$green")),
        choose.choice(("", "$white", "$white")),
        queues=queues,
        offload=choose.choice((True, True, True, False)),
        coalesce=choose.choice((True, True, False)),
        pmtu=choose.choice((True, True, False)),
        rich=choose.random() < 0.5,
        carrier=choose.choice(("peer", "peer", "always")),
    )
    if queues == 1 and choose.random() < 0.3:
        made = with_half(made, choose.choice("ab"), impair=random_impairment(choose))
    return made


def random_loopback(choose: Random, unit: int) -> Loopback:
    """Return a random loopback."""
    mode = choose.choice(("reflect", "verbatim"))
    routed = mode == "verbatim" and choose.random() < 0.5
    return Loopback(choose.choice(("", "$green")), mode, routed, (f"10.89.{unit}.1/24",))


def create(choose: Random, expected: Expected) -> Operation | None:
    """Create an interface, unless there are enough."""
    if len(expected.runtime) >= RUNTIME_MAX:
        return None
    kind = choose.choice(("epair", "epair", "epair", "lo"))
    by_kind = choose.random() < 0.5
    free = [unit for unit in AT_RUNTIME if f"{kind}{unit}" not in expected.interfaces]
    name = expected.lowest(kind) if by_kind else f"{kind}{choose.choice(free)}"
    unit = int(name.removeprefix(kind))
    found = random_pair(choose, unit) if kind == "epair" else random_loopback(choose, unit)
    return Create(name, found, by_kind)


def by_name(choose: Random, expected: Expected) -> Operation | None:
    """Create an interface by its name."""
    found = create(choose, expected)
    if not isinstance(found, Create):
        return None
    return replace(found, by_kind=False)


def destroy(choose: Random, expected: Expected) -> Operation | None:
    """Destroy an interface."""
    if not expected.mutable:
        return None
    name, found = choose.choice(list(expected.mutable.items()))
    return Destroy(name, choose.choice((name, *names(name, found))))


def set_(choose: Random, expected: Expected) -> Operation | None:
    """Change an interface in place."""
    if not expected.mutable:
        return None
    name, found = choose.choice(list(expected.mutable.items()))
    mtu = choose.choice(MTUS)
    if isinstance(found, Loopback):
        return Set(name, name, f"mtu={mtu}", replace(found, mtu=mtu))
    match choose.choice(("half", "half", "half", "both", "pair", "pair")):
        case "half":
            side = choose.choice("ab")
            key, value, text = _half_setting(choose, name + side, getattr(found, side))
            return Set(name, name + side, f"{key}={text}", with_half(found, side, **{key: value}))
        case "both":
            both = with_half(with_half(found, "a", mtu=mtu), "b", mtu=mtu)
            return Set(name, name, f"mtu={mtu}", both)
    if choose.random() < 0.3:
        carrier = choose.choice(("peer", "always", "off"))
        return Set(name, name, f"carrier={carrier}", replace(found, carrier=carrier))
    key = choose.choice(TOGGLED)
    changed = toggled(found, key)
    return Set(name, name, f"{key}={str(getattr(changed, key)).lower()}", changed)


def _half_setting(choose: Random, device: str, half: Half) -> tuple[str, object, str]:
    """Return a key of a half, another value, and the value as it is written."""
    match choose.choice(("mtu", "up", "up", "txqueuelen", "sndbuf", "addresses", "name")):
        case "up":
            up = choose.random() < 0.7
            return "up", up, str(up).lower()
        case "txqueuelen":
            length = choose.choice(MTUS)
            return "txqueuelen", length, str(length)
        case "sndbuf":
            size = choose.choice((8192, 1 << 20))
            return "sndbuf", size, str(size)
        case "addresses" if half.addresses:
            shuffled = _other_order(choose, half.addresses)
            return "addresses", shuffled, written("addresses", shuffled)
        case "name":
            name = choose.choice(("", f"w{device}"))
            return "name", name, name or device
    mtu = choose.choice(MTUS)
    return "mtu", mtu, str(mtu)


def _other_order(choose: Random, addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Return addresses in another order, sometimes without the address that no route needs."""
    shuffled = choose.sample(addresses, len(addresses))
    if choose.random() < 0.3:
        shuffled = [each for each in shuffled if not each.endswith((".11/24", "::11/64"))]
    return tuple(shuffled)


def _halves(expected: Expected) -> list[tuple[str, Pair]]:
    pairs = [(name, found) for name, found in expected.mutable.items() if isinstance(found, Pair)]
    return [(device, found) for name, found in pairs for device in names(name, found)]


def patch(choose: Random, expected: Expected) -> Operation | None:
    """Patch or unpatch a half."""
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
    """Make a request that is refused."""
    return choose.choice(REFUSALS)


def monitors(choose: Random, _expected: Expected) -> Operation:
    """Run some monitors."""
    return Monitors(choose.randint(1, 4))


def reload(choose: Random, expected: Expected) -> Operation:
    """Reload another file."""
    file = dict(expected.file)
    changes = [_edit(choose, file) for _ in range(choose.randint(1, 4))]
    workers, queue_limit = expected.workers, expected.queue_limit
    if choose.random() < 0.4:
        workers = choose.choice((1, 2, 3))
        changes.append(f"workers = {workers}")
    if choose.random() < 0.3:
        queue_limit = choose.choice((500, 2100, 4000))
        changes.append(f"queue_limit = {queue_limit}")
    by_signal = choose.random() < 0.2
    return Reload(", ".join(changes), tuple(file.items()), workers, queue_limit, by_signal)


def _edit(choose: Random, file: dict[str, Interface]) -> str:
    """Change something in a file and return a description."""
    name = f"epair{choose.choice(IN_THE_FILE)}"
    match choose.choice(("pair", "pair", "half", "half", "namespace", "loopback")):
        case "namespace":
            return _toggled(file, "epair50", pair(50, "$green", MADE))
        case "loopback":
            return _toggled(file, "lo10", Loopback("$green", addresses=("10.89.10.1/24",)))
        case "half" if isinstance(found := file.get(name), Pair):
            side = choose.choice("ab")
            mtu, up = choose.choice(MTUS), choose.random() < 0.8
            changed = with_half(found, side, mtu=mtu, up=up)
            if (addresses := getattr(found, side).addresses) and choose.random() < 0.5:
                changed = with_half(changed, side, addresses=_other_order(choose, addresses))
            key = choose.choice(TOGGLED)
            file[name] = toggled(changed, key)
            return f"~ {name}{side}, {key}"
    return _toggled(file, name, random_pair(choose, int(name.removeprefix("epair"))))


def _toggled(file: dict[str, Interface], name: str, found: Interface) -> str:
    """Add an interface to the file, remove it, or replace it."""
    if name not in file:
        file[name] = found
        return f"+ {name}"
    if isinstance(found, Pair) and MADE not in (found.a.netns, found.b.netns) and found.queues == 2:
        file[name] = found
        return f"-/+ {name}"
    del file[name]
    return f"- {name}"


def invalid(choose: Random, _expected: Expected) -> Operation:
    """Reload or upgrade with an invalid file."""
    extra, complaint = choose.choice((
        ("[epair.epair63]\nqueue = 1\n", "did you mean queues"),
        ("[epair.epair63]\na.mtu = 1\n", "epair63.a.mtu"),
        ("[epair.epair63]\na.addresses = ['10.0.0.1/24']\nb.addresses = ['10.0.0.1/24']\n", "10.0.0.1"),
        ("[epair.epair63\n", "line"),
    ))  # fmt: skip
    return Invalid(extra, complaint, upgrading=choose.random() < 0.3)


def failing_reload(_choose: Random, _expected: Expected) -> Operation:
    """Reload a file that cannot be applied."""
    return FailingReload()


def compare_or_save(choose: Random, expected: Expected) -> Operation:
    """Compare the running configuration with the file, or save it."""
    return choose.choice((Plan(expected.changed), Save()))


def worker_dies(choose: Random, expected: Expected) -> Operation:
    """Disturb one worker."""
    how = choose.choice(("killed", "killed", "stopped", "hangs"))
    number, times = choose.randrange(expected.workers), choose.choice((1, 1, 1, 3))
    return WorkerDies(number, how, choose.random() < 0.2, times)


def other_processes(choose: Random, _expected: Expected) -> Operation:
    """Disturb other processes."""
    return choose.choice((WorkersDie(), SpareDies(), ControlStops(0.5), ControlStops(2.0)))


def replace_control_plane(choose: Random, _expected: Expected) -> Operation:
    """Replace the control plane."""
    return choose.choice((ControlDies(), ControlDies(), ControlKeeps(), Upgrade(), Upgrade(by_signal=True)))


def change_externally(choose: Random, expected: Expected) -> Operation | None:
    """Change a device without the daemon."""
    if not expected.mutable:
        return None
    name, found = choose.choice(list(expected.mutable.items()))
    device = choose.choice(names(name, found))
    _, settings = expected.devices[device]
    kernel_name = getattr(settings, "name", "") or device
    configured = name not in expected.runtime
    where = device, kernel_name, settings.netns
    removable = (*settings.addresses, *(each for each in getattr(settings, "routes", ()) if " via " in each))
    match choose.choice(("deleted", "flapped", "flapped", "renamed", "resized", "address", "address")):
        case "deleted" if configured:
            return _configured_deleted(choose, expected, name, *where)
        case "deleted":
            return DeviceDeleted(name, *where)
        case "renamed":
            return DeviceRenamed(*where)
        case "resized":
            return DeviceResized(*where, settings.mtu)
        case "address" if configured and settings.up and removable:
            return AddressRemoved(*where, choose.choice(removable))
    lowest = choose.choice((2000, IPV6_LEAST - 1))
    return DeviceFlapped(*where, settings.mtu, settings.up, lowest)


def _configured_deleted(
    choose: Random, expected: Expected, name: str, device: str, kernel_name: str, netns: str
) -> Operation:
    """Delete a device of the file; the pauses grow, so that a reload follows if it was deleted before."""
    by_reload = choose.random() < 0.3 or expected.deletions[name] > 1
    return ConfiguredDeviceDeleted(name, device, kernel_name, netns, by_reload)


def delete_lo0(choose: Random, expected: Expected) -> Operation:
    """Delete the loopback that is always there."""
    return _configured_deleted(choose, expected, "lo0", "lo0", "lo0", "")


def remove_namespace(choose: Random, expected: Expected) -> Operation:
    """Remove a namespace, which may come back."""
    made = tuple(
        name
        for name, each in expected.mutable.items()
        if isinstance(each, Pair) and MADE in (each.a.netns, each.b.netns)
    )
    between = choose.choice((None, None, *BETWEEN))
    match choose.choice(("deleted", "again", "made", "returns", "replaced", "replaced")):
        case "deleted":
            return NamespaceDeleted()
        case "made" if expected.namespace_made:
            by_reload = choose.random() < 0.5 or any(expected.deletions[name] > 1 for name in made)
            return MadeNamespaceDeleted(made, by_reload)
        case "returns":
            return NamespaceReturns(between)
        case "replaced":
            return NamespaceReplaced(between, choose.random() < 0.5, choose.random() < 0.5)
    return NamespaceMadeAgain()


def receiver_stuck(choose: Random, expected: Expected) -> Operation | None:
    """Have a receiver take nothing for a while."""
    if stalls.NAME in expected.interfaces:
        return Destroy(stalls.NAME, stalls.NAME)
    between = choose.choice((None, None, None, *BETWEEN))
    return stalls.ReceiverStuck(between, choose.choice(stalls.WHILE_WAITING))


def while_a_worker_dies(choose: Random, expected: Expected) -> Operation | None:
    """Make a change while a worker dies."""
    change = _random_change(choose, expected) if choose.random() < 0.8 else ControlStops(1.0)
    if change is None:
        return None
    workers = min(expected.workers, change.workers if isinstance(change, Reload) else expected.workers)
    how = choose.choice(("killed", "stopped"))
    return Concurrent(change, WorkerDies(choose.randrange(workers), how), choose.randrange(400))


def while_the_control_plane_dies(choose: Random, expected: Expected) -> Operation | None:
    """Make a change while the control plane dies."""
    change = _random_change(choose, expected)
    return None if change is None else Concurrent(change, ControlDies(), choose.randrange(150, 500))


def upgrade_while_the_control_plane_dies(choose: Random, _expected: Expected) -> Operation:
    """Upgrade while the control plane dies, before, during or after the upgrade."""
    return Concurrent(Upgrade(), ControlDies(), choose.randrange(200, 4000))


def two_changes(choose: Random, expected: Expected) -> Operation | None:
    """Make two independent changes at once."""
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
    """Upgrade while something changes or a worker dies."""
    if choose.random() < 0.4:
        concurrent: Operation | None = WorkerDies(choose.randrange(expected.workers))
    else:
        concurrent = _random_change(choose, expected)
    return None if concurrent is None else Concurrent(Upgrade(), concurrent, choose.randrange(200, 3000))


def _random_change(choose: Random, expected: Expected) -> Operation | None:
    draw: Draw = choose.choice((by_name, by_name, destroy, set_, patch, reload))
    return draw(choose, expected)


KINDS: Final[dict[Draw, int]] = {
    create: 16,
    destroy: 12,
    set_: 10,
    patch: 8,
    refused: 4,
    monitors: 2,
    reload: 14,
    invalid: 3,
    failing_reload: 2,
    compare_or_save: 4,
    change_externally: 12,
    delete_lo0: 1,
    remove_namespace: 5,
    impair: 10,
    receiver_stuck: 5,
    worker_dies: 8,
    other_processes: 4,
    replace_control_plane: 4,
    while_a_worker_dies: 6,
    two_changes: 4,
    while_the_control_plane_dies: 2,
    while_upgrading: 2,
    upgrade_while_the_control_plane_dies: 1,
    **HOSTILITIES,
}
"""The relative frequency of each kind."""


def operations(seed: int, expected: Expected) -> Iterator[Operation]:
    """Yield operations for ever, one of each kind first; each is to be done before the next is drawn."""
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


def restore(expected: Expected) -> Iterator[Operation]:
    """Yield the operations that restore the initial state."""
    for name in sorted(expected.runtime):
        yield Destroy(name, name)
    yield Reload("initial state", tuple(STEADY.items()), 2, 2100)


WARM_UP: Final = len(KINDS) + 5
"""About this many operations include one of each kind."""
