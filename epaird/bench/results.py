"""What was measured, as values, and the rows that a table, a picture and JSON are made of.  Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from epaird.bench.plan import SUBJECTS, BenchPlan, Job
from epaird.bench.roundtrip import PERCENTILES
from epaird.bench.statistics import Summary, ratio, summary

FORMAT: Final = 1
"""Of the JSON; it changes when a key does."""


@dataclass(frozen=True, slots=True)
class Datagrams:
    """One job of datagrams."""

    sent: int
    """How many the senders' kernel took."""
    delivered: int
    reordered: int
    """How many came after one of the same flow that was sent later."""
    per_second: float
    """Delivered, from the first to the last."""
    gbit_per_second: float
    """Of payload."""
    cpu_us: float
    """Microseconds of CPU for each that was delivered, of sender, receiver and what forwards."""
    forwarder_cpu_us: float | None
    """The part of the processes that forward; None where the kernel does it in the sender's time."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One TCP stream."""

    generator: Literal["iperf3", "own"]
    octets: int
    """Received."""
    gbit_per_second: float
    forwarder_cpu_us_per_mb: float | None


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """One run of questions and answers."""

    exchanges: int
    lost: int
    microseconds: Mapping[str, float]
    """By percentile, "p50" and so on; empty when there was no exchange."""


Figures = Datagrams | Stream | RoundTrip
Round = Mapping[str, Mapping[str, Figures]]
"""What each subject did in each job, by their names."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure, for both subjects, over the rounds."""

    group: str
    """The heading it stands under."""
    label: str
    unit: str
    better: Literal["more", "less"]
    values: Mapping[str, Sequence[float]]
    """By subject, one of each round; NaN where a round has none."""
    lost: Mapping[str, float] | None = None
    """By subject, the share of the datagrams sent that did not arrive, 0 to 1; None where none are sent."""

    def summary(self, subject: str) -> Summary | None:
        """Over the rounds; None when no round has the figure."""
        return summary(self.values[subject])

    @property
    def ratio(self) -> Summary | None:
        """epaird's over veth's, round by round."""
        return ratio(self.values["epaird"], self.values["veth"])


RATE: Final = "Datagrams a second"
PAIRS: Final = "Datagrams a second over several pairs"
VOLUME: Final = "Large transfers"
ROUND_TRIP: Final = "Round trip"
CPU: Final = "CPU a datagram, sender and receiver included"
FORWARDER: Final = "CPU a datagram, epaird's own"


@dataclass(frozen=True, slots=True)
class Results:
    """Everything a run has to tell."""

    machine: Mapping[str, str | int | float]
    plan: BenchPlan
    rounds: Sequence[Round]

    def rows(self) -> tuple[Row, ...]:
        """In the order in which they are shown."""
        return tuple(self._rows())

    def group(self, name: str) -> tuple[Row, ...]:
        """The rows under a heading."""
        return tuple(row for row in self._rows() if row.group == name)

    def reordered(self, subject: str) -> int:
        """Datagrams that arrived out of order, in all."""
        return sum(each.reordered for each in self._datagrams(subject))

    def delivered(self, subject: str) -> int:
        """Datagrams that arrived, in all."""
        return sum(each.delivered for each in self._datagrams(subject))

    def as_json(self) -> dict[str, Any]:
        """Every figure, and what the rows make of them."""
        return {
            "format": FORMAT,
            "machine": dict(self.machine),
            "plan": {"rounds": self.plan.rounds, "seconds": self.plan.seconds},
            "rounds": [
                {
                    subject: {key: asdict(figures) for key, figures in jobs.items()}
                    for subject, jobs in each.items()
                }
                for each in self.rounds
            ],
            "summary": [_row_as_json(row) for row in self._rows()],
        }

    def _rows(self) -> Iterator[Row]:
        by_size, segments = self.plan.by_size, self.plan.by_size[-1]
        for job in by_size:
            yield self._row(RATE, job, "/s", lambda figures: figures.per_second)
        for job in self.plan.jobs:
            if job.kind == "stream":
                yield self._row(
                    VOLUME, job, "Gbit/s", lambda figures: figures.gbit_per_second, "TCP, one stream"
                )
        yield self._row(VOLUME, segments, "Gbit/s", lambda figures: figures.gbit_per_second)
        for job in self.plan.jobs:
            if job.kind == "round trips":
                for name in map(percentile_name, PERCENTILES):
                    yield self._row(ROUND_TRIP, job, "µs", _at(name), name)
        for job in by_size:
            yield self._row(CPU, job, "µs", lambda figures: figures.cpu_us)
        for job in by_size:
            yield self._row(FORWARDER, job, "µs", lambda figures: figures.forwarder_cpu_us)
        for job in self.plan.by_pairs:
            label = f"{job.pairs} {'pair' if job.pairs == 1 else 'pairs'}"
            yield self._row(PAIRS, job, "/s", lambda figures: figures.per_second, label)

    def _row(
        self, group: str, job: Job, unit: str, value: Callable[[Any], float | None], label: str | None = None
    ) -> Row:
        def values(subject: str) -> tuple[float, ...]:
            found = (value(each[subject][job.key]) for each in self.rounds)
            return tuple(math.nan if each is None else each for each in found)

        counted = group in (RATE, PAIRS)
        return Row(
            group,
            label or job.title,
            unit,
            "more" if unit in ("/s", "Gbit/s") else "less",
            {subject: values(subject) for subject in SUBJECTS},
            {subject: self._lost(subject, job.key) for subject in SUBJECTS} if counted else None,
        )

    def _lost(self, subject: str, key: str) -> float:
        found = [each[subject][key] for each in self.rounds]
        sent = sum(each.sent for each in found if isinstance(each, Datagrams))
        delivered = sum(each.delivered for each in found if isinstance(each, Datagrams))
        return 1 - delivered / sent if sent else 0.0

    def _datagrams(self, subject: str) -> Iterator[Datagrams]:
        for each in self.rounds:
            for figures in each[subject].values():
                if isinstance(figures, Datagrams):
                    yield figures


def percentile_name(percent: float) -> str:
    """``p50``, ``p99.9``."""
    return f"p{percent:g}"


def _at(percentile: str) -> Callable[[RoundTrip], float | None]:
    return lambda figures: figures.microseconds.get(percentile)


def _row_as_json(row: Row) -> dict[str, Any]:
    summaries = {subject: row.summary(subject) for subject in SUBJECTS}
    return {
        "group": row.group,
        "label": row.label,
        "unit": row.unit,
        "better": row.better,
        **{subject: asdict(each) if each else None for subject, each in summaries.items()},
        "ratio": asdict(row.ratio) if row.ratio else None,
        "lost": dict(row.lost) if row.lost is not None else None,
    }
