"""The control plane's process metrics, with prometheus_client's own collector as the oracle."""

from __future__ import annotations

import os
from pathlib import Path

import prometheus_client
import pytest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from epaird.control.machine.descriptors import open_fds
from epaird.control.metrics.process import ProcessCollector


def families(collector: Collector) -> dict[str, Metric]:
    return {family.name: family for family in collector.collect()}


def test_the_metrics_are_those_of_prometheus_client() -> None:
    own, original = families(ProcessCollector()), families(prometheus_client.ProcessCollector(registry=None))
    assert {name: (family.type, family.documentation) for name, family in own.items()} == {
        name: (family.type, family.documentation) for name, family in original.items()
    }
    for name, family in original.items():
        (sample,), (expected,) = own[name].samples, family.samples
        assert (sample.name, sample.labels) == (expected.name, expected.labels)
        # The process runs between the two readings, and they round to a tick or to a second.
        assert sample.value == pytest.approx(expected.value, rel=0.05, abs=1.0), name


def test_descriptors_are_counted_while_they_are_open() -> None:
    before = open_fds()
    with Path(os.devnull).open():
        assert open_fds() == before + 1
    assert open_fds() == before


def test_descriptors_are_listed_if_the_kernel_reports_no_number() -> None:
    """Before Linux 6.2 the size of /proc/self/fd is 0, as that of /proc/self/task still is."""
    threads = Path("/proc/self/task")
    assert threads.stat().st_size == 0
    assert open_fds(threads) == len(list(threads.iterdir())) >= 1
