"""A :class:`Reading` as Prometheus metric families, one reading for each scrape.

The families of interfaces and workers come from the catalogue of counters and from the tables below.
Nothing is kept between scrapes, so an interface that is gone is gone from the page too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector as PrometheusCollector

from epaird import __version__
from epaird.control.metrics.exposition import Columns, Labels
from epaird.control.metrics.lines import line_families
from epaird.control.metrics.process import ProcessCollector
from epaird.control.readings import ConfigurationReading, InterfaceReading, Reading, WorkerReading
from epaird.ipc.counters import INTERFACE, REASONS, WORKER, Counter

_INTERFACE_GAUGES: Final[dict[str, tuple[Callable[[InterfaceReading], int], str]]] = {
    "up": (lambda i: int(i.up), "1 while the interface's owner has it up (IFF_UP)"),
    "carrier": (lambda i: int(i.carrier), "1 while the interface's owner sees a carrier (IFF_LOWER_UP)"),
    "mtu_bytes": (attrgetter("mtu"), "MTU that the interface's owner has set"),
    "refs": (
        attrgetter("refs"),
        "1 for the interface, 1 for each frame in flight to its owner, 1 for each drain list it is on",
    ),
}
"""Gauges that are not in the catalogue: name, value, help."""

_INFO_LABELS: Final = ("device", "pair", "half", "peer", "name", "netns", "mac", "worker")

_WORKER_GAUGES: Final[dict[str, tuple[Callable[[WorkerReading], int], str]]] = {
    "queue_limit_frames": (
        attrgetter("queue_limit"),
        "Frames that the worker's queue may hold, an eighth of them for one receiver",
    ),
}
"""Gauges that are not in the catalogue: name, value, help."""

_WORKER_COUNTERS: Final[dict[str, tuple[Callable[[WorkerReading], float], str]]] = {
    "restarts": (attrgetter("restarts"), "Times the worker's process died and was replaced"),
    "cpu_seconds": (
        attrgetter("cpu_seconds"),
        "User and system time of all processes that the worker has had",
    ),
}
"""Counters that are not in the catalogue, or have another unit there: name, value, help."""


class Collector(PrometheusCollector):
    """Reads once for each scrape; the families and their labels are always the same."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def describe(self) -> list[Metric]:
        """Return the families without samples, so that registering the collector reads nothing."""
        return list(_families(Reading(interfaces=(), workers=())))

    def collect(self) -> Iterator[Metric]:
        """Return the families of one fresh reading."""
        return _families(self._read())


def metrics_registry(read: Callable[[], Reading]) -> CollectorRegistry:
    """Return a registry of the daemon's metrics and the control plane's ``process_*``."""
    registry = CollectorRegistry()
    registry.register(Collector(read))
    registry.register(ProcessCollector())
    return registry


def _families(reading: Reading) -> Iterator[Metric]:
    yield _info("epaird_build", "Version of epaird that runs", Labels(("version",), [(__version__,)]))
    yield from _configuration_families(reading.configuration)
    yield from _interface_families(reading.interfaces)
    yield from line_families([each.line for each in reading.interfaces if each.line is not None])
    yield _gauge(
        "epaird_interfaces_missing",
        "Pairs and loopbacks of the configuration that do not exist",
        Labels((), [()]),
        [len(reading.missing)],
    )
    yield from _worker_families(reading.workers)
    yield _gauge(
        "epaird_control_tasks",
        "asyncio tasks of the control plane: its own, and those of each request and change under way",
        Labels((), [()]),
        [reading.tasks],
    )
    yield _counter(
        "epaird_log_lines_lost",
        "Lines of the log that were lost because nothing read it fast enough",
        Labels((), [()]),
        [reading.log_lines_lost],
    )
    yield _counter(
        "epaird_state_write_errors",
        "Failed attempts to write the state file or its journal, which a successor reads",
        Labels((), [()]),
        [reading.state_write_errors],
    )


def _configuration_families(reading: ConfigurationReading) -> Iterator[Metric]:
    unlabelled = Labels((), [()])
    yield _gauge(
        "epaird_config_last_reload_successful",
        "1 if the last reload of the configuration was successful, or there was none",
        unlabelled,
        [int(reading.successful)],
    )
    yield _gauge(
        "epaird_config_last_reload_success_timestamp_seconds",
        "When the configuration in force was read",
        unlabelled,
        [reading.success_time],
    )
    results = Labels(("result",), [("success",), ("failure",)])
    counts = [reading.successes, reading.failures]
    yield _counter("epaird_config_reloads", "Reloads of the configuration, by result", results, counts)
    digest = Labels(("sha256",), [(reading.sha256,)])
    yield _info("epaird_config_sha256", "Digest of the file whose configuration is in force", digest)


def _interface_families(interfaces: Sequence[InterfaceReading]) -> Iterator[Metric]:
    labels = Labels(("device",), [(i.device,) for i in interfaces])
    reasons = Labels(("device", "reason"), [(i.device, reason) for i in interfaces for reason in REASONS])
    words = [i.words for i in interfaces]
    for counter in INTERFACE:
        if counter.metric:
            yield _catalogued(counter, words, reasons if counter.by_reason else labels)
    for name, (value, help_text) in _INTERFACE_GAUGES.items():
        yield _gauge(f"epaird_interface_{name}", help_text, labels, list(map(value, interfaces)))
    places = Labels(_INFO_LABELS, list(map(attrgetter(*_INFO_LABELS), interfaces)))
    yield _info("epaird_interface", "Where the interface is now, and which worker forwards it", places)


def _catalogued(counter: Counter, words: Sequence[Sequence[int]], labels: Labels) -> Metric:
    """Return the family of one of the catalogue's counters of interfaces."""
    if counter.by_reason:
        of_reasons = itemgetter(slice(counter.word, counter.word + len(REASONS)))
        return _counter(
            counter.metric, counter.help, labels, list(chain.from_iterable(map(of_reasons, words)))
        )
    values: list[int] = list(map(itemgetter(counter.word), words))
    if counter.type == "counter":
        return _counter(counter.metric, counter.help, labels, values)
    if counter.unit == "flag":  # an interface with several queues has the sum of theirs
        values = [int(value > 0) for value in values]
    return _gauge(counter.metric, counter.help, labels, values)


def _worker_families(workers: Sequence[WorkerReading]) -> Iterator[Metric]:
    labels = Labels(("worker",), [(w.worker,) for w in workers])
    for counter in WORKER:
        if counter.metric:
            values = list(map(int, map(attrgetter(counter.name), workers)))
            yield _gauge(counter.metric, counter.help, labels, values)
    for name, (value, help_text) in _WORKER_GAUGES.items():
        yield _gauge(f"epaird_worker_{name}", help_text, labels, list(map(value, workers)))
    for name, (total, help_text) in _WORKER_COUNTERS.items():
        yield _counter(f"epaird_worker_{name}", help_text, labels, list(map(total, workers)))


def _counter(name: str, help_text: str, labels: Labels, values: Sequence[float]) -> Metric:
    return _filled(CounterMetricFamily(name, help_text), name + "_total", labels, values)


def _gauge(name: str, help_text: str, labels: Labels, values: Sequence[float]) -> Metric:
    return _filled(GaugeMetricFamily(name, help_text), name, labels, values)


def _info(name: str, help_text: str, labels: Labels) -> Metric:
    return _filled(InfoMetricFamily(name, help_text), name + "_info", labels, [1] * len(labels.rows))


def _filled(family: Metric, sample_name: str, labels: Labels, values: Sequence[float]) -> Metric:
    # Not by add_metric(): it makes a label set and a sample for each value, and the page needs neither.
    family.samples = Columns(sample_name, labels, values)  # type: ignore[assignment]
    return family
