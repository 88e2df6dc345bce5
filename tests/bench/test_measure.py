"""The combination of the load generators' results; tests/bench/test_run.py runs the generators."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.bench.children import BenchError
from epaird.bench.datagrams import Received, Sent
from epaird.bench.measure import datagram_figures, shares, stream_figures
from epaird.bench.plan import Job
from epaird.bench.results import DatagramFigures, StreamFigures

JOB = Job("datagrams", 1.0, size=1000, pairs=3)
SILENT = Received(datagrams=0, reordered=0, first=0.0, last=0.0, cpu_seconds=0.25)


@given(st.integers(1, 300), st.integers(0, 64))
def test_every_pair_has_one_sender(pairs: int, processes: int) -> None:
    dealt = shares(pairs, processes)
    assert sorted(pair for share in dealt for pair in share) == list(range(pairs))
    assert all(dealt)
    assert len(dealt) <= max(1, processes)


def test_the_figures_of_several_processes_are_combined() -> None:
    sent = [Sent(3000, 0.5), Sent(2000, 0.25)]
    received = [
        Received(datagrams=2500, reordered=1, first=10.0, last=11.5, cpu_seconds=0.5),
        Received(datagrams=1500, reordered=2, first=9.5, last=11.0, cpu_seconds=0.5),
        SILENT,
    ]
    expected = DatagramFigures(
        sent=5000,
        delivered=4000,
        reordered=3,
        per_second=2000.0,
        gbit_per_second=0.016,
        cpu_us=625.0,
        forwarder_cpu_us=125.0,
    )
    assert datagram_figures(JOB, sent, received, 0.5) == expected


def test_without_a_forwarder_only_the_ends_use_cpu() -> None:
    received = [Received(datagrams=1000, reordered=0, first=1.0, last=2.0, cpu_seconds=0.5)]
    figures = datagram_figures(JOB, [Sent(1000, 0.5)], received, None)
    assert (figures.cpu_us, figures.forwarder_cpu_us) == (1000.0, None)


def test_a_single_datagram_has_no_rate() -> None:
    received = [Received(datagrams=1, reordered=0, first=1.0, last=1.0, cpu_seconds=0.0)]
    figures = datagram_figures(JOB, [Sent(1, 0.0)], received, None)
    assert (figures.per_second, figures.gbit_per_second) == (0.0, 0.0)


def test_no_datagram_at_all_is_an_error() -> None:
    with pytest.raises(BenchError, match=r"^1000 bytes: no datagram arrived$"):
        datagram_figures(JOB, [Sent(1000, 0.5)], [SILENT, SILENT], 0.5)


def test_the_forwarders_cpu_is_related_to_the_streams_volume() -> None:
    assert stream_figures("own", 2_000_000, 30.0, 0.001) == StreamFigures("own", 2_000_000, 30.0, 500.0)
    assert stream_figures("iperf3", 0, 0.0, 0.001).forwarder_cpu_us_per_mb == pytest.approx(1e9)
    assert stream_figures("iperf3", 1, 1.0, None).forwarder_cpu_us_per_mb is None
