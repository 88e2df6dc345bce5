"""Adoption of a predecessor's workers: stopped, too many, too few, of older code, amid a change."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.ctl import EPAIRCTL, control_socket
from tests.scenarios.faults import Cable
from tests.scenarios.lab import Daemon, Lab, process_name
from tests.waiting import until

pytestmark = pytest.mark.real

VERSIONED = (sys.executable, str(Path(__file__).with_name("versioned_workers.py")))
OTHERS = "".join(f"[epair.epair{unit}]\n" for unit in range(1, 8))


def kill_and_restart(cable: Cable) -> None:
    """Kill the control plane and start it again."""
    cable.daemon.crash()
    cable.restart()


def upgrade(cable: Cable) -> None:
    """Upgrade the daemon by signal."""
    cable.daemon.signal(signal.SIGUSR2)
    cable.daemon.wait_for_log("upgraded to epaird")


HOW = pytest.mark.parametrize("how", [kill_and_restart, upgrade])


def owners(cable: Cable) -> dict[str, list[str]]:
    """Return the pairs of each worker."""
    page = cable.daemon.metrics()
    found: dict[str, list[str]] = {}
    for name in page.pairs():
        found.setdefault(page.interface(f"{name}a").worker, []).append(name)
    return found


def assert_only_workers(cable: Cable, workers: int) -> None:
    """Check that there are this many workers and a spare, and that no other process or socket is left."""
    until(lambda: len(cable.lab.processes("epaird.dataplane")) == workers + 1, cable.daemon.__repr__)
    names = {process_name(pid) for pid in cable.daemon.workers()}
    assert names == {f"epaird-w{number}" for number in range(workers)}
    sockets = {path.name for path in (cable.lab.directory / "run").glob("worker-*.sock")}
    assert sockets == {f"worker-{pid}.sock" for pid in cable.daemon.workers()}


def assert_not_restarted(cable: Cable) -> None:
    """Check that no worker has died."""
    page = cable.daemon.metrics()
    assert [page.worker(str(number)).restarts for number in range(2)] == [0, 0]


@HOW
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)], ids=["two, then one", "one, then two"])
def test_another_number_of_workers(lab: Lab, how: Callable[[Cable], None], before: int, after: int) -> None:
    cable = Cable(lab, OTHERS, workers=before)
    page, index = cable.page(), cable.red.links()["eth0"].index
    with cable.stream() as stream:
        cable.wait_for_frames()
        cable.daemon.edit_file(f"workers = {before}", f"workers = {after}")
        how(cable)
        cable.wait_for_frames()
        row = cable.record(f"{how.__name__}: {before} workers, then {after}", 20_000, page, stream)
    assert row.outcome.lost == 0
    assert cable.red.links()["eth0"].index == index
    assert {number: len(names) for number, names in owners(cable).items()} == {
        str(number): 8 // after for number in range(after)
    }
    assert_only_workers(cable, after)


@HOW
def test_workers_of_older_code(lab: Lab, how: Callable[[Cable], None]) -> None:
    """A message that such a worker does not know would end it."""
    wrapper = (sys.executable, str(Path(__file__).with_name("older_workers.py")))
    start = functools.partial(lab.launch, wrapper=wrapper)
    # Without a worker timeout it gets no Ping either.
    cable = Cable(lab, OTHERS, start=start, workers=2, worker_timeout=0)
    before, older = cable.page(), set(cable.daemon.workers())
    with cable.stream() as stream:
        cable.wait_for_frames()
        how(cable)
        cable.wait_for_frames()
        row = cable.record(f"{how.__name__}: workers of older code", 20_000, before, stream)
    assert row.outcome.lost == 0
    assert older.isdisjoint(cable.daemon.workers())
    assert_only_workers(cable, 2)
    assert_not_restarted(cable)
    assert not cable.daemon.log_lines_with(") ended:")


def test_workers_of_newer_code_are_adopted_and_renewed(lab: Lab) -> None:
    """After a rollback, unknown fields and messages are ignored until the worker is renewed."""
    wrapper = (sys.executable, str(Path(__file__).with_name("newer_workers.py")))
    start = functools.partial(lab.launch, wrapper=wrapper)
    cable = Cable(lab, OTHERS, start=start, workers=2)
    before, newer = cable.page(), set(cable.daemon.workers())
    with cable.stream() as stream:
        cable.wait_for_frames()
        kill_and_restart(cable)
        assert cable.daemon.log_lines_with(", 2 of 2 workers")
        cable.daemon.wait_for_log_lines("is renewed", 2)
        cable.wait_for_frames()
        row = cable.record("killed: workers of newer code", 20_000, before, stream)
    assert row.outcome.lost == 0
    assert newer.isdisjoint(cable.daemon.workers())
    assert_only_workers(cable, 2)
    assert_not_restarted(cable)


@pytest.mark.parametrize("queues", [1, 2], ids=["one queue", "two queues"])
@pytest.mark.parametrize("version", ["0.3.9", "undescribed"])
def test_workers_of_another_version_are_renewed_without_an_upgrade(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, version: str, queues: int
) -> None:
    """A service that is started again takes them over, as after a crash in the middle of an upgrade."""
    monkeypatch.setenv("EPAIRD_WORKERS", version)

    def start(text: str, **daemon: Any) -> Daemon:  # noqa: ANN401
        text = text.replace("[epair.epair0]\n", f"[epair.epair0]\nqueues = {queues}\n")
        return lab.launch(text, wrapper=VERSIONED, **daemon)

    cable = Cable(lab, OTHERS, start=start, workers=2)
    before, other = cable.page(), set(cable.daemon.workers())
    with cable.stream() as stream:
        cable.wait_for_frames()
        kill_and_restart(cable)
        cable.daemon.wait_for_log_lines("is renewed", 2)
        cable.wait_for_frames()
        row = cable.record(f"killed: workers of {version}", 20_000, before, stream)
    assert row.outcome.lost == 0
    assert other.isdisjoint(cable.daemon.workers())
    reported = "0.3.0 or older" if version == "undescribed" else version
    for number in range(2):
        (line,) = cable.daemon.log_lines_with(f"worker {number} is renewed")
        assert line.endswith(f": its process was of epaird {reported}")
    assert_only_workers(cable, 2)
    assert_not_restarted(cable)


def test_an_upgrade_that_is_cut_is_completed_by_the_successor(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control plane is killed when one worker is renewed and the other is not."""
    monkeypatch.setenv("EPAIRD_WORKERS", "0.3.9")
    monkeypatch.setenv("EPAIRD_CUT_RENEWAL", "1")
    start = functools.partial(lab.launch, wrapper=VERSIONED)
    cable = Cable(lab, OTHERS, start=start, workers=2)
    before = cable.page()
    with cable.stream() as stream:
        cable.wait_for_frames()
        cable.daemon.signal(signal.SIGUSR2)
        cable.daemon.wait_exit()
        halfway = {process_name(pid): pid for pid in cable.daemon.workers()}
        cable.restart()
        cable.daemon.wait_for_log("is renewed")
        cable.wait_for_frames()
        row = cable.record("killed amid an upgrade", 20_000, before, stream)
    assert row.outcome.lost == 0
    assert_only_workers(cable, 2)
    after = {process_name(pid): pid for pid in cable.daemon.workers()}
    assert after["epaird-w0"] == halfway["epaird-w0"]
    assert after["epaird-w1"] != halfway["epaird-w1"]
    (line,) = cable.daemon.log_lines_with("is renewed")
    assert line.endswith(": its process was of epaird 0.3.9")
    assert_not_restarted(cable)


def test_an_adopted_worker_that_is_stopped(lab: Lab) -> None:
    """An adopted worker is no child of the daemon, so no SIGCHLD reports the stop."""
    cable = Cable(lab)
    before = cable.page()
    kill_and_restart(cable)
    with cable.stream() as stream:
        cable.wait_for_frames()
        os.kill(cable.daemon.worker(), signal.SIGSTOP)
        cable.daemon.wait_for_log("is stopped")
        cable.daemon.wait_for_log("again")
        cable.wait_for_frames()
        cable.record("adopted worker stopped", 20_000, before, stream)
    assert cable.daemon.metrics().worker().restarts == 1


@pytest.mark.parametrize("timeout", [3, 0], ids=["watchdog", "no watchdog"])
def test_an_adopted_worker_that_stops_amid_the_adoption(lab: Lab, timeout: int) -> None:
    """It has reported its cables, and answers no request after that."""
    cable = Cable(lab, OTHERS, workers=2, worker_timeout=timeout)
    before = cable.page()
    wrapper = (sys.executable, str(Path(__file__).with_name("stopping.py")))
    with cable.stream(1000) as stream:
        cable.wait_for_frames()
        cable.daemon.crash()
        cable.daemon = lab.launch_file(cable.daemon.file, wrapper).wait_ready()
        cable.wait_for_frames()
        cable.record("adopted worker stopped amid adoption", 1000, before, stream)
    assert_only_workers(cable, 2)


def test_a_device_without_a_worker_is_not_lost(lab: Lab) -> None:
    """The control plane is killed in the middle of patching, when one worker has detached the half."""
    cable = Cable(lab, OTHERS, workers=2, worker_timeout=0)
    before = {**lab.home.links("tun"), **cable.red.links("tun"), **cable.blue.links("tun")}
    found = owners(cable)
    (other,) = [number for number, names in found.items() if "epair0" not in names]
    pids = {process_name(pid): pid for pid in cable.daemon.workers()}
    os.kill(pids[f"epaird-w{other}"], signal.SIGSTOP)
    patch = (EPAIRCTL, "--socket", str(control_socket(lab)), "patch", "--force")
    with subprocess.Popen([*patch, "epair0a", f"{found[other][0]}b"], stderr=subprocess.DEVNULL) as patching:
        # The first worker has detached the half; the other one, stopped, never answers.
        until(lambda: cable.daemon.metrics().interface("epair0a").worker == "", cable.daemon.__repr__)
        cable.daemon.crash()
        patching.wait()
    os.kill(pids[f"epaird-w{other}"], signal.SIGCONT)
    cable.restart()
    assert not cable.daemon.log_lines_with("is gone")
    after = {**lab.home.links("tun"), **cable.red.links("tun"), **cable.blue.links("tun")}
    assert {name: link.index for name, link in after.items()} == {
        name: link.index for name, link in before.items()
    }
    cable.ctl("patch", "--force", "epair0a", "epair0b")
    cable.assert_forwards()
    cable.page()
    for pid in cable.daemon.workers():
        devices = [each.readlink() for each in Path(f"/proc/{pid}/fd").iterdir()]
        names = owners(cable)[process_name(pid).removeprefix("epaird-w")]
        assert sum("tun" in str(each) for each in devices) == 2 * len(names)
