from __future__ import annotations

import json
import os
import platform

from epaird import __version__
from epaird.bench.machine import description, summary_line
from tests.bench.samples import MACHINE


def test_this_machine() -> None:
    machine = description()
    assert machine.keys() == MACHINE.keys()
    assert machine["cpu"]
    assert machine["cores"] == len(os.sched_getaffinity(0))
    assert float(machine["memory_gib"]) > 0
    assert (machine["kernel"], machine["epaird"]) == (platform.release(), __version__)
    assert json.loads(json.dumps(machine)) == machine


def test_one_line() -> None:
    line = "A <fast> & quiet CPU, 8 cores, 16.0 GiB, Linux 6.18.0, Python 3.13.1, epaird 1.0"
    assert summary_line(MACHINE) == line
    assert summary_line({**MACHINE, "virtual": True}) == line.replace("cores", "cores, virtual")
