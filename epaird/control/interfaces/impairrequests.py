"""Requests about impairments: shown, set, removed, for a time only, and their decisions.

A request names a half, for what it transmits, or a pair, for both directions. A pair has three tables: its
own for both directions, and one for each half, which takes precedence. If a request names a half and the
pair's table has keys, these are first moved to the tables of both halves.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from epaird.client.counters import LineCounters
from epaird.client.impairment import DirectionImpairment, ExpectedImpairment, PairImpairment
from epaird.control.interfaces.ifnet import Half, ImpairmentExpiry, Pair
from epaird.control.interfaces.impairments import tables
from epaird.control.interfaces.registry import Found, Registry
from epaird.control.operations import Refused
from epaird.control.tasks import spawn
from epaird.impairment.expected import added_round_trip
from epaird.impairment.tables import displaced, laid_over
from epaird.ipc.impairment import FATES, LONGEST_NS, LineParameters
from epaird.names.cloners import SIDES

log = logging.getLogger(__name__)

FOR_MAX_S: Final = LONGEST_NS / 1e9
"""Seconds of the longest time for which an impairment can be set."""
AGAIN_S: Final = 5.0
"""Seconds after which an impairment that could not be set back is tried again."""

Keys = Mapping[str, Any]


class ImpairmentRequests:
    """Carries out requests about impairments."""

    def __init__(self, registry: Registry, change: Callable[[str, Keys], Awaitable[None]]) -> None:
        """``change`` changes an interface in place. Raises Refused."""
        self._registry = registry
        self._change = change
        self._timers: dict[str, tuple[ImpairmentExpiry, asyncio.TimerHandle]] = {}

    def show(self, found: Found) -> PairImpairment:
        """Return the impairment of a half, or of both directions of a pair. Raises Refused."""
        pair = _pair_of(found)
        wanted = self._registry.pairs.impairments.wanted(pair.settings)
        halves = pair.halves if found.ifnet is None else tuple(h for h in pair.halves if h is found.ifnet)
        directions = []
        for half in halves:
            impairment, line = wanted[half.side], half.line
            applied = line.spec if line is not None else None
            reading = line.reading() if line is not None else None
            directions.append(
                DirectionImpairment(
                    device=half.device,
                    peer=half.peer.device if half.peer is not None else "",
                    impairment=dict(impairment.keys),
                    preset=impairment.preset,
                    seed=line.seed if line is not None and applied is not None else None,
                    replaying=applied is not None and applied.replay,
                    held_frames=reading.counters.held_frames if reading is not None else 0,
                    expected=reading.expected if reading is not None else ExpectedImpairment(),
                    counters=reading.counters if reading is not None else LineCounters(),
                )
            )
        return PairImpairment(
            interface=found.ifnet.device if found.ifnet is not None else pair.name,
            directions=directions,
            round_trip=_round_trip(halves),
            expires_in=_left(pair),
        )

    async def set(self, found: Found, keys: Keys, *, whole: bool, seconds: float | None) -> None:
        """Set keys of an impairment, whose value None removes them; all others too if ``whole``.

        After ``seconds`` the former impairment applies again. Raises Refused."""
        pair = _pair_of(found)
        if seconds is not None and not 0 < seconds <= FOR_MAX_S:
            raise Refused(errno.EINVAL, f"for: {seconds:g} is not a time above 0s up to {FOR_MAX_S:g}s")
        former = pair.expiry.former if pair.expiry is not None else tables(pair.settings)
        half = found.ifnet if isinstance(found.ifnet, Half) else None
        await self._change(pair.name, changed_tables(tables(pair.settings), half, keys, whole=whole))
        pair.expiry = None
        if seconds is not None:
            pair.expiry = ImpairmentExpiry(time.monotonic_ns() + round(seconds * 1e9), former)
        self.arm(pair)

    def decisions(self, found: Found, most: int) -> list[dict[str, Any]]:
        """Return the last decisions about what a half transmits, at most so many. Raises Refused."""
        half = _half_of(found)
        if half.line is None:
            return []
        return [
            {"segment": segment, "decision": FATES[fate - 1]}
            for segment, fate in half.line.decisions()[-most:]
            if 1 <= fate <= len(FATES)
        ]

    async def replay(self, found: Found, decisions: Sequence[tuple[int, int]]) -> None:
        """Repeat decisions about what a half transmits. Raises Refused."""
        half = _half_of(found)
        impairments = self._registry.pairs.impairments
        if half.line is None or half.line.spec is None:
            raise Refused(
                errno.EINVAL,
                f"{half.device} is not impaired: impair it first, replay repeats decisions",
            )
        impairments.replay(half, decisions)
        await impairments.apply([half], rewired=False)

    def start(self, undo: contextlib.AsyncExitStack) -> None:
        """Have every impairment that a predecessor has left expire in time, until ``undo`` ends that."""
        undo.callback(self.stop)
        for pair in self._registry.pairs:
            self.arm(pair)

    def arm(self, pair: Pair) -> None:
        """Have an impairment expire in time."""
        if (timer := self._timers.pop(pair.name, None)) is not None:
            timer[1].cancel()
        if pair.expiry is not None:
            left = max(0.0, (pair.expiry.deadline_ns - time.monotonic_ns()) / 1e9)
            handle = asyncio.get_running_loop().call_later(left, self._expired, pair, pair.expiry)
            self._timers[pair.name] = pair.expiry, handle

    def stop(self) -> None:
        """Have nothing expire any more."""
        for _, handle in self._timers.values():
            handle.cancel()
        self._timers.clear()

    def _expired(self, pair: Pair, expiry: ImpairmentExpiry) -> None:
        self._timers.pop(pair.name, None)
        if pair.expiry is expiry and not pair.destroying:
            spawn(self._set_back(pair, expiry), f"setting the impairment of {pair.name} back")

    async def _set_back(self, pair: Pair, expiry: ImpairmentExpiry) -> None:
        while pair.expiry is expiry and not pair.destroying:
            try:
                await self._change(pair.name, expiry.former)
            except Refused as error:
                log.error("%s: its impairment expired and cannot be set back yet: %s", pair.name, error)
                await asyncio.sleep(AGAIN_S)
            else:
                pair.expiry = None
                log.info("%s: its impairment expired: set back", pair.name)
                self._registry.bus.changed()


def changed_tables(before: Keys, half: Half | None, keys: Keys, *, whole: bool) -> dict[str, Any]:
    """Return the tables of a pair after a request about one half, or both directions.

    A value of None removes a key; keys that a new one excludes are removed, too."""
    pair, sides = dict(before["impair"]), {side: dict(before[side]["impair"]) for side in SIDES}
    if half is None:
        sides = {side: {} if whole else _without(table, keys, pair) for side, table in sides.items()}
        pair = _changed({} if whole else pair, keys)
    else:
        # What holds for both directions becomes the halves' own.
        sides = {side: laid_over(pair, table) for side, table in sides.items()}
        pair = {}
        sides[half.side] = _changed({} if whole else sides[half.side], keys)
    return {"impair": pair, **{side: {"impair": table} for side, table in sides.items()}}


def _changed(table: Keys, keys: Keys) -> dict[str, Any]:
    given = {key: value for key, value in keys.items() if value is not None}
    return {**_without(table, keys), **given}


def _without(table: Keys, keys: Keys, pair: Keys = MappingProxyType({})) -> dict[str, Any]:
    """Return a table without keys that others replace or exclude; its pair's may have what its keys need."""
    given = {key: value for key, value in keys.items() if value is not None}
    gone = displaced(given, {**pair, **table}) | keys.keys()
    return {key: value for key, value in table.items() if key not in gone}


def _round_trip(halves: Sequence[Half]) -> str:
    """Return what the lines of these halves and their peers add to a round trip."""
    half = halves[0]
    peer = halves[1] if len(halves) > 1 else half.peer
    return added_round_trip(*(_parameters(each) for each in (half, peer)))


def _parameters(half: Half | None) -> LineParameters:
    if half is None or half.line is None or half.line.spec is None:
        return LineParameters()
    return half.line.spec.parameters


def _left(pair: Pair) -> float | None:
    if pair.expiry is None:
        return None
    return max(0.0, (pair.expiry.deadline_ns - time.monotonic_ns()) / 1e9)


def _pair_of(found: Found) -> Pair:
    if not isinstance(found.clone, Pair):
        raise Refused(errno.ENODEV, f"{found.clone.name} is a {found.clone.noun}, which cannot be impaired")
    if found.clone.destroying:
        raise Refused(errno.EBUSY, f"{found.clone.name} is being destroyed")
    return found.clone


def _half_of(found: Found) -> Half:
    pair = _pair_of(found)
    if not isinstance(found.ifnet, Half):
        a, b = (half.device for half in pair.halves)
        raise Refused(errno.EINVAL, f"{pair.name} is a pair: name one of its halves, {a} or {b}")
    return found.ifnet
