"""Readings of the daemon at one moment: frozen values, for the metrics page and the API."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from epaird.client.counters import InterfaceCounters, LineCounters
from epaird.client.impairment import ExpectedImpairment
from epaird.impairment.expected import bandwidth_delay_product, mean_burst, mean_delay, mean_loss
from epaird.ipc.counters import (
    HELD_BYTES,
    IN_FLIGHT,
    LATE_BUCKETS_MAX,
    LINE_REASONS,
    LINE_STATISTICS,
    LISTED,
    OACTIVE,
    REASONS,
    STATISTICS,
)
from epaird.ipc.impairment import LineParameters

_PLAIN: Final = tuple((each.name, each.word) for each in STATISTICS if not each.by_reason)
_BY_REASON: Final = tuple(
    (each.name, slice(each.word, each.word + len(REASONS))) for each in STATISTICS if each.by_reason
)


@dataclass(frozen=True, slots=True)
class LineReading:
    """The impairment of what one half transmits, at one moment."""

    device: str
    """Half that transmits: ``epair0a``."""
    words: Sequence[int]
    """SLOT_WORDS numbers, in the places that the catalogue gives to a line's counters."""
    parameters: LineParameters
    """The parameters that apply, outside its schedule."""
    applied: bool = True
    """True while it is impaired."""
    buffer: int = 0
    """Bytes that may be held; 0 while it is not impaired."""

    @property
    def expected(self) -> ExpectedImpairment:
        """What the parameters are expected to do."""
        parameters = self.parameters
        burst = mean_burst(parameters.loss)
        return ExpectedImpairment(
            delay_seconds=mean_delay(parameters),
            loss_ratio=mean_loss(parameters.loss),
            loss_burst=burst if math.isfinite(burst) else None,
            bits_per_second=parameters.rate,
            held_bytes=bandwidth_delay_product(parameters),
        )

    @property
    def counters(self) -> LineCounters:
        """What was done since the first impairment of the half."""
        counts: dict[str, Any] = {}
        for each in LINE_STATISTICS:
            if each.by_reason:
                words = self.words[each.word : each.word + len(LINE_REASONS)]
                counts[each.name] = dict(zip(LINE_REASONS, words, strict=True))
            elif each.histogram:
                counts[each.name] = list(self.words[each.word : each.word + LATE_BUCKETS_MAX])
            else:
                counts[each.name] = self.words[each.word]
        return LineCounters(**counts)


@dataclass(frozen=True, slots=True)
class InterfaceReading:
    """One interface at one moment."""

    device: str
    """Name of the interface, which it keeps for life: ``epair0a``."""
    kind: str
    """Cloner that created it: ``epair`` or ``lo``."""
    pair: str
    """Pair that it is a half of: ``epair0``; empty for a loopback."""
    half: str
    """``a`` or ``b``; empty for a loopback."""
    peer: str
    """Half that it is patched to: ``epair0b``; empty when it is patched to none, and for a loopback."""
    origin: str
    """Whether the ``configuration`` or a request at ``runtime`` created it."""
    name: str
    """Present name of its device: ``eth0``."""
    netns: str
    """Namespace of its device, by name or path, ``net:[4026532001]`` when no name leads to it; empty for the
    daemon's own."""
    mac: str
    """Hardware address now, ``02:5d:11:22:33:0a``."""
    worker: str
    """Number of the worker that forwards it, ``0``; with several queues ``0,1``."""
    up: bool
    """IFF_UP."""
    carrier: bool
    """IFF_LOWER_UP."""
    mtu: int
    """MTU in bytes."""
    words: Sequence[int]
    """READING_WORDS numbers, in the places that the catalogue gives to an interface's counters."""
    strayed: str = ""
    """Name or path of its namespace when that leads elsewhere now, or nowhere; otherwise empty."""
    leads_to: str = ""
    """Namespace that ``strayed`` leads to now, ``net:[4026532001]``; empty for none."""
    line: LineReading | None = None
    """The impairment of what it transmits; None if it never had one."""

    @property
    def refs(self) -> int:
        """1 + frames in flight to the interface + 1 for each queue of it on a drain list."""
        return 1 + self.words[IN_FLIGHT] + self.words[LISTED]

    @property
    def held_bytes(self) -> int:
        """Memory of the frames that wait to be delivered to it, in bytes."""
        return self.words[HELD_BYTES]

    @property
    def oactive(self) -> bool:
        """True while its output is blocked: its receiver's quota was used up when it last transmitted."""
        return bool(self.words[OACTIVE])

    @property
    def stats(self) -> InterfaceCounters:
        """Counters from the viewpoint of the interface's owner."""
        words = self.words
        counts: dict[str, Any] = {name: words[word] for name, word in _PLAIN}
        for name, place in _BY_REASON:
            counts[name] = dict(zip(REASONS, words[place], strict=True))
        return InterfaceCounters(**counts)


@dataclass(frozen=True, slots=True)
class MissingReading:
    """An interface that the configuration has and that does not exist."""

    device: str
    """Name of the interface, which it keeps for life: ``epair0a``."""
    kind: str
    """Cloner that creates it: ``epair`` or ``lo``."""
    pair: str
    """Pair that it is a half of: ``epair0``; empty for a loopback."""
    name: str
    """Configured name of its device: ``eth0``."""
    netns: str
    """Configured namespace of its device, by name or path; empty for the daemon's own."""
    reason: str
    """Reason why it is missing; empty while it is about to be created again."""

    @property
    def interface(self) -> str:
        """Name that it is created by: ``epair0``, ``lo1``."""
        return self.pair or self.device


@dataclass(frozen=True, slots=True)
class WorkerReading:
    """One worker at one moment."""

    worker: str
    """Number of the worker, ``0``."""
    queue_frames: int
    """Frames that wait in its queue."""
    queue_limit: int
    """Frames that its queue may hold."""
    drain_list: int
    """Interfaces that wait for their receivers to drain."""
    oactive: bool
    """True while the output of one of its interfaces is blocked."""
    restarts: int
    """Times that its process was replaced after dying."""
    cpu_seconds: float
    """User and system time of all its processes together."""
    alive: bool
    """True if its own loop turned within the last second."""


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """One worker process, or a worker that has none, at one moment."""

    worker: str
    """Number of its worker, ``0``; empty for a spare."""
    state: str
    """``starting``, ``running``, ``retiring`` while its cables move to another process, ``spare``, or
    ``dead`` for a worker without a process."""
    pid: int | None = None
    """Process id."""
    version: str = ""
    """Version of epaird that it runs; empty when it has not reported it, as one of 0.3.0 or older."""
    uid: int | None = None
    """Effective user id."""
    capabilities: tuple[str, ...] = ()
    """Capabilities in any of its sets, ``net_admin``."""
    no_new_privs: bool = False
    """True when it cannot gain privileges by executing a program."""
    seccomp: str = ""
    """``filter`` when its system calls are filtered, otherwise ``none``."""
    landlock: int | None = None
    """Version of Landlock's ABI whose every right it has given up; 0 without Landlock; None when unknown."""
    namespaces: tuple[str, ...] = ()
    """Kinds of its namespaces that are its own and hold nothing."""
    missing: tuple[str, ...] = ()
    """Layers of its sandbox that it lacks, each with the reason."""
    cables: int = 0
    """Cables that it forwards."""
    queue_frames: int = 0
    """Frames that wait in its queue."""
    queue_limit: int = 0
    """Frames that its queue may hold."""
    cpu_seconds: float = 0.0
    """User and system time of the process."""
    total_cpu_seconds: float = 0.0
    """User and system time of all processes that its worker has had."""
    age_seconds: float = 0.0
    """Time since the start of the process."""


@dataclass(frozen=True, slots=True)
class ConfigurationReading:
    """The configuration in force, and how its last reload ended."""

    successful: bool = True
    """False after a reload that failed."""
    success_time: float = 0.0
    """Time of the start or of the last successful reload, in seconds since the epoch."""
    successes: int = 0
    """Reloads that were successful."""
    failures: int = 0
    """Reloads that failed."""
    sha256: str = ""
    """Digest of the file whose configuration is in force."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The whole daemon at one moment."""

    interfaces: tuple[InterfaceReading, ...]
    """Every half and every loopback."""
    workers: tuple[WorkerReading, ...]
    """Every worker."""
    configuration: ConfigurationReading = ConfigurationReading()
    """The configuration in force."""
    missing: tuple[str, ...] = ()
    """Pairs and loopbacks of the configuration that do not exist."""
    tasks: int = 0
    """asyncio tasks of the control plane."""
    log_lines_lost: int = 0
    """Lines of the log that were lost because it was not read fast enough."""
    state_write_errors: int = 0
    """Failed attempts to write the state for a successor."""
    state_problem: str = ""
    """Reason why the last attempt failed; empty after one that succeeded."""
