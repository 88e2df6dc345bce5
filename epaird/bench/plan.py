"""The jobs of a bench, their order and their repetitions. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from epaird.bench.stream import CONGESTION

SUBJECTS: Final = ("veth", "epaird")
"""The subjects, in the order in which a round measures them."""

ROUNDS: Final = 5
"""Default number of rounds."""
SECONDS: Final = 0.4
"""Duration of a job."""

POLL_SPIN_US: Final = 50
"""``poll_spin_us`` in microseconds unless a job says otherwise; the daemon's default."""

FULL_FRAME: Final = 1472
"""UDP payload in bytes that, with the IPv4 and UDP headers, fills an MTU of 1500."""
SEGMENTS: Final = 44
"""Datagrams of FULL_FRAME bytes that fit into a message of 64 KB."""

JobKind = Literal["datagrams", "stream", "round trips", "one way"]


@dataclass(frozen=True, slots=True)
class Job:
    """One measurement over a cable."""

    kind: JobKind
    """The kind, which determines the load generator."""
    seconds: float
    """Duration in seconds."""
    size: int = 0
    """For ``datagrams``: size in bytes."""
    segments: int = 1
    """For ``datagrams``: number that the sender coalesces into one message (UDP_SEGMENT)."""
    pairs: int = 1
    """For ``datagrams``: number of pairs over which they are sent, in turn."""
    sweep: bool = False
    """For ``datagrams``: True for the series over the number of pairs."""
    per_second: int = 0
    """For ``datagrams`` and ``one way``: datagrams a second over all pairs; 0: as fast as possible."""
    delay_ms: float = 0.0
    """For ``one way``: the delay that the cable is to have, in milliseconds."""
    congestion: str = CONGESTION
    """For ``stream``: the congestion control, where the kernel has it."""
    warm_up: float = 0.0
    """For ``stream``: seconds before those that are measured."""

    @property
    def key(self) -> str:
        """The job's key in the results."""
        match self.kind:
            case "stream":
                return "tcp"
            case "round trips":
                return "rtt"
            case "one way":
                return f"delay-{self.delay_ms:g}"
        if self.sweep:
            return f"pairs-{self.pairs}"
        return "udp-segment" if self.segments > 1 else f"udp-{self.size}"

    @property
    def title(self) -> str:
        """The job's title in tables and messages."""
        match self.kind:
            case "stream":
                return "TCP"
            case "round trips":
                return "round trips"
            case "one way":
                return f"{self.delay_ms:g} ms"
        if self.sweep:
            return f"{self.pairs} pairs"
        return "64 KB, UDP_SEGMENT" if self.segments > 1 else f"{self.size} bytes"


class RunPlan(Protocol):
    """The results that all parts of a bench have."""

    @property
    def rounds(self) -> int:
        """Number of rounds."""

    @property
    def seconds(self) -> float:
        """Duration of each job in seconds."""

    @property
    def steps(self) -> int:
        """The total number of measurements."""


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """The jobs of one run."""

    rounds: int = ROUNDS
    """Number of rounds, each of which runs every job over every subject."""
    seconds: float = SECONDS
    """Duration of each job in seconds."""
    sizes: tuple[int, ...] = (64, 256, 512, 1024, FULL_FRAME)
    """Datagram sizes in bytes, with one job each."""
    pairs: tuple[int, ...] = (2, 4, 8, 16)
    """Numbers of pairs, with one job each, besides the jobs over one pair."""
    jobs: tuple[Job, ...] = field(init=False)
    """The jobs of one round, which are run over each of the subjects."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "jobs", tuple(self._jobs()))

    def _jobs(self) -> Iterator[Job]:
        for size in self.sizes:
            yield Job("datagrams", self.seconds, size)
        yield Job("datagrams", self.seconds, FULL_FRAME, SEGMENTS)
        yield Job("stream", self.seconds)
        yield Job("round trips", self.seconds)
        for pairs in self.pairs:
            yield Job("datagrams", self.seconds, self.sizes[0], pairs=pairs, sweep=True)

    @property
    def by_size(self) -> tuple[Job, ...]:
        """The datagram jobs over one pair, with the coalesced ones last."""
        return tuple(job for job in self.jobs if job.kind == "datagrams" and not job.sweep)

    @property
    def by_pairs(self) -> tuple[Job, ...]:
        """The jobs that differ only in the number of pairs, from one pair on."""
        return (self.jobs[0], *(job for job in self.jobs if job.sweep))

    @property
    def most_pairs(self) -> int:
        """The number of pairs that a subject needs."""
        return max(job.pairs for job in self.jobs)

    @property
    def steps(self) -> int:
        """The total number of measurements."""
        return self.rounds * len(SUBJECTS) * len(self.jobs)


def quick(rounds: int | None = None, seconds: float | None = None) -> BenchPlan:
    """Return a quick plan: the two ends of each series, in a fraction of the time."""
    return BenchPlan(rounds or 2, seconds or 0.3, sizes=(64, FULL_FRAME), pairs=(4,))


def thorough(rounds: int | None = None, seconds: float | None = None) -> BenchPlan:
    """Return the full plan, which takes less than two minutes by default."""
    return BenchPlan(rounds or ROUNDS, seconds or SECONDS)
