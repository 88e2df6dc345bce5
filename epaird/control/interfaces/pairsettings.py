"""The settings of a pair: merged with requests, and compared with the present state."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from epaird.config.reading import parse
from epaird.config.settings import HalfSettings, PairSettings
from epaird.control.interfaces.ifnet import Half, Ifnet, Pair
from epaird.control.interfaces.observed import chosen_settings, matching_settings, observed_settings
from epaird.control.operations import Refused
from epaird.names.cloners import SIDES

_PAIR_KEYS: Final = frozenset(PairSettings.model_fields) - set(SIDES)


def merged_settings(
    pair: Pair,
    half: Half | None,
    request: Mapping[str, object],
    presets: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
) -> PairSettings:
    """Return the pair's settings with the keys of a request changed. ``presets`` are sets of impairments.

    The keys are those of the half's table, if a half is given. Otherwise a key of a half's table is changed
    for both halves. Raises Refused or InvalidConfiguration."""
    if half is not None:
        request = {half.side: request}
    wanted = pair.settings.model_dump()
    peers = {side: {"peer": wanted[side].pop("peer")} for side in SIDES}
    for key, value in request.items():
        if key in SIDES and isinstance(value, Mapping):
            wanted[key] |= value
        elif key == "carrier" and value == "on":
            if wanted[key] == "off":
                wanted[key] = pair.plugged
        elif key in HalfSettings.model_fields and key not in _PAIR_KEYS:
            for side in SIDES:
                if isinstance(wanted[side], dict):  # otherwise parse() refuses it
                    wanted[side][key] = value
        else:
            wanted[key] = value
    if any(isinstance(wanted[side], dict) and "peer" in wanted[side] for side in SIDES):
        raise Refused(errno.EINVAL, f"{pair.name}: peer is changed by patch and unpatch")
    found = parse({"epair": {pair.name: wanted}, "impairment": presets}).epair[pair.name]
    # Left out before: the peer is not in this configuration, which would be inconsistent.
    return _with_halves(found, {side: found.half(side).model_copy(update=peers[side]) for side in SIDES})


def requested_keys(
    pair: Pair, half: Half | None, request: Mapping[str, object]
) -> dict[Ifnet, frozenset[str]]:
    """Return the keys of each half that a request names, as in :func:`merged_settings`."""
    request = {half.side: request} if half is not None else request
    of_both = {key for key in request if key in HalfSettings.model_fields and key not in _PAIR_KEYS}
    found: dict[Ifnet, frozenset[str]] = {}
    for each in pair.halves:
        table = request.get(each.side)
        found[each] = frozenset(of_both | (table.keys() if isinstance(table, Mapping) else set()))
    return found


def matched_settings(pair: Pair, wanted: PairSettings | None) -> PairSettings:
    """Return the pair's settings, written as in ``wanted`` where that describes the present state."""
    if wanted is None:
        return pair.settings
    return _updated(
        pair,
        {
            half: matching_settings(half, _observed(half), wanted.half(half.side))
            for half in pair.halves
        },
    )  # fmt: skip


def observed_pair(pair: Pair) -> PairSettings:
    """Return the settings that would create the pair as it is now, patched as it is."""
    return _updated(pair, {half: _observed(half) | {"peer": _peer_setting(half)} for half in pair.halves})


def exact_settings(pair: Pair) -> PairSettings:
    """Return the pair's settings with what its halves have where the daemon or others chose that."""
    return _updated(pair, {half: chosen_settings(half) | {"mac": half.mac} for half in pair.halves})


def with_peers(pair: Pair, wanted: PairSettings) -> PairSettings:
    """Return the pair's settings with the peers of others."""
    return _updated(pair, {half: {"peer": wanted.half(half.side).peer} for half in pair.halves})


def _updated(pair: Pair, updates: Mapping[Half, Mapping[str, Any]]) -> PairSettings:
    """Return the pair's settings with those of each half updated."""
    return _with_halves(
        pair.settings, {half.side: half.settings.model_copy(update=updates[half]) for half in pair.halves}
    )


def _with_halves(settings: PairSettings, halves: Mapping[Any, HalfSettings]) -> PairSettings:
    return settings.model_copy(update=dict(halves))


def _observed(half: Half) -> dict[str, Any]:
    mac = "stable" if half.settings.mac == "stable" else half.mac
    return observed_settings(half) | {"mac": mac}


def _peer_setting(half: Half) -> str | None:
    """Return ``peer`` of a half's table, as it is patched now."""
    if half.peer is None or half.peer.destroying:
        return ""
    return None if half.peer.pair is half.pair else half.peer.device
