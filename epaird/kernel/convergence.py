"""Convergence: give devices the addresses, routes and rules that they are to have.

1. What the devices have is read from the kernel; nothing is concluded from earlier settings, because the
   kernel removes more than it is asked to: addresses and routes of a device that goes down, secondary
   addresses with their primary, routes with the last address of a device.
2. The difference is computed, for all devices together: a default route may move from one to another.
3. Removals precede additions, on all devices.
4. This repeats until nothing differs, or until the kernel has refused the same requests twice.

Only addresses, routes and rules that were set for a device are removed. If the kernel removes something that
others added together with them, it is added again.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import ipaddress
import os
import socket
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from epaird.kernel import abi, requests
from epaird.kernel.difference import (
    address_changes,
    address_key,
    network_route,
    route_changes,
    route_key,
)
from epaird.kernel.errors import KernelError
from epaird.kernel.link import LinkSettings
from epaird.kernel.netlink import RouteSocket
from epaird.kernel.policy import policy_rules, rule_changes
from epaird.kernel.printable import printable
from epaird.kernel.requests import Address, NetlinkRequest, Route, Rule
from epaird.kernel.state import DeviceState, NamespaceState, PresentAddress, PresentRoute, read

_ROUNDS: Final = 12
"""Rounds after which a remaining difference is reported: another program undoes the changes."""
_REFUSALS: Final = 2
"""Refusals after which a request is not made again."""
_DEFAULT_QDISC: Final = Path("/proc/sys/net/core/default_qdisc")
_DEFAULT_QDISCS: Final = frozenset(("noop", "pfifo_fast", "mq"))
"""Default queueing disciplines: of a device that was never up, and of the kernel."""


class Scope(enum.Enum):
    """The extent of a convergence."""

    ALL = enum.auto()
    """Everything."""
    TAKEN_ALONG = enum.auto()
    """Only what the kernel removes when a device goes down, moves or is renamed: IPv6 addresses, routes,
    rules, the queueing discipline. An absent IPv4 address was removed by another program, and routes whose
    next hop is in its subnet are left out."""


@dataclass(frozen=True, slots=True)
class Target:
    """A device that is to have certain settings."""

    device: str
    """The device's name in messages."""
    index: int
    """Interface index in the namespace."""
    wanted: LinkSettings
    """The settings, of which only addresses, routes and ``policy_table`` are considered."""
    released: LinkSettings | None = None
    """Settings that were in force before: what is in these and not in ``wanted`` is removed. None: nothing is
    removed."""
    scope: Scope = Scope.ALL
    """The extent."""


@dataclass(frozen=True, slots=True)
class Step:
    """One request of a round."""

    request: NetlinkRequest
    """The request."""
    target: int | None = None
    """Number of the target that needs it. None: a refusal does not matter."""
    item: Address | Route | None = None
    """The address or the route that it adds."""

    @property
    def key(self) -> tuple[int | None, int, bytes]:
        """The identity of the step in different rounds."""
        return self.target, self.request.kind, self.request.payload


def default_qdiscs() -> frozenset[str]:
    """Return the queueing disciplines that a device has by default.

    The administrator's default can be read in the machine's first namespace only.
    """
    with contextlib.suppress(OSError):
        return _DEFAULT_QDISCS | {_DEFAULT_QDISC.read_text().strip()}
    return _DEFAULT_QDISCS


def converge(
    route: RouteSocket, targets: Sequence[Target], qdiscs: Collection[str] = _DEFAULT_QDISCS
) -> list[KernelError | None]:
    """Give devices what they are to have; return, for each, the first refusal that remained, or None.

    ``route`` is a socket of the devices' namespace, and the caller is inside it. ``qdiscs`` are the queueing
    disciplines to replace by ``noqueue``. A device that is down gets no routes. When a target's device is not
    in the namespace, only its policy rules are removed. Raises KernelError when the state cannot be read.
    """
    rounds = _Rounds(route, targets, qdiscs)
    for _ in range(_ROUNDS):
        steps = rounds.steps()
        if not steps:
            break
        rounds.execute(steps)
    else:
        rounds.interrupt()
    return [rounds.errors.get(number) for number in range(len(targets))]


class _Rounds:
    """The rounds of one convergence."""

    def __init__(self, route: RouteSocket, targets: Sequence[Target], qdiscs: Collection[str]) -> None:
        self._route = route
        self._targets = targets
        self._qdiscs = qdiscs
        self._indexes = frozenset(target.index for target in targets)
        self._before = self._state = read(route, self._indexes)
        self._refused: Counter[tuple[int | None, int, bytes]] = Counter()
        self._unreachable: set[tuple[int, Address]] = set()
        self.errors: dict[int, KernelError] = {
            number: KernelError.about(target.device, errno.ENODEV)
            for number, target in enumerate(targets)
            if target.index not in self._state.devices and (target.wanted.addresses or target.wanted.routes)
        }

    def steps(self) -> list[Step]:
        """Return the requests of the next round, without those that were refused too often."""
        # An address that is always refused must not keep those after it from their places.
        targets = [
            replace(target, wanted=replace(target.wanted, addresses=self._possible(number, target)))
            for number, target in enumerate(self._targets)
        ]
        found = steps_towards(self._state, self._before, targets, self._qdiscs)
        return [step for step in found if self._refused[step.key] < _REFUSALS]

    def execute(self, steps: Sequence[Step]) -> None:
        """Execute the requests of a round, and read the state again."""
        numbers = self._route.execute(
            [(step.request.kind, step.request.flags, step.request.payload) for step in steps]
        )
        for step, number in zip(steps, numbers, strict=True):
            if not number:
                continue
            self._refused[step.key] += 1
            if step.target is not None and self._refused[step.key] == _REFUSALS:
                self.errors.setdefault(step.target, self._refusal(step, step.target, number))
                if isinstance(step.item, Address):
                    self._unreachable.add((step.target, step.item))
        self._state = read(self._route, self._indexes)

    def interrupt(self) -> None:
        """Report what still differs."""
        for step in self.steps():
            if step.target is not None:
                device = self._targets[step.target].device
                cause = "another program undoes the change"
                error = KernelError(errno.EBUSY, f"{device}: {step.request.subject}: {cause}")
                self.errors.setdefault(step.target, error)

    def _possible(self, number: int, target: Target) -> tuple[Address, ...]:
        return tuple(each for each in target.wanted.addresses if (number, each) not in self._unreachable)

    def _refusal(self, step: Step, target: int, number: int) -> KernelError:
        device = self._targets[target].device
        error = step.request.refusal(device, number)
        if number != errno.EEXIST or not isinstance(step.item, Route):
            return error
        key = route_key(step.item)._replace(via=None)
        for each in read(self._route).routes:
            if each.table == abi.RT_TABLE_MAIN and route_key(each.route)._replace(via=None) == key:
                return KernelError(number, f"{error}: {_described(each)}")
        return error


def steps_towards(
    state: NamespaceState,
    before: NamespaceState,
    targets: Sequence[Target],
    qdiscs: Collection[str] = _DEFAULT_QDISCS,
) -> list[Step]:
    """Return the next requests towards the targets, the removals of all devices first. No I/O.

    ``before`` is the state before the first request: settings of others that are gone since are added again.
    """
    remove: list[Step] = []
    addresses: list[Step] = []
    routes: list[Step] = []
    rules = _rule_steps(state, targets)
    for number, target in enumerate(targets):
        device = state.devices.get(target.index)
        if device is None:
            continue
        goal, versions = _goal(device, target)
        released = target.released
        changes = address_changes(
            device.addresses, goal.addresses, () if released is None else released.addresses, versions
        )
        changed = route_changes(device, goal, released)
        remove += [Step(_removal(each)) for each in changed.remove]
        remove += [Step(_removal(each)) for each in changes.remove]
        if device.qdisc in qdiscs:
            addresses.append(Step(requests.no_qdisc(target.index)))
        local = _accepts_local(device, target)
        if device.accepts_local != local:
            addresses.append(Step(requests.accept_local(target.index, local), number))
        addresses += [Step(requests.add_address(target.index, each), number, each) for each in changes.add]
        # Without one of the addresses a next hop may be out of reach.
        lenient = len(goal.addresses) < len(target.wanted.addresses)
        routes += [
            Step(requests.add_network_route(target.index, network_route(each), each), number)
            for each in changed.add_networks
        ]
        routes += [
            Step(requests.add_route(target.index, each), None if lenient else number, each)
            for each in changed.add
        ]
        routes += [
            Step(requests.add_policy_route(target.index, each, goal.policy_table or 0), number)
            for each in changed.add_policy
        ]
    addresses += [Step(_addition(each)) for each in _lost_addresses(state, before, targets)]
    routes += [Step(_addition(each)) for each in _lost_routes(state, before, targets)]
    return [*rules[0], *remove, *addresses, *routes, *rules[1]]


def _goal(device: DeviceState, target: Target) -> tuple[LinkSettings, tuple[int, ...]]:
    """Return the settings within the extent of a target, and the IP versions of the addresses to change."""
    wanted = target.wanted
    if target.scope is Scope.ALL:
        return wanted, (4, 6)
    here = {address_key(each.address) for each in device.addresses}
    absent = [each for each in wanted.addresses if address_key(each) not in here and not _is_ipv6(each)]
    there = [each for each in wanted.addresses if each not in absent]
    routes = tuple(
        each for each in wanted.routes if not _reaches(absent, each.via) or _reaches(there, each.via)
    )
    return replace(wanted, addresses=tuple(there), routes=routes), (6,)


def _reaches(addresses: Iterable[Address], hop: str | None) -> bool:
    """Return whether a next hop is in the subnet of one of these addresses."""
    if hop is None:
        return False
    address = ipaddress.ip_address(hop)
    return any(address in ipaddress.ip_interface(each.address).network for each in addresses)


def _accepts_local(device: DeviceState, target: Target) -> bool:
    """Return whether a device is to accept packets from the namespace's own addresses.

    Policy routing requires it: a packet from one own address to another one arrives from the loopback.
    """
    if target.wanted.policy_table is not None:
        return True
    released = target.released is not None and target.released.policy_table is not None
    return device.accepts_local and not released


def _is_ipv6(address: Address) -> bool:
    return address_key(address).version == 6


def _rule_steps(state: NamespaceState, targets: Sequence[Target]) -> tuple[list[Step], list[Step]]:
    """Return the removals and additions of policy rules."""
    owners: dict[Rule, int] = {}
    tables: set[int] = set()
    for number, target in enumerate(targets):
        settings = (target.wanted, target.released)
        tables |= {
            each.policy_table for each in settings if each is not None and each.policy_table is not None
        }
        if target.index in state.devices:
            rules = policy_rules(target.wanted.addresses, target.wanted.policy_table)
            owners |= dict.fromkeys(rules, number)
    if not tables:
        return [], []
    changes = rule_changes(state.rules, tables, owners)
    first = next(iter(owners.values()), None)
    return (
        [Step(requests.remove_rule(rule)) for rule in changes.remove],
        [Step(requests.add_rule(rule), owners.get(rule, first)) for rule in changes.add],
    )


def _lost_addresses(
    state: NamespaceState, before: NamespaceState, targets: Sequence[Target]
) -> Iterator[PresentAddress]:
    """Yield the addresses of others that the kernel removed, too."""
    for index, own in _own_addresses(targets).items():
        if index in state.devices and index in before.devices:
            here = {address_key(each.address).identity for each in state.devices[index].addresses}
            for each in before.devices[index].addresses:
                identity = address_key(each.address).identity
                if identity not in own and identity not in here:
                    yield each


def _own_addresses(targets: Sequence[Target]) -> dict[int, set[tuple[int, ...]]]:
    own: dict[int, set[tuple[int, ...]]] = {}
    for target in targets:
        released = () if target.released is None else target.released.addresses
        identities = {address_key(each).identity for each in (*target.wanted.addresses, *released)}
        own.setdefault(target.index, set()).update(identities)
    return own


def _lost_routes(
    state: NamespaceState, before: NamespaceState, targets: Sequence[Target]
) -> list[PresentRoute]:
    """Return the routes of others that the kernel removed, too, those without a next hop first."""
    if state is before:
        return []
    here = {each.message for each in state.routes}
    own = {
        (target.index, route_key(each))
        for target in targets
        for settings in (target.wanted, target.released)
        if settings is not None
        for each in settings.routes
    }
    tables = {
        each.policy_table
        for target in targets
        for each in (target.wanted, target.released)
        if each is not None
    }
    lost = [
        each
        for each in before.routes
        if each.message not in here
        and not each.automatic
        and each.table not in tables
        and (each.table != abi.RT_TABLE_MAIN or (each.index, route_key(each.route)) not in own)
    ]
    return sorted(lost, key=lambda each: each.route.via is not None)


def _removal(each: PresentAddress | PresentRoute) -> NetlinkRequest:
    if isinstance(each, PresentAddress):
        return requests.as_described(f"address {each.address}", abi.RTM_DELADDR, each.message)
    return requests.as_described(f"route {each.route}", abi.RTM_DELROUTE, each.message)


def _addition(each: PresentAddress | PresentRoute) -> NetlinkRequest:
    if isinstance(each, PresentAddress):
        return requests.as_described(f"address {each.address}", abi.RTM_NEWADDR, each.message)
    return requests.as_described(f"route {each.route}", abi.RTM_NEWROUTE, each.message)


def _described(each: PresentRoute) -> str:
    """Return the end of a message about the route that is in the way."""
    hop = "" if each.route.via is None else f" via {each.route.via}"
    try:
        name = printable(os.fsencode(socket.if_indextoname(each.index)))
        return f"{name} has it{hop}"
    except OSError:
        return f"it leads through several devices{hop}"
