"""The present state of a device in the words of the configuration.

An interface has the settings that it was given. Its owner may have given it another MTU, name or place
since, which is the owner's right; a file with the same values as the owner's requires no change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from epaird.config.settings import HalfSettings, LoopbackSettings, namespace_name
from epaird.config.values import device_name
from epaird.control.interfaces.ifnet import Ifnet

_CHOSEN: Final = ("name", "mac", "mtu", "up")
"""Keys of a device that its owner may have changed, or that the daemon has chosen; and ``netns``."""


def observed_settings(ifnet: Ifnet) -> dict[str, Any]:
    """Return the keys that the owner may have changed, with their present values.

    A name that no configuration can give is left out: the key has the recorded value then."""
    place, settings = ifnet.place, ifnet.settings
    nameable = place.nsid is None or place.netns
    moved = nameable and namespace_name(settings.netns) != namespace_name(place.netns)
    return {
        "mtu": ifnet.mtu,
        "up": ifnet.up,
        "name": settings.name if unsaid_name(ifnet) else _given_name(ifnet),
        "netns": (place.netns or None) if moved else settings.netns,
    }


def unsaid_name(ifnet: Ifnet) -> str:
    """Return why a configuration cannot give a device its present name; empty when it can."""
    name = _given_name(ifnet)
    if name in (None, ifnet.settings.name):
        return ""
    try:
        device_name(name)
    except ValueError as refused:
        return str(refused)
    return ""


def _given_name(ifnet: Ifnet) -> str | None:
    """Return ``name`` of a device as it is now: None for its own name."""
    return ifnet.place.name if ifnet.place.name != ifnet.device else None


def chosen_settings(ifnet: Ifnet) -> dict[str, Any]:
    """Return the keys that can change in place and that the owner may have changed, as they are now."""
    return {key: value for key, value in observed_settings(ifnet).items() if key != "netns"}


def matching_settings(
    ifnet: Ifnet, observed: Mapping[str, Any], wanted: HalfSettings | LoopbackSettings
) -> dict[str, Any]:
    """Return the keys whose wanted values are the ``observed`` ones."""
    same: dict[str, Any] = {
        key: observed[key] for key in _CHOSEN if key in observed and observed[key] == getattr(wanted, key)
    }
    present = (namespace_name(observed["netns"]), namespace_name(ifnet.settings.netns))
    if namespace_name(wanted.netns) in present:
        same["netns"] = wanted.netns
    return same
