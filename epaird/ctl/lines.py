"""Impairments as text: what was asked for beside what was delivered.

Counters of a line count segments, each of which would be one frame on a wire.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from epaird.ctl.show import Row, scaled
from epaird.dataplane.impair.wire import OVERHEAD
from epaird.impairment.units import about, duration, percentage, rate
from epaird.impairment.words import KEYS
from epaird.ipc.counters import LATE_BOUNDS_NS

if TYPE_CHECKING:
    from epaird.client.counters import LineCounters
    from epaird.client.impairment import (
        DirectionImpairment,
        ExpectedImpairment,
        LineStatistics,
        PairImpairment,
    )
    from epaird.client.statistics import Statistics

HEADINGS: Final = (
    "IMPAIRED", "delay", "late", "late-p99", "loss", "lost", "queue-drops", "rate", "delivered", "held",
)  # fmt: skip
"""Columns of the live table. Those that were asked for are followed by those that were delivered."""
_QUEUE: Final = ("queue_full", "aqm")
"""Reasons of the queue before the rate; the others are losses that were asked for."""
_CHANGED: Final = ("duplicated", "corrupted", "reordered", "marked", "cut")
"""Counters that are shown where they are not 0."""
_HEADERS: Final = 66
"""Bytes of headers that each further segment of a super-frame repeats: Ethernet 14, IPv4 20, TCP 32."""
_MILLIONTH: Final = 10**6


@dataclass(frozen=True, slots=True)
class LineRates:
    """What an impairment did between two readings, beside what was asked for. Ratios are None without
    traffic."""

    delay_seconds: float
    """Mean one-way delay that was asked for."""
    late_seconds: float | None
    """Mean time by which frames were delivered after they were due."""
    late_p99_seconds: float | None
    """Time within which 99 % of frames were delivered after they were due; -1 if it is more than a second."""
    loss_ratio: float
    """Share of segments to lose that was asked for, on average."""
    lost_ratio: float | None
    """Share of segments that were lost, by losses, bit errors and the schedule."""
    queue_drop_ratio: float | None
    """Share of segments that the queue before the rate dropped."""
    asked_bits_per_second: int
    """Rate on the wire that was asked for; 0 is no limit."""
    bits_per_second: float
    """Rate on the wire that was delivered. Of each further segment of a super-frame 66 bytes of headers are
    assumed."""
    held_frames: int
    """Frames that are held now."""


def line_rates(before: Statistics, after: Statistics) -> dict[str, LineRates]:
    """Return what impairments did between two readings, by the half that transmits; idle ones that were
    removed are left out."""
    earlier = {each.device: each for each in before.lines}
    seconds = after.time - before.time
    found = {}
    for line in after.lines:
        former = earlier.get(line.device, line)
        if former.counters.osegments > line.counters.osegments:  # another interface of this name
            former = line
        if line.applied or line.counters.held_frames:
            bits = _delivered_bits(before, after, former, line)
            found[line.device] = _rates(former.counters, line, bits / seconds if seconds > 0 else 0.0)
    return found


def _rates(before: LineCounters, line: LineStatistics, bits_per_second: float) -> LineRates:
    after, expected = line.counters, line.expected
    segments = after.osegments - before.osegments
    dropped = {reason: count - before.impaired.get(reason, 0) for reason, count in after.impaired.items()}
    queue = sum(dropped.get(reason, 0) for reason in _QUEUE)
    late = [now - then for now, then in zip(after.late_buckets, before.late_buckets, strict=False)]
    p99 = _p99(late)
    mean_ns = (after.late_sum_ns - before.late_sum_ns) / sum(late) if sum(late) else None
    return LineRates(
        delay_seconds=expected.delay_seconds,
        late_seconds=None if mean_ns is None else mean_ns / 1e9,
        late_p99_seconds=None if p99 is None else p99 / 1e9 if p99 >= 0 else -1.0,
        loss_ratio=expected.loss_ratio,
        lost_ratio=(sum(dropped.values()) - queue) / segments if segments else None,
        queue_drop_ratio=queue / segments if segments else None,
        asked_bits_per_second=expected.bits_per_second,
        bits_per_second=bits_per_second,
        held_frames=after.held_frames,
    )


def _delivered_bits(
    before: Statistics, after: Statistics, former: LineStatistics, line: LineStatistics
) -> float:
    """Return the bits on the wire that were delivered to the peer between two readings."""
    counts = [
        next((each.stats for each in reading.interfaces if each.device == line.peer), None)
        for reading in (before, after)
    ]
    if counts[0] is None or counts[1] is None:
        return 0.0
    segments = line.counters.isegments - former.counters.isegments
    frames = counts[1].ipackets - counts[0].ipackets
    octets = counts[1].ibytes - counts[0].ibytes + OVERHEAD * segments + _HEADERS * max(0, segments - frames)
    return 8.0 * max(0, octets)


def line_rows(lines: Mapping[str, LineRates]) -> list[Row]:
    """Return the live table below its headings."""
    rows: list[Row] = [HEADINGS]
    for device, each in lines.items():
        rows.append(
            (
                device,
                _time(each.delay_seconds) if each.delay_seconds else "-",
                _time(each.late_seconds),
                _time(each.late_p99_seconds),
                _share(each.loss_ratio) if each.loss_ratio else "-",
                _share(each.lost_ratio),
                _share(each.queue_drop_ratio),
                rate(each.asked_bits_per_second) if each.asked_bits_per_second else "-",
                f"{scaled(each.bits_per_second)}bit",
                str(each.held_frames),
            )
        )
    return rows


def shown(found: PairImpairment) -> str:
    """Return everything about an impairment in a few lines."""
    lines: list[str] = []
    for each in found.directions:
        lines += [heading(each), *(f"    {line}" for line in _details(each))]
    return "\n".join([*lines, *_effects(found)])


def answer(found: PairImpairment) -> str:
    """Return what an impairment is after a change."""
    headings = [heading(each) + _seed(each) for each in found.directions]
    words = {as_words(each) + _seed(each) for each in found.directions}
    if len(headings) > 1 and len(words) == 1:
        headings = [f"{found.interface}, each direction: {words.pop() or 'not impaired'}"]
    return "\n".join([*headings, *_effects(found)])


def _seed(direction: DirectionImpairment) -> str:
    """Return a random seed in words; empty for one that is among the keys."""
    known = direction.seed is None or "seed" in direction.impairment
    return "" if known else f", seed {direction.seed}"


def heading(direction: DirectionImpairment) -> str:
    """Return the impairment of one direction on one line."""
    peer = direction.peer or "no peer"
    return f"{direction.device} to {peer}: {as_words(direction) or 'not impaired'}"


def as_words(direction: DirectionImpairment) -> str:
    """Return the keys of an impairment as the words that ``epairctl impair`` takes, in a shell's notation."""
    ordered = sorted(direction.impairment.items(), key=lambda item: (*KEYS, item[0]).index(item[0]))
    words = " ".join(f"{key} {_word(value)}" for key, value in ordered)
    return words + (f" (set {direction.preset})" if direction.preset else "")


def _details(each: DirectionImpairment) -> Iterator[str]:
    if each.seed is not None:
        yield f"seed:      {each.seed}{', repeats decisions of a file' if each.replaying else ''}"
        expected = ", ".join(_expected(each.expected))
        outside = " (outside its schedule)" if each.impairment.get("schedule") else ""
        if expected:
            yield f"expected:  {expected}{outside}"
    counters = each.counters
    if counters.osegments:
        yield f"so far:    {', '.join(_delivered(counters))}"
    if counters.held_frames:
        yield f"held:      {counters.held_frames} frames, {counters.line_held_bytes} bytes"
    if frames := sum(counters.late_buckets):
        mean = _time(counters.late_sum_ns / frames / 1e9)
        p99 = _p99(counters.late_buckets) or 0
        within = f"99% within {_time(p99 / 1e9)}" if p99 >= 0 else "more than 1% by over a second"
        yield f"late:      {mean} on average, {within}"


def _expected(expected: ExpectedImpairment) -> Iterator[str]:
    if expected.delay_seconds:
        yield f"delay {_time(expected.delay_seconds)}"
    if expected.loss_burst is None:
        yield "every segment is lost"
    elif expected.loss_ratio:
        yield f"loss {_share(expected.loss_ratio)} in runs of {expected.loss_burst:.3g} on average"
    if expected.bits_per_second:
        yield f"rate {rate(expected.bits_per_second)}"
    if expected.held_bytes:
        yield f"for which {about(expected.held_bytes)} are held"


def _delivered(counters: LineCounters) -> Iterator[str]:
    yield f"{counters.isegments} of {counters.osegments} segments delivered"
    for reason, count in counters.impaired.items():
        if count:
            yield f"{count} dropped by {reason} ({_share(count / counters.osegments)})"
    for name in _CHANGED:
        if count := getattr(counters, name):
            yield f"{count} {name}"


def _effects(found: PairImpairment) -> Iterator[str]:
    if found.round_trip:
        yield found.round_trip
    if found.expires_in is not None:
        yield f"expires in {found.expires_in:.0f}s"


def _word(value: object) -> str:
    if isinstance(value, str):
        return shlex.quote(value)
    return shlex.quote(_toml(value)) if isinstance(value, list | tuple | Mapping) else _toml(value)


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"'
        case Mapping():
            return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
        case list() | tuple():
            return "[" + ", ".join(map(_toml, value)) + "]"
    return str(value)


def _p99(buckets: Sequence[int]) -> int | None:
    """Return the upper bound in ns of the bucket with the 99th percentile; -1 for the one without a bound."""
    total = sum(buckets)
    if not total:
        return None
    for bound, count in zip((*LATE_BOUNDS_NS, -1), accumulate(buckets), strict=False):
        if count >= 0.99 * total:
            return bound
    return -1


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 0:
        return ">1s"
    microseconds = round(seconds * _MILLIONTH)
    if microseconds >= 10_000:  # two digits behind the point of a millisecond are enough
        microseconds = round(microseconds, -1)
    return duration(microseconds * 1000) if microseconds else duration(round(seconds * 1e9))


def _share(share: float | None) -> str:
    return "-" if share is None else percentage(float(f"{share:.3g}"))
