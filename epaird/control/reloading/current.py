"""The running state as a configuration: the start of a reload, and the output of ``epairctl save``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from epaird.config.settings import Configuration, InterfaceSettings, NamespacesSettings
from epaird.control.interfaces.ifnet import Clone
from epaird.control.interfaces.observed import unsaid_name
from epaird.control.interfaces.registry import Registry


@dataclass(frozen=True, slots=True)
class RunningState:
    """The running state in the form of a configuration."""

    configuration: Configuration
    """The interfaces that belong to the configuration or are in the file, with their present settings."""
    peers: Mapping[str, str | None]
    """The peer of each half."""
    lost: frozenset[str]
    """Interfaces that every configuration implies and that do not exist."""
    runtime: frozenset[str]
    """Interfaces of ``configuration`` that were created at runtime."""


def running_state(
    registry: Registry, current: Configuration, namespaces: Iterable[str], file: Configuration
) -> RunningState:
    """Return the running state, for a comparison with a ``file``.

    ``current`` is the configuration in force, ``namespaces`` those that the daemon has created. Interfaces
    that were created at runtime and are not in the file are left out: a reload does not concern them."""
    wanted = file.settings_by_name()
    present: dict[str, InterfaceSettings] = {
        clone.name: registry.kind_of(clone).matched(clone, wanted.get(clone.name))
        for clone in registry
        if not clone.destroying and (clone.origin == "configuration" or clone.name in wanted)
    }
    configuration = _configuration(registry, current, namespaces, present)
    runtime = {clone.name for clone in registry if clone.origin == "runtime"}
    return RunningState(
        configuration,
        peers(registry),
        frozenset(configuration.settings_by_name().keys() - present.keys()),
        frozenset(runtime & present.keys()),
    )


def running_configuration(
    registry: Registry, current: Configuration, namespaces: Iterable[str]
) -> Configuration:
    """Return the configuration that would create everything as it is now, also what requests created."""
    observed = {
        clone.name: registry.kind_of(clone).observed(clone) for clone in registry if not clone.destroying
    }
    return _configuration(registry, current, namespaces, observed)


def left_out(registry: Registry) -> tuple[str, ...]:
    """Return one line for each thing that :func:`running_configuration` leaves out."""
    reasons = ((ifnet.device, unsaid_name(ifnet)) for ifnet in registry.ifnets)
    return tuple(f"{device}: its present name is left out: {reason}" for device, reason in reasons if reason)


def peers(registry: Registry) -> dict[str, str | None]:
    """Return the peer of each half."""
    return {
        half.device: half.peer.device if half.peer is not None and not half.peer.destroying else None
        for half in registry.pairs.ifnets
        if not half.destroying
    }


def record_matching(registry: Registry, clone: Clone, wanted: InterfaceSettings) -> None:
    """Record what an owner or the daemon has chosen as settings, where the wanted ones are the same."""
    clone.record(registry.kind_of(clone).matched(clone, wanted))


def _configuration(
    registry: Registry,
    current: Configuration,
    namespaces: Iterable[str],
    settings: Mapping[str, InterfaceSettings],
) -> Configuration:
    """Return the configuration in force with other interfaces."""
    by_kind = {
        kind.cloner.name: {clone.name: settings[clone.name] for clone in kind if clone.name in settings}
        for kind in registry.kinds
    }
    lo = by_kind.pop("lo")
    return current.model_copy(
        update={
            "namespaces": NamespacesSettings(create=tuple(namespaces)),
            **by_kind,
            "lo": lo if lo or current.lo is not None else None,
        }
    )
