"""The present state of a device in the words of the configuration.

An interface has the settings that it was given. Its owner may have given it another MTU, name or place
since, which is the owner's right; a file with the same values as the owner's requires no change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from epaird.config.settings import HalfSettings, LoopbackSettings, namespace_name
from epaird.control.interfaces.ifnet import Ifnet

_CHOSEN: Final = ("name", "mac", "mtu", "up")
"""Keys of a device that its owner may have changed, or that the daemon has chosen; and ``netns``."""


def observed_settings(ifnet: Ifnet) -> dict[str, Any]:
    """Return the keys that the owner may have changed, with their present values."""
    place, settings = ifnet.place, ifnet.settings
    nameable = place.nsid is None or place.netns
    moved = nameable and namespace_name(settings.netns) != namespace_name(place.netns)
    return {
        "mtu": ifnet.mtu,
        "up": ifnet.up,
        "name": place.name if place.name != ifnet.device else None,
        "netns": (place.netns or None) if moved else settings.netns,
    }


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
