"""The results of the impairment part: with and without impairment, asked for and delivered. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from epaird.bench.impairplan import (
    CONGESTION_WITH_LOSS,
    DATAGRAM,
    DELAYED,
    MANY_PER_SECOND,
    POLLING,
    WINDOW,
    ImpairmentPlan,
    delay_key,
    rate_key,
)
from epaird.bench.results import Results, Row, StreamFigures, percentile_name
from epaird.bench.roundtrip import PERCENTILES

SUBJECT: Final = "epaird"
"""The only subject of a round."""
WITHOUT: Final = ("without", "with")
"""The columns of a cable without and with impairment."""
THEORY: Final = ("theory", "delivered")
"""The columns of what is possible at a rate, and what was delivered."""
SENT: Final = ("sent", "delivered")
NO_POLLING: Final = ("no polling", "polling")
"""The columns of a delay's error without and with ``poll_spin_us``."""

TCP: Final = "TCP, one stream"
UDP: Final = f"UDP, datagrams of {DATAGRAM} bytes per second"
RATE_GIVEN: Final = "TCP with a rate"
MANY: Final = f"{MANY_PER_SECOND:,} datagrams per second over several pairs"
PAYLOAD_SHARE: Final = 1448 / 1538
"""Payload of a TCP segment with timestamps over IPv4, as a share of its bytes on the wire."""

RATES_MBIT: Final = {"10mbit": 10, "100mbit": 100, "1gbit": 1000}
"""The rates in Mbit/s."""


class ImpairmentResults(Results):
    """The costs of impairments, and their errors."""

    part = "impairment"
    plan: ImpairmentPlan

    def rows(self) -> tuple[Row, ...]:
        """Return all rows in their order of display."""
        return tuple(self._rows())

    def remarks(self) -> Iterator[str]:
        """Yield what a reader of the table needs to know, one line each."""
        rounds = f"{self.plan.rounds} rounds" if self.plan.rounds > 1 else "1 round"
        yield (
            f"{rounds}, {self.plan.seconds:g} s per figure, twice that with a rate; in brackets the lowest "
            "and the highest round."
        )
        yield (
            f"TCP and UDP: a delay of {DELAYED['delay']}, and losses of 1 % of the segments, each way. "
            "Lost: as a share of the datagrams sent at full speed."
        )
        yield (
            "Theory: 1448 bytes of payload in 1538 on the wire. Error: the amount by which the time from "
            "send() to the receiver's kernel differs from the delay, at 1,000 datagrams per second. "
            f"Polling: poll_spin_us = {POLLING['on']}, otherwise 0."
        )
        if self.congestion != CONGESTION_WITH_LOSS:
            yield f"This kernel has no BBR: the stream with loss used {self.congestion}."
        if window := self._small_window():
            yield f"Windows were limited to {window >> 20} MB: the sysctls of TCP cannot be set here."

    @property
    def congestion(self) -> str:
        """The congestion control of the stream with loss."""
        return self._streams("tcp-loss")[0].congestion or "the default"

    def error_group(self, delay_ms: int) -> str:
        """Return the heading of the rows about a delay's error."""
        return f"Error of a delay of {delay_ms} ms"

    def _small_window(self) -> int:
        """Return the largest window of the streams in bytes where it was not what was asked for, else 0."""
        window = max((found.window for found in self._streams("tcp-delay")), default=0)
        return window if window < WINDOW else 0

    def _streams(self, key: str) -> list[StreamFigures]:
        return [found for found in self.figures(SUBJECT, key) if isinstance(found, StreamFigures)]

    def _rows(self) -> Iterator[Row]:
        lossy = f"and 1 % loss, {self.congestion.upper() if self.congestion == 'bbr' else self.congestion}"
        for key, label in (("tcp-delay", "delay 10 ms"), ("tcp-loss", lossy)):
            values = self._values("tcp", _gbit), self._values(key, _gbit)
            yield _row(TCP, label, "Gbit/s", WITHOUT, *values)
        for key, label in (("udp-delay", "delay 10 ms"), ("udp-loss", "and 1 % loss")):
            values = self._values("udp", _per_second), self._values(key, _per_second)
            lost = dict(zip(WITHOUT, (self.lost(SUBJECT, "udp"), self.lost(SUBJECT, key)), strict=True))
            yield _row(UDP, label, "/s", WITHOUT, *values, lost)
        for rate in self.plan.rates:
            theory = RATES_MBIT[rate] * PAYLOAD_SHARE
            delivered = [gbit * 1000 for gbit in self._values(rate_key(rate), _gbit)]
            yield _row(RATE_GIVEN, rate, "Mbit/s", THEORY, [theory] * len(delivered), delivered, exact=True)
        for delay_ms in self.plan.delays_ms:
            for name in map(percentile_name, PERCENTILES):
                off, on = (self._values(delay_key(delay_ms, words), _error(name)) for words in POLLING)
                yield _row(self.error_group(delay_ms), name, "µs", NO_POLLING, off, on)
        sent, delivered = (
            [count / self.plan.seconds for count in self._values("pairs", value)]
            for value in (lambda found: found.sent, lambda found: found.delivered)
        )
        yield _row(
            MANY,
            f"{self.plan.pairs} pairs, 100 ms",
            "/s",
            SENT,
            sent,
            delivered,
            {SENT[1]: self.lost(SUBJECT, "pairs")},
        )

    def _values(self, key: str, value: Callable[[Any], float | None]) -> list[float]:
        found = map(value, self.figures(SUBJECT, key))
        return [math.nan if figure is None else figure for figure in found]


def _gbit(found: Any) -> float:  # noqa: ANN401
    rate: float = found.gbit_per_second
    return rate


def _per_second(found: Any) -> float:  # noqa: ANN401
    rate: float = found.per_second
    return rate


def _error(name: str) -> Callable[[Any], float | None]:
    return lambda found: found.microseconds.get(name)


def _row(
    group: str,
    label: str,
    unit: str,
    columns: tuple[str, str],
    reference: Sequence[float],
    values: Sequence[float],
    lost: Mapping[str, float] | None = None,
    *,
    exact: bool = False,
) -> Row:
    better: Literal["more", "less"] = "less" if unit == "µs" else "more"
    return Row(group, label, unit, better, dict(zip(columns, (reference, values), strict=True)), lost, exact)
