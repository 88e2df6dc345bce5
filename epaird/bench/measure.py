"""A job run over a subject that carries: its load generators started, and what they found put together."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import signal
from collections.abc import Callable
from typing import Final, Literal

from epaird.bench import datagrams, roundtrip, stream
from epaird.bench.children import PYTHON, BenchError, Child, cpu_seconds
from epaird.bench.interruption import Interruption
from epaird.bench.namespaces import BenchNamespace, BenchNamespaces
from epaird.bench.plan import Job
from epaird.bench.results import Datagrams, Figures, RoundTrip, Stream, percentile_name
from epaird.bench.subjects import address

IPERF3: Final = shutil.which("iperf3")


class Testbed:
    """A subject that carries, and what it takes to measure it."""

    def __init__(
        self, places: BenchNamespaces, forwarder: Child | None, interruption: Interruption, senders: int
    ) -> None:
        """``senders``: how many processes may send at once, and as many receive."""
        self._places = places
        self._forwarder = forwarder
        self._interruption = interruption
        self._senders = senders

    def measure(self, job: Job) -> Figures:
        """Run a job.  Raises BenchError, KernelError, Interrupted."""
        match job.kind:
            case "datagrams":
                return self._datagrams(job)
            case "stream":
                return self._iperf3(job) if IPERF3 else self._stream(job)
            case "round trips":
                return self._round_trips(job)

    def _datagrams(self, job: Job) -> Datagrams:
        floods = [
            datagrams.Flood(tuple(address(pair, "b") for pair in pairs), job.size, job.segments, job.seconds)
            for pairs in shares(job.pairs, self._senders)
        ]
        with contextlib.ExitStack() as stack:
            sinks = [
                self._ours(stack, self._places.b, "datagrams", "sink", flood.to_json()) for flood in floods
            ]
            senders = [
                self._ours(stack, self._places.a, "datagrams", "send", flood.to_json()) for flood in floods
            ]
            for child in (*sinks, *senders):
                child.until("ready")
            used = self._forwarders_cpu()
            for child in senders:
                child.begin()
            sent = [datagrams.Sent(**json.loads(child.line(job.seconds))) for child in senders]
            for child in sinks:
                child.finish()
            received = [datagrams.Received(**json.loads(child.line())) for child in sinks]
            return _datagrams(job, sent, received, used())

    def _iperf3(self, job: Job) -> Stream:
        # It takes whole seconds, and 0 for for ever.
        seconds = max(1, math.ceil(job.seconds))
        to = address(0, "b")
        algorithm = ("-C", stream.CONGESTION) if stream.CONGESTION in stream.available() else ()
        with contextlib.ExitStack() as stack:
            server = self._start(stack, self._places.b, "iperf3", "-s", "-1", "-B", to, "--forceflush")
            server.until("listening")
            used = self._forwarders_cpu()
            command = ("iperf3", "-c", to, "-t", str(seconds), "-i", "0", "-J", *algorithm)
            client = self._start(stack, self._places.a, *command)
            said = json.loads(client.rest(seconds) or "{}")
            if "error" in said or "end" not in said:
                raise client.failure(said.get("error", "said nothing"))
            end = said["end"]["sum_received"]
            return self._streamed("iperf3", end["bytes"], end["bits_per_second"] / 1e9, used())

    def _stream(self, job: Job) -> Stream:
        to = address(0, "b")
        with contextlib.ExitStack() as stack:
            receiver = self._ours(stack, self._places.b, "stream", "receive", to)
            receiver.until("ready")
            used = self._forwarders_cpu()
            self._ours(stack, self._places.a, "stream", "send", to, str(job.seconds))
            found = stream.Stream(**json.loads(receiver.line(job.seconds)))
            return self._streamed("own", found.octets, found.octets * 8 / found.seconds / 1e9, used())

    def _streamed(
        self, generator: Literal["iperf3", "own"], octets: int, gbit_per_second: float, used: float | None
    ) -> Stream:
        per_mb = None if used is None else used * 1e12 / max(1, octets)
        return Stream(generator, octets, gbit_per_second, per_mb)

    def _round_trips(self, job: Job) -> RoundTrip:
        to = address(0, "b")
        with contextlib.ExitStack() as stack:
            self._ours(stack, self._places.b, "roundtrip", "echo", to).until("ready")
            asker = self._ours(stack, self._places.a, "roundtrip", "ask", to, str(job.seconds))
            found = roundtrip.RoundTrips(**json.loads(asker.line(job.seconds)))
        names = map(percentile_name, roundtrip.PERCENTILES)
        return RoundTrip(found.exchanges, found.lost, dict(zip(names, found.microseconds, strict=False)))

    def _ours(
        self, stack: contextlib.ExitStack, place: BenchNamespace, module: str, *arguments: str
    ) -> Child:
        return self._start(stack, place, *PYTHON, "-m", f"epaird.bench.{module}", *arguments)

    def _start(self, stack: contextlib.ExitStack, place: BenchNamespace, *command: str) -> Child:
        return stack.enter_context(Child(command, place, self._interruption, end=signal.SIGKILL))

    def _forwarders_cpu(self) -> Callable[[], float | None]:
        """How much CPU the forwarder has used since now, in seconds; None when the kernel forwards."""
        forwarder = self._forwarder
        if forwarder is None:
            return lambda: None
        if not forwarder.running:
            raise forwarder.failure("ended")
        before = cpu_seconds(forwarder.pid)
        return lambda: cpu_seconds(forwarder.pid) - before


def shares(pairs: int, processes: int) -> list[range]:
    """The pairs dealt out to so many processes at most."""
    count = min(pairs, max(1, processes))
    return [range(first, pairs, count) for first in range(count)]


def _datagrams(
    job: Job, sent: list[datagrams.Sent], received: list[datagrams.Received], forwarder: float | None
) -> Datagrams:
    delivered = sum(each.datagrams for each in received)
    if not delivered:
        raise BenchError(f"{job.title}: not one datagram arrived")
    arrived = [each for each in received if each.datagrams]
    seconds = max(each.last for each in arrived) - min(each.first for each in arrived)
    per_second = delivered / seconds if seconds > 0 else 0.0
    ends = sum(each.cpu_seconds for each in sent) + sum(each.cpu_seconds for each in received)
    return Datagrams(
        sent=sum(each.datagrams for each in sent),
        delivered=delivered,
        reordered=sum(each.reordered for each in received),
        per_second=per_second,
        gbit_per_second=per_second * job.size * 8 / 1e9,
        cpu_us=(ends + (forwarder or 0.0)) * 1e6 / delivered,
        forwarder_cpu_us=None if forwarder is None else forwarder * 1e6 / delivered,
    )
