"""The figures of a bench, and the rows of the table, the picture and the JSON output. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from epaird.bench.plan import SUBJECTS, BenchPlan, Job
from epaird.bench.roundtrip import PERCENTILES
from epaird.bench.statistics import Summary, ratio, summary

FORMAT: Final = 1
"""Version of the JSON output, which changes when a key does."""


@dataclass(frozen=True, slots=True)
class DatagramFigures:
    """The figures of a datagram job."""

    sent: int
    """Datagrams that the senders' kernel accepted."""
    delivered: int
    """Datagrams that the receivers received."""
    reordered: int
    """Datagrams that arrived after a later one of the same flow."""
    per_second: float
    """Rate of delivery, from the first datagram to the last."""
    gbit_per_second: float
    """Rate of delivery in Gbit/s of payload."""
    cpu_us: float
    """CPU microseconds of sender, receiver and forwarder per delivered datagram."""
    forwarder_cpu_us: float | None
    """The forwarder's part of it; None when the kernel forwards, in the sender's time."""


@dataclass(frozen=True, slots=True)
class StreamFigures:
    """The figures of a TCP stream."""

    generator: Literal["iperf3", "own"]
    """The load generator: iperf3, or :mod:`epaird.bench.stream`."""
    octets: int
    """Bytes received."""
    gbit_per_second: float
    """Rate of delivery in Gbit/s of payload."""
    forwarder_cpu_us_per_mb: float | None
    """The forwarder's CPU microseconds per megabyte; None when the kernel forwards."""


@dataclass(frozen=True, slots=True)
class RoundTripFigures:
    """The figures of a round trip job."""

    exchanges: int
    """Exchanges that were counted."""
    lost: int
    """Exchanges without an answer."""
    microseconds: Mapping[str, float]
    """Round trip times by percentile, "p50" and so on; empty when there was no exchange."""


Figures = DatagramFigures | StreamFigures | RoundTripFigures
Round = Mapping[str, Mapping[str, Figures]]
"""The figures of a round, by subject and job key."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of both subjects over the rounds."""

    group: str
    """The heading of its group."""
    label: str
    """The row's label within the group."""
    unit: str
    """The unit of the values."""
    better: Literal["more", "less"]
    """Whether a higher or a lower value is better."""
    values: Mapping[str, Sequence[float]]
    """The values of the rounds, by subject; NaN when a round has none."""
    lost: Mapping[str, float] | None = None
    """Share of lost datagrams, 0 to 1, by subject; None for figures of other jobs."""

    def summary(self, subject: str) -> Summary | None:
        """Return the summary over the rounds; None when no round has the figure."""
        return summary(self.values[subject])

    @property
    def ratio(self) -> Summary | None:
        """The ratio of epaird to veth, computed round by round."""
        return ratio(self.values["epaird"], self.values["veth"])


RATE: Final = "Datagrams per second"
PAIRS: Final = "Datagrams per second over several pairs"
VOLUME: Final = "Large transfers"
ROUND_TRIP: Final = "Round trip"
CPU: Final = "CPU per datagram, sender and receiver included"
FORWARDER: Final = "CPU per datagram, epaird only"


@dataclass(frozen=True, slots=True)
class Results:
    """The results of a run."""

    machine: Mapping[str, str | int | float]
    """The machine, as :func:`epaird.bench.machine.description` returns it."""
    plan: BenchPlan
    """The plan that was run."""
    rounds: Sequence[Round]
    """The figures of each round."""

    def rows(self) -> tuple[Row, ...]:
        """Return all rows in their order of display."""
        return tuple(self._rows())

    def group(self, name: str) -> tuple[Row, ...]:
        """Return the rows of a group."""
        return tuple(row for row in self._rows() if row.group == name)

    def reordered(self, subject: str) -> int:
        """Return the total of datagrams that arrived out of order."""
        return sum(figures.reordered for figures in self._datagrams(subject))

    def delivered(self, subject: str) -> int:
        """Return the total of datagrams that arrived."""
        return sum(figures.delivered for figures in self._datagrams(subject))

    def as_json(self) -> dict[str, Any]:
        """Return every figure and the summary of every row."""
        return {
            "format": FORMAT,
            "machine": dict(self.machine),
            "plan": {"rounds": self.plan.rounds, "seconds": self.plan.seconds},
            "rounds": [
                {
                    subject: {key: asdict(figures) for key, figures in jobs.items()}
                    for subject, jobs in round_.items()
                }
                for round_ in self.rounds
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
            found = (value(round_[subject][job.key]) for round_ in self.rounds)
            return tuple(math.nan if figure is None else figure for figure in found)

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
        found = [round_[subject][key] for round_ in self.rounds]
        datagrams = [figures for figures in found if isinstance(figures, DatagramFigures)]
        sent = sum(figures.sent for figures in datagrams)
        delivered = sum(figures.delivered for figures in datagrams)
        return 1 - delivered / sent if sent else 0.0

    def _datagrams(self, subject: str) -> Iterator[DatagramFigures]:
        for round_ in self.rounds:
            for figures in round_[subject].values():
                if isinstance(figures, DatagramFigures):
                    yield figures


def percentile_name(percent: float) -> str:
    """Return the name of a percentile: ``p50``, ``p99.9``."""
    return f"p{percent:g}"


def _at(percentile: str) -> Callable[[RoundTripFigures], float | None]:
    return lambda figures: figures.microseconds.get(percentile)


def _row_as_json(row: Row) -> dict[str, Any]:
    summaries = {subject: row.summary(subject) for subject in SUBJECTS}
    return {
        "group": row.group,
        "label": row.label,
        "unit": row.unit,
        "better": row.better,
        **{subject: asdict(value) if value else None for subject, value in summaries.items()},
        "ratio": asdict(row.ratio) if row.ratio else None,
        "lost": dict(row.lost) if row.lost is not None else None,
    }
