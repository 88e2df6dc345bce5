from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from epaird.bench.children import BenchError
from epaird.bench.impairing import ImpairedCables, build_impaired
from epaird.bench.impairplan import WINDOW, ImpairedJob
from epaird.bench.interruption import Interrupted, Interruption
from epaird.bench.measure import MeasurementSetup
from epaird.bench.namespaces import BenchNamespaces
from epaird.bench.plan import Job
from epaird.bench.results import DelayFigures
from epaird.bench.subjects import CONTROL_SOCKET
from epaird.client.client import Client

pytestmark = pytest.mark.real

PACED = Job("one way", 0.1, 64, per_second=1000, delay_ms=50)
DELAYED = ImpairedJob("delay", "a delay", PACED, {"delay": "50ms"}, poll_spin_us=0)
LOSSY = ImpairedJob("pairs", "two pairs", Job("datagrams", 0.1, 64, pairs=2), {"loss": "10%"})


def values(cables: ImpairedCables, key: str) -> list[str | None]:
    """Return a key of what each half of the two pairs transmits."""
    client = Client(str(cables.scratch / CONTROL_SOCKET))
    pairs = (client.impairment(f"epair{pair}") for pair in range(2))
    return [each.impairment.get(key) for pair in pairs for each in pair.directions]


def polls(cables: ImpairedCables) -> bool:
    return "poll_spin_us = 0\n" not in Client(str(cables.scratch / CONTROL_SOCKET)).configuration()


def test_pairs_are_impaired_for_one_job_after_another(interruption: Interruption) -> None:
    with BenchNamespaces() as namespaces, build_impaired(namespaces, 2, interruption) as cables:
        for namespace in (namespaces.a, namespaces.b):
            with namespace.inside():
                for name in ("tcp_rmem", "tcp_wmem"):
                    assert Path("/proc/sys/net/ipv4", name).read_text().split()[2] == str(WINDOW)
                assert Path("/proc/sys/net/ipv4/tcp_no_metrics_save").read_text() == "1\n"
        with cables.impaired(DELAYED):
            assert values(cables, "delay") == ["50ms", "50ms", None, None]
            assert not polls(cables)
            figures = MeasurementSetup(namespaces, cables.daemon, interruption, 1).measure(PACED)
        assert isinstance(figures, DelayFigures)
        assert (figures.sent, figures.delivered) == (100, 100)
        assert figures.mean_us > -50_000  # nothing arrives before it was sent
        with cables.impaired(LOSSY):
            assert values(cables, "delay") == [None] * 4
            assert values(cables, "loss") == ["10%"] * 4
            assert polls(cables)
        assert values(cables, "loss") == [None] * 4
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted), cables.impaired(DELAYED):
            pytest.fail("was impaired")


def test_a_daemon_that_refuses_or_has_ended_is_an_error(interruption: Interruption) -> None:
    wrong = ImpairedJob("wrong", "wrong", PACED, {"delay": "50"})
    with BenchNamespaces() as namespaces, build_impaired(namespaces, 1, interruption) as cables:
        with pytest.raises(BenchError, match="delay"), cables.impaired(wrong):
            pytest.fail("was impaired")
        os.kill(cables.daemon.pid, signal.SIGKILL)
        with pytest.raises(BenchError, match="epaird run"), cables.impaired(DELAYED):
            pytest.fail("was impaired")
