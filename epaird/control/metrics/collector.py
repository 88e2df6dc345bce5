"""A :class:`Reading` as Prometheus metric families, one read for each scrape.

Every family is a row of a table: its name, what it tells, and where in the reading it stands.
Nothing is kept between scrapes, so an interface that is gone is gone from the page too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector as Collecting

from epaird import __version__
from epaird.control.metrics.exposition import Columns, Labels
from epaird.control.metrics.process import ProcessCollector
from epaird.control.readings import ConfigurationReading, InterfaceReading, Reading, WorkerReading
from epaird.ipc.counters import REASONS

_INTERFACE_COUNTERS: Final = {
    "opackets": "Frames the interface's owner sent, a super-frame being one",
    "obytes": "Bytes the interface's owner sent",
    "omcasts": "Multicast and broadcast frames the interface's owner sent",
    "oqdrops": "Frames the interface's owner sent that its output queue had no room for",
    "ipackets": "Frames that reached the interface's owner, a super-frame being one",
    "ibytes": "Bytes that reached the interface's owner",
    "imcasts": "Multicast and broadcast frames that reached the interface's owner",
}

_INTERFACE_ANSWERS: Final = {
    "too_big": "ICMP messages the interface's owner was sent about frames too long for the peer",
}

_COALESCED: Final = {
    "datagrams": "Datagrams that reached the interface's owner joined with others of their flow",
    "superframes": "Super-frames of joined datagrams that reached the interface's owner",
}

_INTERFACE_ERRORS: Final = {
    "oerrors": "Frames the interface's owner sent that were lost, by reason",
    "ierrors": "Frames on their way to the interface's owner that were lost, by reason",
}

_INTERFACE_GAUGES: Final[dict[str, tuple[Callable[[InterfaceReading], int], str]]] = {
    "up": (lambda i: int(i.up), "1 while the interface's owner has it up (IFF_UP)"),
    "carrier": (lambda i: int(i.carrier), "1 while the interface's owner sees a carrier (IFF_LOWER_UP)"),
    "mtu_bytes": (attrgetter("mtu"), "The MTU the interface's owner has set"),
    "refs": (
        attrgetter("refs"),
        "1 for the interface, 1 for each frame in flight to its owner, 1 for each drain list it is on",
    ),
    "held_bytes": (attrgetter("held_bytes"), "Memory of the frames that wait for the interface's owner"),
}

_INFO_LABELS: Final = ("device", "pair", "half", "name", "netns", "mac", "worker")

_WORKER_GAUGES: Final[dict[str, tuple[Callable[[WorkerReading], int], str]]] = {
    "queue_frames": (attrgetter("queue_frames"), "Frames waiting in the worker's queue"),
    "queue_limit_frames": (attrgetter("queue_limit"), "Frames the worker's queue may hold"),
    "drain_list_interfaces": (
        attrgetter("drain_list"),
        "Interfaces the worker restarts once its queue has drained",
    ),
    "oactive": (lambda w: int(w.oactive), "1 while the worker's output is blocked (BSD's IFF_OACTIVE)"),
}

_WORKER_COUNTERS: Final[dict[str, tuple[Callable[[WorkerReading], float], str]]] = {
    "restarts": (attrgetter("restarts"), "Times the worker's process died and was replaced"),
    "cpu_seconds": (attrgetter("cpu_seconds"), "User and system time of all processes the worker has had"),
}


class Collector(Collecting):
    """Reads once for each scrape; the families and their labels are always the same."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def describe(self) -> list[Metric]:
        """The families without samples, so that registering the collector reads nothing."""
        return list(_families(Reading(interfaces=(), workers=())))

    def collect(self) -> Iterator[Metric]:
        """The families of one fresh reading."""
        return _families(self._read())


def metrics_registry(read: Callable[[], Reading]) -> CollectorRegistry:
    """A registry of its own for the daemon's metrics and the control plane's ``process_*``."""
    registry = CollectorRegistry()
    registry.register(Collector(read))
    registry.register(ProcessCollector())
    return registry


def _families(reading: Reading) -> Iterator[Metric]:
    yield _info("epaird_build", "The version of epaird that runs", Labels(("version",), [(__version__,)]))
    yield from _configuration_families(reading.configuration)
    yield from _interface_families(reading.interfaces)
    yield from _worker_families(reading.workers)
    yield _gauge(
        "epaird_control_tasks",
        "asyncio tasks of the control plane: some for itself, and for each request and change under way",
        Labels((), [()]),
        [reading.tasks],
    )


def _configuration_families(reading: ConfigurationReading) -> Iterator[Metric]:
    alone = Labels((), [()])
    yield _gauge(
        "epaird_config_last_reload_successful",
        "1 when the last reload of the configuration was successful, or there was none",
        alone,
        [int(reading.successful)],
    )
    yield _gauge(
        "epaird_config_last_reload_success_timestamp_seconds",
        "When the configuration in force was read",
        alone,
        [reading.success_time],
    )
    results = Labels(("result",), [("success",), ("failure",)])
    counts = [reading.successes, reading.failures]
    yield _counter("epaird_config_reloads", "Reloads of the configuration, by result", results, counts)
    digest = Labels(("sha256",), [(reading.sha256,)])
    yield _info("epaird_config_sha256", "The file whose configuration is in force", digest)


def _interface_families(interfaces: Sequence[InterfaceReading]) -> Iterator[Metric]:
    labels = Labels(("device",), [(i.device,) for i in interfaces])
    reasons = Labels(("device", "reason"), [(i.device, reason) for i in interfaces for reason in REASONS])
    for name, told in _INTERFACE_COUNTERS.items():
        values = list(map(attrgetter(name), interfaces))
        yield _counter(f"epaird_interface_{name}", _bsd(name, told), labels, values)
    for name, told in _INTERFACE_ANSWERS.items():
        yield _counter(f"epaird_interface_{name}", told, labels, list(map(attrgetter(name), interfaces)))
    for name, told in _COALESCED.items():
        values = list(map(attrgetter(f"coalesced_{name}"), interfaces))
        yield _counter(f"epaird_coalesced_{name}", told, labels, values)
    for name, told in _INTERFACE_ERRORS.items():
        counts = list(chain.from_iterable(map(attrgetter(name), interfaces)))
        yield _counter(f"epaird_interface_{name}", _bsd(name, told), reasons, counts)
    for name, (value, told) in _INTERFACE_GAUGES.items():
        yield _gauge(f"epaird_interface_{name}", told, labels, list(map(value, interfaces)))
    places = Labels(_INFO_LABELS, list(map(attrgetter(*_INFO_LABELS), interfaces)))
    yield _info("epaird_interface", "Where the interface is now, and which worker forwards it", places)


def _worker_families(workers: Sequence[WorkerReading]) -> Iterator[Metric]:
    labels = Labels(("worker",), [(w.worker,) for w in workers])
    for name, (value, told) in _WORKER_GAUGES.items():
        yield _gauge(f"epaird_worker_{name}", told, labels, list(map(value, workers)))
    for name, (total, told) in _WORKER_COUNTERS.items():
        yield _counter(f"epaird_worker_{name}", told, labels, list(map(total, workers)))


def _bsd(name: str, told: str) -> str:
    return f"{told} (BSD's if_{name})"


def _counter(name: str, told: str, labels: Labels, values: Sequence[float]) -> Metric:
    return _filled(CounterMetricFamily(name, told), name + "_total", labels, values)


def _gauge(name: str, told: str, labels: Labels, values: Sequence[float]) -> Metric:
    return _filled(GaugeMetricFamily(name, told), name, labels, values)


def _info(name: str, told: str, labels: Labels) -> Metric:
    return _filled(InfoMetricFamily(name, told), name + "_info", labels, [1] * len(labels.rows))


def _filled(family: Metric, sample_name: str, labels: Labels, values: Sequence[float]) -> Metric:
    # Not by add_metric(): it builds a label set and a sample for each value, where the page needs neither.
    family.samples = Columns(sample_name, labels, values)  # type: ignore[assignment]
    return family
