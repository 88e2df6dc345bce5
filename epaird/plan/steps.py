"""The values that a plan consists of."""

from __future__ import annotations

from dataclasses import dataclass, replace

from epaird.config.immutable import IMMUTABLE
from epaird.config.settings import InterfaceSettings
from epaird.names.cloners import EPAIR


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that changes."""

    key: str
    """``a.mtu``, or ``daemon.queue_limit``."""
    old: object
    """The present value."""
    new: object
    """The wanted value."""
    reset: bool = False
    """True if the configuration applied before has the wanted value too: it was changed at runtime."""

    @property
    def name(self) -> str:
        """The key without its tables: ``mtu``."""
        return self.key.rpartition(".")[2]

    @property
    def reason(self) -> str:
        """Reason why an interface cannot change this key in place; empty if it can."""
        fixed = IMMUTABLE.get(self.name)
        return fixed.reason if fixed is not None else ""


@dataclass(frozen=True, slots=True)
class Create:
    """An interface that is created."""

    name: str
    """Name of the interface."""
    settings: InterfaceSettings
    """Its settings."""
    lost: bool = False
    """True if it existed before: it was destroyed, or its device was lost."""
    waits: str = ""
    """Reason why it cannot be created yet; it is created when that has changed."""


@dataclass(frozen=True, slots=True)
class Destroy:
    """An interface that is no longer in the file and is destroyed."""

    name: str
    """Name of the interface."""


@dataclass(frozen=True, slots=True)
class Change:
    """An interface that changes in place."""

    name: str
    """Name of the interface."""
    settings: InterfaceSettings
    """All settings that it is to have."""
    differences: tuple[Difference, ...]
    """The keys that change."""


@dataclass(frozen=True, slots=True)
class Recreate:
    """An interface that is destroyed and created again."""

    name: str
    """Name of the interface."""
    settings: InterfaceSettings
    """All settings that it is to have."""
    differences: tuple[Difference, ...]
    """All keys that change, among them those that cannot change in place."""
    waits: str = ""
    """The interface that has the name or the hardware address that this one is to have."""
    first: bool = False
    """True if it is destroyed before others change, which are to have an address or a route that it has."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A half that is plugged into another half, or unplugged."""

    half: str
    """Its own name."""
    old: str | None
    """Its present peer."""
    new: str | None
    """Its wanted peer."""
    reset: bool = False
    """True if the configuration applied before has the wanted peer too: it was changed at runtime."""


@dataclass(frozen=True, slots=True)
class Restore:
    """Addresses, routes and rules of a device that were removed by others and are put back."""

    device: str
    """The device's own name."""
    addresses: tuple[str, ...] = ()
    """Absent addresses with prefix lengths, ``10.0.0.1/24``."""
    routes: tuple[str, ...] = ()
    """Absent routes, ``10.1.0.0/16 via 10.0.0.2``."""
    misplaced: tuple[str, ...] = ()
    """Addresses that are present, but not in the order of the configuration."""
    rules: tuple[str, ...] = ()
    """Absent policy rules, ``10: from all iif lo1 lookup local``."""

    @property
    def all(self) -> tuple[str, ...]:
        """Everything that is put back."""
        return (*self.addresses, *self.misplaced, *self.routes, *self.rules)

    @property
    def empty(self) -> bool:
        """True if there is nothing to put back."""
        return not self.all


@dataclass(frozen=True, slots=True)
class Relocate:
    """A device in a namespace to which the configured name no longer leads."""

    device: str
    """The device's own name."""
    netns: str
    """The configured name or path of the namespace."""
    here: str
    """The namespace that it is in: ``net:[4026532001]``."""
    leads_to: str
    """The namespace that it is moved to; empty when the name leads to none, and the device stays."""


Step = Create | Destroy | Change | Recreate


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of a reload, in their order."""

    namespaces_created: tuple[str, ...] = ()
    """Namespaces that are created."""
    steps: tuple[Step, ...] = ()
    """Steps on interfaces, in this order."""
    patches: tuple[Patch, ...] = ()
    """Halves that get another peer, once every interface exists."""
    restored: tuple[Restore, ...] = ()
    """Devices that get back what was removed from them."""
    destroyed_last: tuple[Destroy, ...] = ()
    """Interfaces that are destroyed after everything new exists."""
    namespaces_removed: tuple[str, ...] = ()
    """Namespaces that are removed."""
    daemon: tuple[Difference, ...] = ()
    """Keys of [daemon] and [metrics] that change."""
    adopted: tuple[str, ...] = ()
    """Interfaces that were created at runtime and are in the file; they are not changed."""
    relocated: tuple[Relocate, ...] = ()
    """Devices that move to where the name of their namespace leads now, or stay if it leads nowhere."""
    missing: tuple[Restore, ...] = ()
    """Everything that devices lacked before the reload, whether it is put back or not."""

    @property
    def possible(self) -> Plan:
        """The plan without what waits."""
        waiting = {step.name for step in self.steps if isinstance(step, Create) and step.waits}
        halves = {half for name in waiting for half in EPAIR.devices_of(name)}
        return replace(
            self,
            steps=tuple(step for step in self.steps if step.name not in waiting),
            patches=tuple(each for each in self.patches if halves.isdisjoint((each.half, each.new))),
        )

    @property
    def empty(self) -> bool:
        """True if there is nothing to do."""
        return not (
            self.namespaces_created or self.steps or self.patches or self.restored or self.destroyed_last
            or self.namespaces_removed or self.daemon or any(each.leads_to for each in self.relocated)
        )  # fmt: skip
