"""Starts in an unusual process: closed descriptors, and signals before the daemon is ready."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.scenarios.ctl import run_epairctl
from tests.scenarios.lab import CABLE, Lab
from tests.scenarios.transfers import BLUE, ping
from tests.waiting import until

pytestmark = pytest.mark.real


def blocks(pid: int, number: signal.Signals) -> bool:
    """Return whether a process blocks a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:"))
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "0<&- 1>&-"])
def test_a_daemon_whose_standard_descriptors_are_closed(lab: Lab, closed: str) -> None:
    daemon = lab.launch(CABLE, wrapper=("sh", "-c", f'exec "$@" {closed}', "sh")).wait_ready()
    ping(lab["red"], BLUE)
    daemon.stop()


def test_a_daemon_without_stderr_forwards_and_ends(lab: Lab) -> None:
    daemon = lab.launch(CABLE, wrapper=("sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh"))
    until(lambda: run_epairctl(lab, "list").returncode == 0, daemon.__repr__)
    ping(lab["red"], BLUE)
    daemon.stop()


def test_a_reload_that_is_requested_during_the_start_happens_after_it(lab: Lab) -> None:
    daemon = lab.launch(CABLE)
    until(lambda: blocks(daemon.pid, signal.SIGHUP), daemon.__repr__)
    daemon.signal(signal.SIGHUP)
    daemon.wait_ready()
    daemon.wait_for_log("reloaded ")
    ping(lab["red"], BLUE)
    daemon.stop()
