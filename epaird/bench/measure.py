"""Measurement of a job over a subject: start the load generators and combine their results."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Literal

from epaird.bench import datagrams, oneway, roundtrip, stream
from epaird.bench.children import PYTHON, BenchError, Child, cpu_seconds
from epaird.bench.interruption import Interruption
from epaird.bench.namespaces import BenchNamespace, BenchNamespaces
from epaird.bench.plan import Job
from epaird.bench.results import (
    DatagramFigures,
    DelayFigures,
    Figures,
    RoundTripFigures,
    StreamFigures,
    percentile_name,
)
from epaird.bench.subjects import address

IPERF3: Final = shutil.which("iperf3")
_MORE_S: Final = 5.0
"""Time for which a sender goes on after that of its receiver."""


class MeasurementSetup:
    """A subject that is ready, with its namespaces and its forwarding process."""

    def __init__(
        self, namespaces: BenchNamespaces, forwarder: Child | None, interruption: Interruption, senders: int
    ) -> None:
        """``senders`` is the most sending processes at once, and the most receiving ones.

        ``forwarder`` is None when the kernel forwards.
        """
        self._namespaces = namespaces
        self._forwarder = forwarder
        self._interruption = interruption
        self._senders = senders

    def measure(self, job: Job) -> Figures:
        """Run a job. Raises BenchError, KernelError, Interrupted."""
        match job.kind:
            case "datagrams":
                return self._datagrams(job)
            case "stream":
                return self._iperf3(job) if IPERF3 and not job.warm_up else self._stream(job)
            case "round trips":
                return self._round_trips(job)
            case "one way":
                return self._one_way(job)

    def _datagrams(self, job: Job) -> DatagramFigures:
        floods = [
            datagrams.Flood(
                tuple(address(pair, "b") for pair in pairs),
                job.size,
                job.segments,
                job.seconds,
                job.per_second * len(pairs) // job.pairs,
            )
            for pairs in shares(job.pairs, self._senders)
        ]
        a, b = self._namespaces.a, self._namespaces.b
        with contextlib.ExitStack() as stack:
            sinks = [self._program(stack, b, "datagrams", "sink", flood.to_json()) for flood in floods]
            senders = [self._program(stack, a, "datagrams", "send", flood.to_json()) for flood in floods]
            for child in (*sinks, *senders):
                child.until("ready")
            forwarder_cpu = self._forwarder_cpu()
            for child in senders:
                child.begin()
            sent = [datagrams.Sent(**json.loads(child.line(job.seconds))) for child in senders]
            for child in sinks:
                child.finish()
            received = [datagrams.Received(**json.loads(child.line())) for child in sinks]
            return datagram_figures(job, sent, received, forwarder_cpu())

    def _iperf3(self, job: Job) -> StreamFigures:
        # iperf3 takes whole seconds, and 0 means for ever.
        seconds = max(1, math.ceil(job.seconds))
        to = address(0, "b")
        congestion = self._congestion(job)
        algorithm = ("-C", congestion) if congestion else ()
        with contextlib.ExitStack() as stack:
            server = self._start(stack, self._namespaces.b, "iperf3", "-s", "-1", "-B", to, "--forceflush")
            server.until("listening")
            forwarder_cpu = self._forwarder_cpu()
            command = ("iperf3", "-c", to, "-t", str(seconds), "-i", "0", "-J", *algorithm)
            client = self._start(stack, self._namespaces.a, *command)
            report = json.loads(client.rest(seconds) or "{}")
            if "error" in report or "end" not in report:
                raise client.failure(report.get("error", "printed nothing"))
            received = report["end"]["sum_received"]
            gbit_per_second = received["bits_per_second"] / 1e9
            figures = stream_figures("iperf3", received["bytes"], gbit_per_second, forwarder_cpu())
            return replace(figures, congestion=congestion)

    def _stream(self, job: Job) -> StreamFigures:
        to, congestion = address(0, "b"), self._congestion(job)
        with contextlib.ExitStack() as stack:
            timing = (str(job.warm_up), str(job.seconds)) if job.warm_up else ()
            receiver = self._program(stack, self._namespaces.b, "stream", "receive", to, *timing)
            receiver.until("ready")
            # The figures of a stream with a warm-up are those of its later part.
            forwarder_cpu = self._forwarder_cpu() if not job.warm_up else lambda: None
            # A receiver that has a time of its own ends before the sender does, and is not waited for.
            seconds = job.warm_up + job.seconds + (_MORE_S if job.warm_up else 0)
            self._program(stack, self._namespaces.a, "stream", "send", to, str(seconds), congestion)
            received = stream.ReceivedStream(**json.loads(receiver.line(seconds)))
            gbit_per_second = received.octets * 8 / received.seconds / 1e9
            figures = stream_figures("own", received.octets, gbit_per_second, forwarder_cpu())
            return replace(figures, congestion=congestion, window=received.window)

    def _congestion(self, job: Job) -> str:
        """Return the congestion control of a stream; empty: the machine's default."""
        with self._namespaces.a.inside():
            return next(filter(stream.usable, (job.congestion, stream.CONGESTION)), "")

    def _round_trips(self, job: Job) -> RoundTripFigures:
        to = address(0, "b")
        with contextlib.ExitStack() as stack:
            self._program(stack, self._namespaces.b, "roundtrip", "echo", to).until("ready")
            client = self._program(stack, self._namespaces.a, "roundtrip", "ask", to, str(job.seconds))
            times = roundtrip.RoundTripTimes(**json.loads(client.line(job.seconds)))
        names = map(percentile_name, roundtrip.PERCENTILES)
        return RoundTripFigures(
            times.exchanges, times.lost, dict(zip(names, times.microseconds, strict=False))
        )

    def _one_way(self, job: Job) -> DelayFigures:
        to = address(0, "b")
        with contextlib.ExitStack() as stack:
            receiver = self._program(stack, self._namespaces.b, "oneway", "receive", to, str(job.delay_ms))
            receiver.until("ready")
            timing = (str(job.per_second), str(job.seconds))
            sender = self._program(stack, self._namespaces.a, "oneway", "send", to, *timing)
            sent = int(sender.line(job.seconds))
            receiver.finish()
            errors = oneway.DelayErrors(**json.loads(receiver.line()))
        names = map(percentile_name, roundtrip.PERCENTILES)
        at = dict(zip(names, errors.microseconds, strict=False))
        return DelayFigures(sent, errors.datagrams, at, errors.mean_us)

    def _program(
        self, stack: contextlib.ExitStack, namespace: BenchNamespace, module: str, *arguments: str
    ) -> Child:
        """Start a program of this package."""
        return self._start(stack, namespace, *PYTHON, "-m", f"epaird.bench.{module}", *arguments)

    def _start(self, stack: contextlib.ExitStack, namespace: BenchNamespace, *command: str) -> Child:
        return stack.enter_context(Child(command, namespace, self._interruption, end=signal.SIGKILL))

    def _forwarder_cpu(self) -> Callable[[], float | None]:
        """Return a function for the forwarder's CPU seconds since now, or None when the kernel forwards."""
        forwarder = self._forwarder
        if forwarder is None:
            return lambda: None
        if not forwarder.running:
            raise forwarder.failure("ended")
        before = cpu_seconds(forwarder.pid)
        return lambda: cpu_seconds(forwarder.pid) - before


def shares(pairs: int, processes: int) -> list[range]:
    """Distribute pairs over at most ``processes`` processes."""
    count = min(pairs, max(1, processes))
    return [range(first, pairs, count) for first in range(count)]


def datagram_figures(
    job: Job,
    sent: Sequence[datagrams.Sent],
    received: Sequence[datagrams.Received],
    forwarder: float | None,
) -> DatagramFigures:
    """Combine the results of senders and receivers with the forwarder's CPU seconds.

    Raises BenchError when no datagram arrived.
    """
    delivered = sum(result.datagrams for result in received)
    if not delivered:
        raise BenchError(f"{job.title}: no datagram arrived")
    arrived = [result for result in received if result.datagrams]
    seconds = max(result.last for result in arrived) - min(result.first for result in arrived)
    per_second = delivered / seconds if seconds > 0 else 0.0
    ends = sum(result.cpu_seconds for result in sent) + sum(result.cpu_seconds for result in received)
    return DatagramFigures(
        sent=sum(result.datagrams for result in sent),
        delivered=delivered,
        reordered=sum(result.reordered for result in received),
        per_second=per_second,
        gbit_per_second=per_second * job.size * 8 / 1e9,
        cpu_us=(ends + (forwarder or 0.0)) * 1e6 / delivered,
        forwarder_cpu_us=None if forwarder is None else forwarder * 1e6 / delivered,
    )


def stream_figures(
    generator: Literal["iperf3", "own"], octets: int, gbit_per_second: float, forwarder: float | None
) -> StreamFigures:
    """Combine the results of a stream with the forwarder's CPU seconds."""
    per_mb = None if forwarder is None else forwarder * 1e12 / max(1, octets)
    return StreamFigures(generator, octets, gbit_per_second, per_mb)
