"""The workers of a running daemon in their sandbox, and what one could do with the control socket."""

from __future__ import annotations

import errno
import json
import signal
import socket
import subprocess
import sys

import pytest

from tests.scenarios.ctl import control_socket, epairctl
from tests.scenarios.lab import CABLE, NAMESPACES, Lab, pair
from tests.scenarios.transfers import BLUE, ping
from tests.waiting import until

pytestmark = pytest.mark.real

CONNECT = """
import json, os, socket, sys
from epaird.dataplane.sandbox import Sandbox
from epaird.kernel import isolation, privileges
# As under the service: the control plane's own user, and its files.
isolation.KINDS = {}
privileges._change_user = lambda: ""
sandbox = Sandbox()
sandbox.prepare()
given = socket.socket(socket.AF_UNIX)
if sys.argv[2] == "closed":
    sandbox.close()
answers = []
for attempt in (socket.socket, lambda: given.connect(sys.argv[1])):
    try:
        attempt()
        answers.append(0)
    except OSError as error:
        answers.append(error.errno)
os.write(1, json.dumps(answers).encode())
os._exit(0)
"""


def connects(lab: Lab, sandbox: str) -> list[int]:
    """Try to make a socket, and to connect one that exists, as the daemon's own user; return each errno."""
    command = [sys.executable, "-c", CONNECT, str(control_socket(lab)), sandbox]
    found: list[int] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def test_a_worker_cannot_connect_to_the_control_socket_even_as_the_daemons_own_user(lab: Lab) -> None:
    lab.daemon(CABLE)
    with socket.socket(socket.AF_UNIX) as allowed:
        allowed.connect(str(control_socket(lab)))
    assert connects(lab, "open") == [0, 0]
    assert connects(lab, "closed") == [errno.EPERM, errno.EPERM]


def test_epairctl_shows_every_process_with_its_sandbox_and_cables(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + pair(0) + pair(1) + pair(2), workers=2)

    def processes() -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(epairctl(lab, "workers", "-j"))
        return found

    until(lambda: [each["state"] for each in processes()] == ["running", "running", "spare"])
    until(lambda: all(each["version"] for each in processes()))
    seen = processes()
    assert [each["pid"] for each in seen[:2]] == daemon.workers()
    assert sum(int(str(each["cables"])) for each in seen) == 3
    for each in seen:
        assert (each["uid"], each["capabilities"], each["seccomp"]) == (65534, [], "filter")
        assert each["namespaces"] == ["net", "ipc", "uts", "cgroup", "mnt"]
    heading, *rows = epairctl(lab, "workers").splitlines()
    assert heading.startswith("WORKER  STATE    PID")
    assert len(rows) == 3 + len({str(layer) for each in seen for layer in each["missing"]})  # type: ignore[attr-defined]


def test_an_adopted_worker_reports_its_sandbox_to_the_successor(lab: Lab) -> None:
    daemon = lab.daemon(CABLE, workers=1)
    worker = daemon.worker()
    daemon.signal(signal.SIGKILL)
    daemon.wait_exit()
    successor = lab.daemon(CABLE, workers=1)
    assert successor.worker() == worker
    (seen, *_) = json.loads(epairctl(lab, "workers", "-j"))
    assert (seen["pid"], seen["cables"]) == (worker, 1)
    assert seen["version"]
    assert seen["landlock"] is not None
    ping(lab["red"], BLUE)
