"""A worker process: small, unprivileged and responsive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from epaird.kernel.scheduling import LONG_NS
from tests.scenarios.lab import CABLE, NAMESPACES, Lab, pair
from tests.scenarios.transfers import BLUE, ping
from tests.scheduling import needs_slices, slice_ns
from tests.waiting import until

pytestmark = pytest.mark.real

IPC = (
    "channel", "counters", "encoding", "impairment", "ledger", "linecounters", "messages", "ring",
    "ringchanges", "ringfile", "ringsoundness", "settlement",
)  # fmt: skip
KERNEL = (
    "abi", "errors", "isolation", "landlock", "privileges", "scheduling", "seccomp", "syscalls", "timerfd",
)  # fmt: skip
RESIDENT_MAX_KB = 26_000
NOBODY = "65534"


def status(pid: int) -> dict[str, list[str]]:
    """Return the fields of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: values.split() for name, _, values in (line.partition(":") for line in lines)}


def imported(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter has after a statement."""
    code = f"{statement}; import sys; print(*sys.modules)"
    command = [sys.executable, "-I", "-c", code]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def test_it_imports_what_forwarding_needs_and_nothing_else() -> None:
    found = imported("import epaird.dataplane.__main__") - imported("pass")
    packages = {name.partition(".")[0] for name in found} - sys.stdlib_module_names
    assert {each for each in packages if "cython" not in each} == {"epaird", "uvloop"}  # uvloop is Cython's
    own = {name for name in found if name.startswith("epaird.") and not name.startswith("epaird.dataplane")}
    allowed = {"epaird.ipc", *(f"epaird.ipc.{each}" for each in IPC)}
    allowed |= {"epaird.kernel", *(f"epaird.kernel.{each}" for each in KERNEL)}
    assert own <= allowed


def test_it_has_no_privilege_and_cannot_gain_one(lab: Lab) -> None:
    daemon = lab.daemon(CABLE, workers=2)
    assert len(daemon.workers()) == 2
    for pid in daemon.workers():
        about = status(pid)
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(about[kind][0], 16) == 0, kind
        assert about["NoNewPrivs"] == ["1"]
        assert about["Uid"] == about["Gid"] == [NOBODY] * 4
        assert about["Threads"] == ["1"]


@needs_slices
def test_the_control_plane_has_longer_slices_than_workers(lab: Lab) -> None:
    daemon = lab.daemon(CABLE, workers=2)
    assert [slice_ns(pid) for pid in daemon.workers()] == [slice_ns()] * 2
    assert slice_ns(daemon.pid) == LONG_NS > slice_ns()


def test_it_has_the_descriptors_of_its_own_cables_only(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + pair(0) + pair(1) + pair(2), workers=2)
    page = daemon.metrics()
    owners = [page.interface(f"{each}a").worker for each in page.pairs()]
    devices = []
    for pid in daemon.workers():
        links = [each.readlink().name for each in Path(f"/proc/{pid}/fd").iterdir()]
        devices.append(links.count("tun"))
    assert sorted(devices) == sorted(2 * owners.count(worker) for worker in ("0", "1"))


def test_a_new_worker_is_small(lab: Lab) -> None:
    daemon = lab.daemon(CABLE, workers=1)
    assert int(status(daemon.worker())["VmRSS"][0]) < RESIDENT_MAX_KB


def test_its_command_line_differs_from_the_control_planes(lab: Lab) -> None:
    daemon = lab.daemon(CABLE, workers=1)
    command = Path(f"/proc/{daemon.worker()}/cmdline").read_bytes().split(b"\0")
    assert command[1:4] == [b"-I", b"-m", b"epaird.dataplane"]


def test_a_terminals_signals_do_not_touch_it(lab: Lab) -> None:
    daemon = lab.daemon(CABLE, workers=1)
    worker = daemon.worker()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(worker, number)
    ping(lab["red"], BLUE)
    assert daemon.worker() == worker


def test_it_ends_with_the_control_plane_without_an_orphan_timeout(lab: Lab) -> None:
    daemon = lab.daemon(CABLE, workers=2, orphan_timeout=0)
    daemon.signal(signal.SIGKILL)
    until(lambda: not lab.processes("epaird"))


def test_health_depends_on_every_workers_loop(lab: Lab) -> None:
    daemon = lab.daemon(CABLE, workers=2)
    assert daemon.get("/healthz") == (200, b"ok\n")
    stopped = daemon.workers()[0]
    os.kill(stopped, signal.SIGSTOP)
    until(lambda: stopped not in daemon.workers())
    until(lambda: daemon.healthz() == 200)
    ping(lab["red"], BLUE)
    daemon.at_rest()


def test_processes_sleep_with_a_hundred_idle_pairs(lab: Lab) -> None:
    daemon = lab.daemon("".join(f"[epair.epair{unit}]\n" for unit in range(100)))
    assert len(daemon.metrics().devices()) == 200
    daemon.at_rest()
    daemon.assert_sleeps()
