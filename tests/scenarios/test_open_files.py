"""Descriptors run out: what is there is kept, forwarded and shown, and nothing is added."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from epaird.control.machine.descriptors import BASE, WORKER
from tests.scenarios.ctl import control_socket, epairctl, refused, reload, rewrite, run_epairctl
from tests.scenarios.faults import Cable
from tests.scenarios.lab import CABLE, EPAIRD, NAMESPACES, Daemon, Lab, pair
from tests.waiting import until

pytestmark = pytest.mark.real

LIMIT = 128
NOBODY = 65534
REQUEST = 2
"""Descriptors that a request to list interfaces takes: its connection, and the namespace of a device."""
LOW = ("prlimit", f"--nofile={LIMIT}:{LIMIT}")
CLIENTS = """
import encodings.idna, socket, sys, os
path, page, count = sys.argv[1], sys.argv[2:4], int(sys.argv[4])
os.setgroups([]); os.setgid(65534); os.setuid(65534)
opened = []
for _ in range(count):
    client = socket.socket(socket.AF_UNIX); client.connect(path); opened.append(client)
    opened.append(socket.create_connection((page[0], int(page[1]))))
print("ready", flush=True)
sys.stdin.read()
"""


def open_files(daemon: Daemon) -> int:
    """Return how many descriptors a daemon has."""
    return len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))


def without_pidfds(daemon: Daemon) -> int:
    """Return how many descriptors a daemon has besides pidfds: only workers that were taken over have one."""
    found = 0
    for entry in Path(f"/proc/{daemon.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += "pidfd" not in str(entry.readlink())
    return found


def limit(daemon: Daemon, more: int, *, hard: bool = True) -> int:
    """Allow a daemon so many descriptors more than it has; return how many that are."""
    _, most = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    soft = open_files(daemon) + more
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (soft, soft if hard else most))
    return soft


def fill(cable: Cable) -> str:
    """Create pairs until that is refused; return the reason."""
    return cable.ctl_until_failure("create", "epair", times=LIMIT)


def test_devices_leave_what_workers_page_and_root_need(lab: Lab) -> None:
    cable = Cable(lab, start=functools.partial(lab.launch, wrapper=LOW))
    before, until_spare = cable.page(), cable.daemon.spares
    with cable.stream() as stream:
        assert f"of {LIMIT} are in use" in (reason := fill(cable))
        assert "too many open files" in reason
        assert "raise LimitNOFILE=" in reason
        pairs = cable.daemon.metrics().pairs()
        until(until_spare)
        os.kill(cable.daemon.worker(), signal.SIGKILL)
        cable.daemon.wait_for_log("again")
        until(until_spare)
        cable.wait_for_frames()
        assert cable.daemon.healthz() == 200
        assert cable.ctl("list").count("epair") >= 2 * len(pairs)
        row = cable.record("no descriptors left for devices, workers killed", 20_000, before, stream)
    assert row.outcome.lost == 0
    assert cable.daemon.metrics().pairs() == pairs


def test_with_every_descriptor_in_use_an_upgrade_and_an_adoption_lose_nothing(lab: Lab) -> None:
    cable = Cable(lab, start=functools.partial(lab.launch, wrapper=LOW))
    before = cable.page()
    with cable.stream() as stream:
        fill(cable)
        pairs, workers = cable.daemon.metrics().pairs(), cable.daemon.workers()
        epairctl(lab, "upgrade")
        cable.daemon.wait_for_log("upgraded to epaird")
        assert cable.daemon.metrics().pairs() == pairs
        assert set(cable.daemon.workers()).isdisjoint(workers)
        workers = cable.daemon.workers()
        cable.daemon.crash()
        cable.daemon = lab.launch_file(cable.daemon.file, LOW).wait_ready()
        assert cable.daemon.workers() == workers
        assert cable.daemon.metrics().pairs() == pairs
        row = cable.record("no descriptors left for devices, upgraded and killed", 20_000, before, stream)
    assert row.outcome.lost == 0


@pytest.mark.parametrize("more", [10, REQUEST])
def test_a_limit_that_is_lowered_costs_no_cable(lab: Lab, more: int) -> None:
    cable = Cable(lab)
    before = cable.page()
    until(cable.daemon.spares)
    with cable.stream() as stream:
        allowed = limit(cable.daemon, more)
        assert "too many open files" in refused(lab, "create", "epair")
        assert "not upgraded: " in refused(lab, "upgrade")
        until(lambda: open_files(cable.daemon) + REQUEST <= allowed)
        assert len(epairctl(lab, "list").splitlines()) == 3
        assert cable.daemon.healthz() == 200
        os.kill(cable.daemon.worker(), signal.SIGKILL)
        cable.daemon.wait_for_log("again")
        until(lambda: cable.daemon.healthz() == 200)  # to start a spare takes the rest for a moment
        cable.wait_for_frames()
        row = cable.record(f"limit of descriptors lowered to {more} more", 20_000, before, stream)
    assert row.outcome.lost == 0
    assert cable.daemon.log_lines_with("gone") == []


def test_workers_are_replaced_below_a_soft_limit(lab: Lab) -> None:
    daemon = lab.daemon(CABLE, workers=2)
    until(daemon.spares)
    limit(daemon, -5, hard=False)
    for times in (1, 2, 3, 4):
        os.kill(daemon.workers()[0], signal.SIGKILL)
        daemon.wait_for_log_lines("again", times)
    assert daemon.healthz() == 200
    # A worker keeps its limit, though that of the daemon may be raised again.
    _, most = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    for pid in daemon.workers():
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(rf"^Max open files +{most} +{most} ", limits, re.MULTILINE), limits
    daemon.stop()


def test_neither_replacements_nor_handovers_leave_descriptors_open(lab: Lab) -> None:
    cable = Cable(lab)
    until(cable.daemon.spares)
    first = without_pidfds(cable.daemon)
    assert first <= 2 + BASE + WORKER
    for times in (1, 2, 3):
        os.kill(cable.daemon.worker(), signal.SIGKILL)
        cable.daemon.wait_for_log_lines("again", times)
        until(cable.daemon.spares)
    until(lambda: without_pidfds(cable.daemon) == first)
    cable.daemon.crash()
    cable.restart()
    until(cable.daemon.spares)
    until(lambda: without_pidfds(cable.daemon) == first)
    for times in (1, 2):
        epairctl(lab, "upgrade")
        cable.daemon.wait_for_log_lines("upgraded to epaird", times)
        until(cable.daemon.spares)
        until(lambda: without_pidfds(cable.daemon) == first)


def test_idle_clients_of_other_users_lock_nobody_out(lab: Lab) -> None:
    cable = Cable(lab, start=functools.partial(lab.launch, wrapper=LOW))
    fill(cable)
    path = control_socket(lab)
    path.chmod(0o666)  # so that a client of any user takes a descriptor, as one of the group does
    for directory in (lab.directory, path.parent):
        directory.chmod(0o755)
    with lab.home.inside():
        clients = subprocess.Popen(
            [sys.executable, "-c", CLIENTS, str(path), "127.0.0.1", "9862", "200"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    try:
        assert clients.stdout is not None
        assert clients.stdout.readline() == "ready\n"
        for _ in range(3):
            assert cable.daemon.healthz() == 200
            assert epairctl(lab, "list")
        os.kill(cable.daemon.worker(), signal.SIGKILL)
        cable.daemon.wait_for_log("again")
        until(cable.daemon.spares)
        assert open_files(cable.daemon) < LIMIT
    finally:
        clients.communicate()


def test_a_start_that_needs_more_is_refused_before_anything_is_made(lab: Lab) -> None:
    text = NAMESPACES + "".join(pair(unit, queues=8) for unit in range(4))
    daemon = lab.launch(text, wrapper=LOW)
    daemon.assert_clean_exit(1)
    (line,) = daemon.log
    assert line.startswith("these interfaces need ")
    assert f" open files and {LIMIT} are allowed: raise LimitNOFILE=" in line
    checked = subprocess.run(
        [*LOW, EPAIRD, "check", str(daemon.file)], capture_output=True, text=True, check=True
    )
    assert f"note: {line}\n" in checked.stdout


def test_a_successor_that_may_have_too_few_leaves_everything_as_it_is(lab: Lab) -> None:
    cable = Cable(lab, extra="".join(f"[epair.epair{unit}]\nqueues = 8\n" for unit in (1, 2)))
    workers = cable.daemon.workers()
    cable.daemon.crash()
    few = lab.launch_file(cable.daemon.file, ("prlimit", f"--nofile={BASE + 20}:{BASE + 20}"))
    assert few.wait_exit() == 1
    (line,) = few.log
    assert "the workers keep forwarding" in line
    assert cable.daemon.workers() == workers
    cable.restart()
    assert cable.daemon.workers() == workers


def test_a_reload_that_needs_more_changes_nothing_and_one_to_fewer_is_applied(lab: Lab) -> None:
    daemon = lab.launch(CABLE + pair(1), wrapper=LOW).wait_ready()
    rewrite(daemon, CABLE + pair(2, queues=40))
    done = run_epairctl(lab, "reload")
    assert done.returncode == 1
    assert f"of {LIMIT} are in use" in done.stderr
    assert "80 are needed" in done.stderr
    assert daemon.metrics().pairs() == ["epair0", "epair1"]
    limit(daemon, 12)
    reload(daemon, CABLE)
    assert daemon.metrics().pairs() == ["epair0"]


def test_a_worker_with_a_limit_of_its_own_refuses_one_cable_in_one_line(lab: Lab) -> None:
    daemon = lab.daemon(CABLE, workers=1)
    held = {int(path.name) for path in Path(f"/proc/{daemon.worker()}/fd").iterdir()}
    _, second_free, *_ = (number for number in range(LIMIT) if number not in held)
    subprocess.run(
        ["prlimit", f"--pid={daemon.worker()}", f"--nofile={second_free}:{second_free}"],
        user=NOBODY, group=NOBODY, check=True,
    )  # fmt: skip
    line = refused(lab, "create", "epair")
    assert line.startswith("epair1")
    assert "too many open files: its worker may have" in line
    assert line.endswith("(EMFILE)")
    assert daemon.metrics().pairs() == ["epair0"]
    with lab.home.inside():
        assert not [name for _, name in socket.if_nameindex() if name.startswith("epair1")]
