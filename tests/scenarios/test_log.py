"""A log that nothing reads."""

from __future__ import annotations

import fcntl
import os
import signal

import pytest

from epaird.client.client import Client
from tests.scenarios.ctl import control_socket, run_epairctl
from tests.scenarios.lab import CABLE, Lab
from tests.scenarios.transfers import BLUE, ping
from tests.waiting import until

pytestmark = pytest.mark.real

INTO_FIFO = ("sh", "-c", 'log=$1; shift; exec "$@" 2>"$log"', "sh")


def test_a_pipe_that_nothing_reads_stops_neither_control_nor_replacement_nor_the_end(lab: Lab) -> None:
    fifo = lab.directory / "log"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    try:
        daemon = lab.launch(CABLE, wrapper=(*INTO_FIFO, str(fifo)), workers=1, log_level="debug")
        until(lambda: run_epairctl(lab, "list").returncode == 0, daemon.__repr__)
        client = Client(str(control_socket(lab)))
        for _ in range(60):
            client.change("epair0a", {"mtu": 1400})
            client.change("epair0a", {"mtu": 1500})
        assert len(os.read(reader, 4096)) > 2000
        before = daemon.worker()
        os.kill(before, signal.SIGKILL)
        until(lambda: before not in daemon.workers() and bool(daemon.workers()), daemon.__repr__)
        ping(lab["red"], BLUE)
        daemon.stop()
    finally:
        os.close(reader)
