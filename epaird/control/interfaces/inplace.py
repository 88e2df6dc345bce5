"""Changes in place: devices are given other settings while they forward.

A change of one or several interfaces is one operation. When a part of it fails, everything is as before.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from epaird.config.immutable import IMMUTABLE
from epaird.config.settings import DeviceSettings
from epaird.control.interfaces.convergence import NOTHING, Convergence, Goal, wanted
from epaird.control.interfaces.ifnet import Clone, Ifnet
from epaird.control.interfaces.tracking import Tracker
from epaird.control.machine.host import Host
from epaird.control.operations import Refused
from epaird.kernel.abi import IPV6_MIN_MTU
from epaird.kernel.errors import KernelError
from epaird.kernel.link import LinkSettings
from epaird.kernel.tun import Tap

log = logging.getLogger(__name__)

_KEYS: Final = ("mac", "mtu", "txqueuelen", "name", "up")
"""The simple properties of a device, by their keys, in the order in which they are set.

Kernels before 6.2 rename no device that is up, so a device that goes down does so before it is renamed."""


def refuse_fixed(name: str, before: Mapping[str, object], after: Mapping[str, object]) -> None:
    """Raise Refused, EINVAL, when a key differs that cannot be changed in place."""
    for key, immutable in IMMUTABLE.items():
        if before.get(key) != after.get(key):
            hint = immutable.instead or immutable.reason
            raise Refused(errno.EINVAL, f"{name}: {key} cannot be changed in place: {hint}")


def busy(name: str) -> KernelError:
    """Return the error of a change to an interface that is being destroyed."""
    return KernelError(errno.EBUSY, f"{name} is being destroyed")


def warn_of_missing(device: str, tap: Tap) -> None:
    """Log the wanted offloads that a device lacks."""
    if tap.missing:
        log.warning("%s: this kernel has no %s; continuing without", device, " and no ".join(tap.missing))


def with_notes(error: Exception) -> str:
    """Return the message of a change's error, with a list of everything that is not as before."""
    left = [line for note in getattr(error, "__notes__", ()) for line in note.splitlines()]
    return "; ".join([str(error), *(f"not as before: {line}" for line in dict.fromkeys(left))])


class DeviceChange:
    """The change of one device to other settings."""

    def __init__(
        self,
        ifnet: Ifnet,
        after: DeviceSettings,
        *,
        mac: str | None = None,
        requested: Collection[str] = (),
    ) -> None:
        """``mac`` is the hardware address that a half is to have. The keys that were ``requested`` are set
        even if the recorded settings have them: the owner may have changed the device since."""
        self.ifnet = ifnet
        self.before = ifnet.settings
        self.after = after
        before: dict[str, Any] = {
            "mac": ifnet.lladdr,
            "mtu": ifnet.mtu,
            "txqueuelen": ifnet.settings.txqueuelen,
            "name": ifnet.place.name,
            "up": ifnet.up,
        }
        then: dict[str, Any] = {
            "mac": mac,
            "mtu": after.mtu,
            "txqueuelen": after.txqueuelen,
            "name": after.name or ifnet.device,
            "up": after.up,
        }
        keys = {key for key in _KEYS if key != "mac" and getattr(after, key) != getattr(self.before, key)}
        keys |= {"mac"} if mac != ifnet.lladdr else set()
        keys |= {key for key in requested if key in _KEYS and then[key] is not None}
        self._old = {key: before[key] for key in keys}
        self._new = {key: then[key] for key in keys}
        differs = _addressing(ifnet.settings) != _addressing(after)
        self._ours = differs or not ifnet.away
        small = min(self._old.get("mtu", IPV6_MIN_MTU), self._new.get("mtu", IPV6_MIN_MTU)) < IPV6_MIN_MTU
        self._takes = differs or small or "up" in self._new
        self._released = self._wanted(self.before)

    async def begin(self, host: Host, tracker: Tracker) -> None:
        """Set the properties that differ. Raises KernelError; some of them may have been set."""
        for key in _ordered(self._new):
            await _set(host, tracker, self.ifnet, key, self._new[key])

    async def undo(self, host: Host, tracker: Tracker) -> list[KernelError]:
        """Set the properties as they were; return what could not be done."""
        failures = []
        for key in _ordered(self._old):
            try:
                await _set(host, tracker, self.ifnet, key, self._old[key])
            except KernelError as error:
                failures.append(error)
        return failures

    @property
    def goal(self) -> Goal:
        """The wanted state of the device, after :meth:`begin`."""
        return Goal(self.ifnet, self._wanted(self.after), self._released, self._takes)

    @property
    def former_goal(self) -> Goal:
        """The former state of the device, wanted again after :meth:`undo`."""
        return Goal(self.ifnet, self._wanted(self.before), self._wanted(self.after), self._takes)

    def _wanted(self, settings: DeviceSettings) -> LinkSettings:
        """Return what the device is to have; nothing that others may have set where they moved it to."""
        return wanted(self.ifnet, settings) if self._ours else NOTHING


class CloneChange(Protocol):
    """The change of one clone to other settings."""

    @property
    def clone(self) -> Clone:
        """The clone."""

    @property
    def devices(self) -> Sequence[DeviceChange]:
        """The changes of its devices, once it is prepared."""

    def prepare(self) -> None:
        """Check the settings, and reserve what is needed. Raises Refused or KernelError."""

    async def finish(self) -> None:
        """Record the settings and apply what concerns the forwarding, once the devices have changed.

        Raises KernelError, WorkerLost or WorkerRefused."""

    async def revert(self) -> None:
        """Record the settings of before and forward as before, once the devices are as before.

        Raises as :meth:`finish`."""


class InPlace:
    """Carries out changes in place."""

    def __init__(self, host: Host, convergence: Convergence, tracker: Tracker) -> None:
        self._host = host
        self._convergence = convergence
        self._tracker = tracker

    async def apply(self, changes: Sequence[CloneChange]) -> None:
        """Apply changes, all or none.

        Raises what a part raises: Refused, KernelError, WorkerLost or WorkerRefused. The error has a note for
        each thing that is not as before."""
        async with self._convergence.lock:
            prepared: list[CloneChange] = []
            begun: list[DeviceChange] = []
            try:
                for change in changes:
                    if change.clone.destroying:
                        raise busy(change.clone.name)
                    prepared.append(change)
                    change.prepare()
                for device in (device for change in changes for device in change.devices):
                    begun.append(device)
                    await device.begin(self._host, self._tracker)
                for failure in await self._convergence.converge(device.goal for device in begun):
                    raise failure
                for change in changes:
                    await change.finish()
            except Exception as error:
                for problem in await self._roll_back(begun, prepared):
                    error.add_note(str(problem))
                raise

    async def restore(self, goals: Iterable[Goal]) -> None:
        """Give devices what they are to have. Raises KernelError for the first that cannot be done."""
        async with self._convergence.lock:
            for failure in await self._convergence.converge(goals):
                raise failure

    async def _roll_back(
        self, begun: Sequence[DeviceChange], changes: Sequence[CloneChange]
    ) -> list[Exception]:
        """Undo changes; return what could not be undone."""
        problems: list[Exception] = []
        for device in reversed(begun):
            problems += await device.undo(self._host, self._tracker)
        problems += await self._convergence.converge(device.former_goal for device in begun)
        for change in reversed(changes):
            try:
                await change.revert()
            except Exception as error:  # noqa: BLE001  the rest is to be undone, too
                problems.append(error)
        return problems


async def _set(host: Host, tracker: Tracker, ifnet: Ifnet, key: str, value: Any) -> None:  # noqa: ANN401
    """Set a property of a device and record it. Raises KernelError."""
    await host.set_property(ifnet.tap, ifnet.place, key, value)
    match key:
        case "mac":
            ifnet.record_lladdr(value)
        case "mtu" if value != ifnet.mtu:
            ifnet.mtu = value
            if ifnet.cable is not None:
                ifnet.cable.resize()
        case "name":
            tracker.record(ifnet, replace(ifnet.place, name=value))
        case "up":
            ifnet.up = value


def _ordered(properties: Mapping[str, Any]) -> list[str]:
    keys = [key for key in _KEYS if key in properties]
    if properties.get("up") is False:
        keys.remove("up")
        keys.insert(keys.index("name") if "name" in keys else len(keys), "up")
    return keys


def _addressing(settings: DeviceSettings) -> tuple[object, ...]:
    return settings.addresses, settings.routes, getattr(settings, "policy_routing", False)
