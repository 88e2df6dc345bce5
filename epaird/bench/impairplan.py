"""The jobs of the impairment part of a bench: what is sent over which impairment. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from epaird.bench.plan import POLL_SPIN_US, Job

ROUNDS: Final = 5
"""Default number of rounds."""
SECONDS: Final = 0.8
"""Duration of a job."""
WARM_UP: Final = 1.0
"""Most seconds in which a stream reaches its rate, before it is measured."""
LONG_WARM_UP: Final = 3.0
"""The same with a delay. After slow start CUBIC's window grows by 5 % each round trip of 20 ms; on a busy
machine slow start ends at a hundredth of the rate."""
CONGESTION_WITH_LOSS: Final = "bbr"
"""Congestion control of a stream over a lossy cable: others take each loss for congestion."""

WINDOW: Final = 1 << 28
"""Largest window of a stream, in bytes: far more than 10 ms each way hold at 10 Gbit/s."""

DELAYED: Final = {"delay": "10ms"}
LOSSY: Final = {"delay": "10ms", "loss": "1%"}
DELAYS_MS: Final = (1, 10, 100)
"""Delays whose error is measured, in milliseconds."""
POLLING: Final = {"off": 0, "on": POLL_SPIN_US}
"""``poll_spin_us`` in microseconds without and with polling."""
RATES: Final = {"10mbit": "32kb", "100mbit": "256kb", "1gbit": "2500kb"}
"""Rates, each with the ``limit`` of a queue of about 20 ms."""
MANY_PAIRS: Final = 50
"""Pairs over which datagrams are spread."""
MANY_PER_SECOND: Final = 20_000
"""Datagrams a second over all of them."""
DATAGRAM: Final = 64
"""Size of a datagram in bytes."""


@dataclass(frozen=True, slots=True)
class ImpairedJob:
    """A job over impaired cables."""

    key: str
    """The job's key in the results."""
    title: str
    """The job's title in messages."""
    load: Job
    """The datagrams, sent over the first ``load.pairs`` pairs."""
    impairment: Mapping[str, str] = field(default_factory=dict)
    """The keys of both directions of these pairs; empty: not impaired."""
    poll_spin_us: int = POLL_SPIN_US
    """The daemon's ``poll_spin_us``."""


@dataclass(frozen=True, slots=True)
class ImpairmentPlan:
    """The jobs of one run."""

    rounds: int = ROUNDS
    """Number of rounds, each of which runs every job."""
    seconds: float = SECONDS
    """Duration of each job in seconds, without the warm-up of streams; jobs with a rate take twice that."""
    delays_ms: tuple[int, ...] = DELAYS_MS
    """Delays whose error is measured, in milliseconds."""
    rates: tuple[str, ...] = tuple(RATES)
    """Rates that are measured, of RATES."""
    pairs: int = MANY_PAIRS
    """Pairs over which datagrams are spread."""
    jobs: tuple[ImpairedJob, ...] = field(init=False)
    """The jobs of one round."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "jobs", tuple(self._jobs()))

    def _jobs(self) -> Iterator[ImpairedJob]:
        warm_up, long_warm_up = (min(most, 4 * self.seconds) for most in (WARM_UP, LONG_WARM_UP))
        stream = Job("stream", self.seconds, warm_up=long_warm_up)
        yield ImpairedJob("tcp", "TCP", replace(stream, warm_up=warm_up))
        yield ImpairedJob("tcp-delay", "TCP, delay", stream, DELAYED)
        bbr = replace(stream, congestion=CONGESTION_WITH_LOSS)
        yield ImpairedJob("tcp-loss", "TCP, delay and loss", bbr, LOSSY)
        flood = Job("datagrams", self.seconds, DATAGRAM)
        yield ImpairedJob("udp", f"{DATAGRAM} bytes", flood)
        yield ImpairedJob("udp-delay", f"{DATAGRAM} bytes, delay", flood, DELAYED)
        yield ImpairedJob("udp-loss", f"{DATAGRAM} bytes, delay and loss", flood, LOSSY)
        for delay_ms in self.delays_ms:
            paced = Job("one way", self.seconds, DATAGRAM, per_second=1000, delay_ms=delay_ms)
            for words, spin_us in POLLING.items():
                key, title = delay_key(delay_ms, words), f"delay {delay_ms} ms, polling {words}"
                yield ImpairedJob(key, title, paced, {"delay": f"{delay_ms}ms"}, spin_us)
        long = Job("stream", 2 * self.seconds, warm_up=warm_up)
        for rate in self.rates:
            yield ImpairedJob(rate_key(rate), f"rate {rate}", long, {"rate": rate, "limit": RATES[rate]})
        many = Job("datagrams", self.seconds, DATAGRAM, pairs=self.pairs, per_second=MANY_PER_SECOND)
        yield ImpairedJob("pairs", f"{self.pairs} pairs", many, {"delay": "100ms"})

    @property
    def most_pairs(self) -> int:
        """The number of pairs that are needed."""
        return max(job.load.pairs for job in self.jobs)

    @property
    def steps(self) -> int:
        """The total number of measurements."""
        return self.rounds * len(self.jobs)


def delay_key(delay_ms: int, polling: str) -> str:
    """Return the key of a job that measures a delay's error; ``polling`` is one of POLLING."""
    return f"delay-{delay_ms}-polling-{polling}"


def rate_key(rate: str) -> str:
    """Return the key of a job with a rate."""
    return f"rate-{rate}"


def quick_impairment(rounds: int | None = None, seconds: float | None = None) -> ImpairmentPlan:
    """Return a quick plan: one delay, one rate and fewer pairs, in a fraction of the time."""
    return ImpairmentPlan(rounds or 2, seconds or 0.4, delays_ms=(10,), rates=("100mbit",), pairs=5)


def thorough_impairment(rounds: int | None = None, seconds: float | None = None) -> ImpairmentPlan:
    """Return the full plan, which takes less than three minutes by default."""
    return ImpairmentPlan(rounds or ROUNDS, seconds or SECONDS)
