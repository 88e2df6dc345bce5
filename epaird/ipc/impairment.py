"""The impairment of one direction of a cable, as a worker carries it out.

What a user writes has units, presets and several notations (:mod:`epaird.impairment`); here everything is a
number. Times are nanoseconds, sizes bytes, rates bits per second, probabilities between 0 and 1.

This module is imported by worker processes: it uses the standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from epaird.ipc.ringfile import SLACK

DISTRIBUTIONS: Final = ("uniform", "normal", "pareto", "paretonormal")
"""Distributions of the delay."""
FATES: Final = (
    "loss", "ber", "schedule", "duplicate", "corrupt", "reorder", "queue_full", "aqm", "mark"
)  # fmt: skip
"""Decisions about segments, by their numbers from 1 on, as the log and a replay have them."""
PHASES_MAX: Final = 32
"""Phases of a schedule: two lines with that many fit one packet."""
TIME_MAX_NS: Final = 1 << 62
"""Nanoseconds of the longest time, some 146 years."""
RATE_MAX: Final = 1 << 50
"""Bits per second of the highest rate."""
BUFFER_MAX: Final = 1 << 40
"""Bytes of the largest buffer."""
QUEUES_MAX: Final = 256
"""Most queues of a device: the kernel's MAX_TAP_QUEUES."""
LONGEST_NS: Final = 365 * 86_400 * 10**9
"""Nanoseconds of the longest time that a user can set, and of the longest that a frame is held."""
_DEVIATIONS: Final = {"uniform": 1, "normal": 10}
"""Most jitters by which the delay of these distributions differs from its mean; it is far more for others."""
_WIRE_SHARE: Final = 6
"""Most bytes on the wire for each byte of a frame: the shortest frames are padded."""
_WORDS: Final = range(1 << 64)


@dataclass(frozen=True, slots=True)
class LossChain:
    """The Gilbert-Elliott chain of losses: two states, one step for each segment.

    Independent losses of probability q are the chain p = q, r = 1 - q, bad = 1, good = 0."""

    p: float = 0.0
    """Probability that the good state is followed by the bad one."""
    r: float = 1.0
    """Probability that the bad state is followed by the good one."""
    bad: float = 1.0
    """Probability that a segment is lost in the bad state."""
    good: float = 0.0
    """Probability that a segment is lost in the good state."""


@dataclass(frozen=True, slots=True)
class LineParameters:
    """What a line does to the segments that it carries. The defaults do nothing."""

    delay_ns: int = 0
    """One-way delay."""
    jitter_ns: int = 0
    """Standard deviation of the delay; for the uniform distribution, its half-width."""
    jitter_correlation: float = 0.0
    """Correlation of successive knots of the delay."""
    distribution: str = "normal"
    """``uniform``, ``normal``, ``pareto`` or ``paretonormal``."""
    loss: LossChain = LossChain()
    """Losses, for the reason ``loss``."""
    duplicate: float = 0.0
    """Probability that a segment is delivered twice."""
    corrupt: float = 0.0
    """Probability that a segment is delivered with a flipped bit that no checksum repairs."""
    ber: float = 0.0
    """Probability that a bit on the wire is wrong; its segment is dropped, for the reason ``ber``."""
    reorder: float = 0.0
    """Probability that a segment overtakes those that are delayed."""
    rate: int = 0
    """Bits per second on the wire; 0 is no limit."""
    limit_bytes: int = 0
    """Bytes of the queue before the rate, Ethernet overhead included; 0 is no limit."""
    limit_segments: int = 0
    """Segments of that queue; 0 is no limit."""
    codel: bool = False
    """True where CoDel (RFC 8289) manages that queue; False where it drops only at its end."""
    ecn: bool = False
    """True where CoDel marks segments that can be marked (RFC 3168) instead of dropping them."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Other parameters for a part of the time. Of several phases at one time the last one applies."""

    at_ns: int = 0
    """Beginning, from the moment when the impairment was applied."""
    for_ns: int = 0
    """Duration; 0 is for ever."""
    every_ns: int = 0
    """Interval at which it begins again; 0 is once."""
    parameters: LineParameters = LineParameters()
    """All parameters that apply meanwhile. Losses have the reason ``schedule`` unless the chain is that of
    the line itself."""


@dataclass(frozen=True, slots=True)
class LineSpec:
    """The impairment of what one port transmits. With it travels the memory file of its ring, and the file of
    its trace if it has one."""

    slot: int = 0
    """Slot of the ledger that its frames are counted in."""
    seed: int = 0
    """Unsigned, 64 bits. Equal seeds make equal decisions about equal segments."""
    applied_ns: int = 0
    """CLOCK_MONOTONIC when these parameters were applied: phases and the delay's knots count from there."""
    buffer: int = 64 << 20
    """Bytes of memory for frames that are held. With no room left, the port is not read."""
    parameters: LineParameters = LineParameters()
    """What applies outside all phases."""
    phases: tuple[Phase, ...] = ()
    """The schedule."""
    trace: bool = False
    """True where delivery opportunities from a file replace the rate: unsigned 64-bit nanoseconds, ascending,
    the last of them the period."""
    replay: bool = False
    """True where the decisions come from a file: unsigned 64-bit pairs of a segment's number and its fate,
    ascending."""
    draining: bool = False
    """True for a line that goes on only until it holds nothing, as after a request to impair nothing."""
    queues: int = 1
    """Number of the ports that transmit into it: the queues of one interface."""
    receiver: int = -1
    """Slot of the ledger of the receiver's first queue, in which its deliveries are counted; -1 for that of
    the port's receiver."""
    longest_ns: int = LONGEST_NS
    """Nanoseconds within which everything is due that its ring may hold."""

    def longest(self) -> int:
        """Return the nanoseconds after which everything is due that is read with this impairment."""
        if self.trace:
            return LONGEST_NS
        every = (self.parameters, *(phase.parameters for phase in self.phases))
        return min(LONGEST_NS, max(_longest(each, self.buffer) for each in every))

    def faults(self) -> Iterator[str]:
        """Yield what no line can be, in one line each: numbers out of range."""
        for subject, value, allowed in (
            ("seed", self.seed, _WORDS),
            ("time", self.applied_ns, range(TIME_MAX_NS + 1)),
            ("buffer", self.buffer, range(1, BUFFER_MAX + 1)),
            ("number of phases", len(self.phases), range(PHASES_MAX + 1)),
            ("number of queues", self.queues, range(1, QUEUES_MAX + 1)),
            ("longest time", self.longest_ns, range(LONGEST_NS + 1)),
        ):
            if value not in allowed:
                yield f"{subject} {value} of a line is out of range"
        times = [time for phase in self.phases for time in (phase.at_ns, phase.for_ns, phase.every_ns)]
        for parameters in (self.parameters, *(phase.parameters for phase in self.phases)):
            yield from _faults(parameters)
            times += parameters.delay_ns, parameters.jitter_ns
        if any(not 0 <= time <= TIME_MAX_NS for time in times):
            yield "a time of a line is out of range"


def _longest(parameters: LineParameters, buffer: int) -> int:
    if parameters.jitter_ns and parameters.distribution not in _DEVIATIONS:
        return LONGEST_NS
    path = parameters.delay_ns + parameters.jitter_ns * _DEVIATIONS.get(parameters.distribution, 0)
    if not parameters.rate:
        return path
    # A burst is read while anything is left of the buffer, and is in the queue together with it.
    return path + _WIRE_SHARE * (buffer + SLACK) * 8 * 10**9 // parameters.rate


def _faults(parameters: LineParameters) -> Iterator[str]:
    loss = parameters.loss
    for value in (
        loss.p, loss.r, loss.bad, loss.good, parameters.jitter_correlation,
        parameters.duplicate, parameters.corrupt, parameters.ber, parameters.reorder,
    ):  # fmt: skip
        if not (math.isfinite(value) and 0 <= value <= 1):
            yield f"probability {value} of a line is out of range"
    for size in (parameters.limit_bytes, parameters.limit_segments):
        if not 0 <= size < 1 << 63:
            yield f"limit {size} of a line is out of range"
    if not 0 <= parameters.rate <= RATE_MAX:
        yield f"rate {parameters.rate} of a line is out of range"
    if parameters.distribution not in DISTRIBUTIONS:
        yield "distribution of a line is not known"
