"""Which jobs are run, in which order, and how often.  Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

SUBJECTS: Final = ("veth", "epaird")
"""In the order in which a round measures them."""

ROUNDS: Final = 5
SECONDS: Final = 0.4

FULL_FRAME: Final = 1472
"""Bytes of payload that make a frame of 1500 with IPv4's and UDP's headers."""
SEGMENTS: Final = 44
"""Datagrams of a full frame that fit into a message of 64 KB."""

JobKind = Literal["datagrams", "stream", "round trips"]


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to measure over a cable."""

    kind: JobKind
    seconds: float
    size: int = 0
    """Of ``datagrams``: bytes each."""
    segments: int = 1
    """Of ``datagrams``: how many the sender joins into one message (UDP_SEGMENT)."""
    pairs: int = 1
    """Of ``datagrams``: over how many pairs at once, in turn."""
    sweep: bool = False
    """Of ``datagrams``: whether it belongs to the series over the number of pairs."""

    @property
    def key(self) -> str:
        """How the results call it."""
        match self.kind:
            case "stream":
                return "tcp"
            case "round trips":
                return "rtt"
        if self.sweep:
            return f"pairs-{self.pairs}"
        return "udp-segment" if self.segments > 1 else f"udp-{self.size}"

    @property
    def title(self) -> str:
        """What a person calls it."""
        match self.kind:
            case "stream":
                return "TCP"
            case "round trips":
                return "round trips"
        if self.sweep:
            return f"{self.pairs} pairs"
        return "64 KB, UDP_SEGMENT" if self.segments > 1 else f"{self.size} bytes"


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What one run does."""

    rounds: int = ROUNDS
    seconds: float = SECONDS
    """Of each job."""
    sizes: tuple[int, ...] = (64, 256, 512, 1024, FULL_FRAME)
    """Bytes of a datagram, each a job."""
    pairs: tuple[int, ...] = (2, 4, 8, 16)
    """Numbers of pairs, each a job, beyond the one pair of all the others."""
    jobs: tuple[Job, ...] = field(init=False)
    """Of one round, for each of the subjects."""

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
        """The jobs of datagrams over one pair, the joined ones last."""
        return tuple(job for job in self.jobs if job.kind == "datagrams" and not job.sweep)

    @property
    def by_pairs(self) -> tuple[Job, ...]:
        """The jobs that are one but for the number of pairs, from one pair on."""
        return (self.jobs[0], *(job for job in self.jobs if job.sweep))

    @property
    def most_pairs(self) -> int:
        """How many pairs there must be."""
        return max(job.pairs for job in self.jobs)

    @property
    def steps(self) -> int:
        """How many jobs that is in all."""
        return self.rounds * len(SUBJECTS) * len(self.jobs)


def quick(rounds: int | None = None, seconds: float | None = None) -> BenchPlan:
    """A first look: the two ends of each series, in a tenth of the time."""
    return BenchPlan(rounds or 2, seconds or 0.3, sizes=(64, FULL_FRAME), pairs=(4,))


def thorough(rounds: int | None = None, seconds: float | None = None) -> BenchPlan:
    """Everything, in less than two minutes as it is."""
    return BenchPlan(rounds or ROUNDS, seconds or SECONDS)
