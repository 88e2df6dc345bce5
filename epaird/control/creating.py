"""The interfaces of a configuration, created when the daemon starts."""

from __future__ import annotations

import logging

from epaird.config.settings import Configuration, InterfaceSettings
from epaird.control.interfaces.registry import Registry
from epaird.control.tasks import all_or_none
from epaird.kernel.errors import KernelError
from epaird.names.macpool import MacPool

log = logging.getLogger(__name__)


def reserve(macs: MacPool, configuration: Configuration) -> None:
    """Reserve the MAC addresses that a configuration names, so that no other half is given one."""
    for half in configuration.halves:
        if half.settings.mac not in (None, "stable"):
            macs.reserve(str(half.settings.mac))


async def create_interfaces(registry: Registry, configuration: Configuration, *, takes_over: bool) -> None:
    """Create what does not exist yet, all or nothing. Raises KernelError.

    Where the daemon ``takes_over`` what a predecessor has left, what cannot be created is left missing: the
    end of this process would end the forwarding of everything else as well."""

    async def create(name: str, settings: InterfaceSettings) -> None:
        try:
            await registry.create(name, settings)
        except KernelError as error:
            if not takes_over:
                raise
            log.warning("%s: missing, and created again when it can be: %s", name, error)

    present = registry.names | registry.withdrawn
    wanted = configuration.settings_by_name().items()
    await all_or_none(*(create(name, each) for name, each in wanted if name not in present))
