"""Cheap checks whether a name of a namespace leads elsewhere, or anything else has changed.

A comparison of everything that exists with everything that is configured takes some milliseconds. Between
changes only the names are looked up: one stat(2) for each. A namespace in which the daemon has a device
exists, so no other can have its inode. For one without any, only an event of its name is certain.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from epaird.config.settings import Configuration
from epaird.control.interfaces.registry import Registry
from epaird.control.machine.host import Host
from epaird.control.reloading.inforce import ConfigurationInForce
from epaird.kernel.namespace import Identity, path_of


@dataclass(frozen=True, slots=True)
class View:
    """The values that a comparison depends on, besides the absent interfaces."""

    changes: int
    """Number of changes that the daemon has made or noticed so far."""
    leads_to: tuple[Identity | None, ...]
    """Device and inode of the file that each name leads to."""


class NameCheck:
    """Looks up the names of all namespaces that the configuration or an interface uses."""

    def __init__(self, in_force: ConfigurationInForce, registry: Registry, host: Host) -> None:
        self._in_force = in_force
        self._registry = registry
        self._host = host
        self._collected: tuple[Configuration, int] | None = None
        """The configuration and the number of changes for which the names were collected."""
        self._netns: tuple[str, ...] = ()

    def view(self) -> View:
        """Return what a comparison depends on now."""
        return View(self._registry.bus.changes, self._host.leads_to(self._used()))

    def concerned(self, names: Container[str]) -> bool:
        """Return whether the path of a namespace ends with one of these names."""
        return any(path_of(netns).rpartition("/")[2] in names for netns in self._used())

    def _used(self) -> tuple[str, ...]:
        """Return the names and paths of all namespaces that are used."""
        current, changes = self._in_force.current, self._registry.bus.changes
        if self._collected is None or self._collected[0] is not current or self._collected[1] != changes:
            self._collected = current, changes
            configured = {interface.settings.netns for interface in current.interfaces}
            present = {ifnet.settings.netns for ifnet in self._registry.ifnets}
            self._netns = (*{*current.namespaces.create, *filter(None, configured | present)},)
        return self._netns
