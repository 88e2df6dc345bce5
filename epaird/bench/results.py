"""The figures of a bench, and the rows of the table, the picture and the JSON output. Pure.

Each part of a bench has results of its own, which say what its rows are: :class:`CableResults` is the
comparison with veth.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final, Literal

from epaird.bench.plan import SUBJECTS, BenchPlan, Job, RunPlan
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
    """The forwarder's CPU microseconds per megabyte; None when the kernel forwards, or was not measured."""
    congestion: str = ""
    """The congestion control; empty: the machine's default."""
    window: int = 0
    """The largest receive buffer that the kernel gave it, in bytes; 0: not known."""


@dataclass(frozen=True, slots=True)
class RoundTripFigures:
    """The figures of a round trip job."""

    exchanges: int
    """Exchanges that were counted."""
    lost: int
    """Exchanges without an answer."""
    microseconds: Mapping[str, float]
    """Round trip times by percentile, "p50" and so on; empty when there was no exchange."""


@dataclass(frozen=True, slots=True)
class DelayFigures:
    """The figures of a job that measures one-way delays."""

    sent: int
    """Datagrams that were sent."""
    delivered: int
    """Datagrams that arrived."""
    microseconds: Mapping[str, float]
    """Absolute errors of the delay by percentile, "p50" and so on; empty when nothing was counted."""
    mean_us: float
    """Mean of the errors with their sign: above 0, the delay was too long."""


Figures = DatagramFigures | StreamFigures | RoundTripFigures | DelayFigures
Round = Mapping[str, Mapping[str, Figures]]
"""The figures of a round, by subject and job key."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure over the rounds, beside what it is compared with."""

    group: str
    """The heading of its group."""
    label: str
    """The row's label within the group."""
    unit: str
    """The unit of the values."""
    better: Literal["more", "less"]
    """Whether a higher or a lower value is better."""
    values: Mapping[str, Sequence[float]]
    """The values of the rounds; NaN when a round has none. The keys are the names of the two columns: first
    that of the reference."""
    lost: Mapping[str, float] | None = None
    """Share of lost datagrams, 0 to 1, by column; None for figures of other jobs."""
    exact: bool = False
    """True where the ratio is close to 1 and is shown with three decimals."""

    @property
    def columns(self) -> tuple[str, str]:
        """The names of the reference's column and of the other one."""
        reference, column = self.values
        return reference, column

    def summary(self, column: str) -> Summary | None:
        """Return the summary over the rounds; None when no round has the figure."""
        return summary(self.values[column])

    @property
    def ratio(self) -> Summary | None:
        """The ratio to the reference, computed round by round."""
        reference, column = self.columns
        return ratio(self.values[column], self.values[reference])


RATE: Final = "Datagrams per second"
PAIRS: Final = "Datagrams per second over several pairs"
VOLUME: Final = "Large transfers"
ROUND_TRIP: Final = "Round trip"
CPU: Final = "CPU per datagram, sender and receiver included"
FORWARDER: Final = "CPU per datagram, epaird only"


class Results(ABC):
    """The results of a run of one part."""

    part: ClassVar[str]
    """The part of the bench."""

    def __init__(
        self, machine: Mapping[str, str | int | float], plan: RunPlan, rounds: Sequence[Round]
    ) -> None:
        self.machine = machine
        """The machine, as :func:`epaird.bench.machine.description` returns it."""
        self.plan = plan
        """The plan that was run."""
        self.rounds = rounds
        """The figures of each round."""

    @abstractmethod
    def rows(self) -> tuple[Row, ...]:
        """Return all rows in their order of display."""

    @abstractmethod
    def remarks(self) -> Iterator[str]:
        """Yield what a reader of the table needs to know, one line each."""

    def group(self, name: str) -> tuple[Row, ...]:
        """Return the rows of a group."""
        return tuple(row for row in self.rows() if row.group == name)

    def figures(self, subject: str, key: str) -> tuple[Figures, ...]:
        """Return the figures of a job in each round."""
        return tuple(round_[subject][key] for round_ in self.rounds)

    def lost(self, subject: str, key: str) -> float:
        """Return the share of datagrams of a job that were lost, over all rounds; 0 for other jobs."""
        counted = [
            found for found in self.figures(subject, key) if isinstance(found, DatagramFigures | DelayFigures)
        ]
        sent = sum(found.sent for found in counted)
        return 1 - sum(found.delivered for found in counted) / sent if sent else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return every figure and the summary of every row."""
        return {
            "format": FORMAT,
            "part": self.part,
            "machine": dict(self.machine),
            "plan": {"rounds": self.plan.rounds, "seconds": self.plan.seconds},
            "rounds": [
                {
                    subject: {key: asdict(figures) for key, figures in jobs.items()}
                    for subject, jobs in round_.items()
                }
                for round_ in self.rounds
            ],
            "summary": [_row_as_json(row) for row in self.rows()],
        }


class CableResults(Results):
    """The comparison of a cable with veth."""

    part = "cable"
    plan: BenchPlan

    def rows(self) -> tuple[Row, ...]:
        """Return all rows in their order of display."""
        return tuple(self._rows())

    def remarks(self) -> Iterator[str]:
        """Yield what a reader of the table needs to know, one line each."""
        rounds = f"{self.plan.rounds} rounds" if self.plan.rounds > 1 else "1 round"
        yield (
            f"{rounds}, the two in turn, {self.plan.seconds:g} s per figure; in brackets the lowest and the "
            "highest round. Lost: by veth and by epaird, as a share of the datagrams sent at full speed."
        )
        orders = (f"{subject} {self.reordered(subject)} of {self.delivered(subject)}" for subject in SUBJECTS)
        yield f"Out of order: {', '.join(orders)}."

    def reordered(self, subject: str) -> int:
        """Return the total of datagrams that arrived out of order."""
        return sum(figures.reordered for figures in self._datagrams(subject))

    def delivered(self, subject: str) -> int:
        """Return the total of datagrams that arrived."""
        return sum(figures.delivered for figures in self._datagrams(subject))

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
            {subject: self.lost(subject, job.key) for subject in SUBJECTS} if counted else None,
        )

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
    summaries = {column: row.summary(column) for column in row.columns}
    return {
        "group": row.group,
        "label": row.label,
        "unit": row.unit,
        "better": row.better,
        **{column: asdict(value) if value else None for column, value in summaries.items()},
        "ratio": asdict(row.ratio) if row.ratio else None,
        "lost": dict(row.lost) if row.lost is not None else None,
    }
