"""Faults under load: whatever dies, hangs or runs short, every frame is accounted for.

Every test sends a paced stream of numbered datagrams and adds a row to the table of faults, which is printed
at the end of the run.
"""

from __future__ import annotations

import functools
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.manager import ServiceManager
from tests.scenarios.faults import Cable, ManagedDaemon, fill_up, small_disk
from tests.scenarios.hanging import hang, hang_computing
from tests.scenarios.lab import Daemon, Lab, process_name
from tests.waiting import until

pytestmark = pytest.mark.real

FAST = 50_000
NOBODY = 65534


def kill(pid: int) -> None:
    """Kill a process."""
    os.kill(pid, signal.SIGKILL)


def stop(pid: int) -> None:
    """Stop a process and never continue it."""
    os.kill(pid, signal.SIGSTOP)


@pytest.mark.parametrize(("how", "words"), [(kill, "killed"), (stop, "stopped")], ids=["killed", "stopped"])
def test_a_worker_that_is_killed_or_stopped(lab: Lab, how: Callable[[int], None], words: str) -> None:
    cable = Cable(lab)
    before = cable.page()
    with cable.stream() as stream:
        cable.wait_for_frames()
        how(cable.daemon.worker())
        cable.daemon.wait_for_log("again")
        cable.wait_for_frames()
        cable.record(f"worker {words}", 20_000, before, stream)
    assert cable.daemon.metrics().worker().restarts == 1


@pytest.mark.parametrize(
    ("how", "words"), [(hang, "hung"), (hang_computing, "hang, computing")], ids=["held", "computing"]
)
def test_a_worker_that_hangs(
    lab: Lab, how: Callable[[int], AbstractContextManager[None]], words: str
) -> None:
    cable = Cable(lab)
    before = cable.page()
    with cable.stream() as stream:
        cable.wait_for_frames()
        with how(cable.daemon.worker()):
            cable.daemon.wait_for_log("has hung")
        cable.daemon.wait_for_log("again")
        cable.wait_for_frames()
        cable.record(f"worker {words}", 20_000, before, stream)
    assert cable.page().interface("epair0a").oqdrops == 0


@pytest.mark.parametrize("how", [hang, hang_computing])
def test_an_idle_worker_that_hangs(lab: Lab, how: Callable[[int], AbstractContextManager[None]]) -> None:
    cable = Cable(lab)
    with how(cable.daemon.worker()):
        cable.daemon.wait_for_log("has hung")
    cable.daemon.wait_for_log("again")
    cable.assert_forwards()


def test_no_worker_is_killed_on_a_loaded_machine(lab: Lab) -> None:
    """Workers wait long for a processor, with frames in front of them, and none is killed for it."""
    cable = Cable(lab, workers=2)
    before, workers = cable.page(), cable.daemon.workers()
    busy = [
        lab.home.start(sys.executable, "-c", "while True: pass")
        for _ in range(4 * len(os.sched_getaffinity(0)))
    ]
    with cable.stream() as stream:
        cable.wait_for_frames(5_000)
        for each in busy:
            each.kill()
        cable.record("machine loaded", 20_000, before, stream)
    assert cable.daemon.workers() == workers
    assert not cable.daemon.log_lines_with("has hung")


def test_a_worker_that_dies_again_and_again(lab: Lab) -> None:
    cable = Cable(lab)
    before = cable.page()
    with cable.stream() as stream:
        for deaths in range(1, 4):
            cable.wait_for_frames()
            kill(cable.daemon.worker())
            cable.daemon.wait_for_log_lines("again", deaths)
        cable.wait_for_frames()
        cable.record("worker killed three times", 20_000, before, stream)
    assert len(cable.daemon.log_lines_with("again")) == 3
    assert cable.daemon.metrics().worker().restarts == 3


def test_the_control_plane_is_killed_and_started_again(lab: Lab) -> None:
    cable = Cable(lab)
    before, worker = cable.page(), cable.daemon.worker()
    with cable.stream() as stream:
        cable.wait_for_frames()
        cable.daemon.crash()
        cable.wait_for_frames()
        cable.restart()
        cable.wait_for_frames()
        cable.record("control plane killed, started again", 20_000, before, stream)
    assert cable.daemon.worker() == worker
    assert cable.daemon.metrics().worker().restarts == 0


def test_an_adopted_worker_uses_its_adopters_settings(lab: Lab) -> None:
    cable = Cable(lab)
    worker = cable.daemon.worker()
    cable.daemon.crash()
    cable.daemon.edit_file("[daemon]\n", "[daemon]\nqueue_limit = 1\norphan_timeout = 0\n")
    cable.restart()
    assert cable.daemon.worker() == worker
    kill(cable.daemon.pid)
    until(lambda: worker not in cable.daemon.workers(), cable.daemon.__repr__)
    cable.daemon.wait_exit()


@pytest.mark.parametrize("rate", [FAST])
def test_an_upgrade(lab: Lab, rate: int) -> None:
    cable = Cable(lab)
    before, worker = cable.page(), cable.daemon.worker()
    with cable.stream(rate) as stream:
        cable.wait_for_frames()
        cable.daemon.signal(signal.SIGUSR2)
        cable.daemon.wait_for_log("upgraded")
        cable.wait_for_frames()
        row = cable.record("upgrade", rate, before, stream)
    assert row.outcome.lost == 0
    assert cable.daemon.worker() != worker


def test_an_upgrade_by_command_under_many_changes(lab: Lab) -> None:
    """Cables are attached, resized and detached while the workers are renewed."""
    cable = Cable(lab, workers=2)
    before = cable.page()
    with cable.stream() as stream:
        cable.wait_for_frames()
        cable.ctl("upgrade")
        for unit in range(10, 30):
            cable.ctl("create", f"epair{unit}")
            cable.ctl("set", f"epair{unit}a", "mtu=9000")
            if unit % 2:
                cable.ctl("destroy", f"epair{unit}")
        cable.daemon.wait_for_log("upgraded")
        cable.wait_for_frames()
        row = cable.record("upgrade under changes", 20_000, before, stream)
    assert row.outcome.lost == 0
    assert len(cable.daemon.metrics().pairs()) == 11


def test_an_upgrade_to_a_program_that_cannot_run(lab: Lab) -> None:
    cable = Cable(lab)
    worker = cable.daemon.worker()
    cable.daemon.edit_file("[metrics]", "[metrix]")
    cable.daemon.signal(signal.SIGUSR2)
    cable.daemon.wait_for_log("not upgraded")
    assert cable.daemon.worker() == worker
    cable.assert_forwards()


def test_the_control_plane_is_stopped_for_a_while(lab: Lab) -> None:
    """The control plane notices that it was late itself, and does not kill its workers."""
    cable = Cable(lab)
    before, worker = cable.page(), cable.daemon.worker()
    with cable.stream() as stream:
        cable.wait_for_frames()
        cable.daemon.signal(signal.SIGSTOP)
        cable.wait_for_frames(10_000)
        cable.daemon.signal(signal.SIGCONT)
        cable.daemon.metrics()
        cable.wait_for_frames(5_000)
        row = cable.record("control plane stopped for seconds", 20_000, before, stream)
    assert row.outcome.lost == 0
    assert cable.daemon.worker() == worker


def test_a_daemon_that_keeps_its_devices_is_succeeded_by_another(lab: Lab) -> None:
    cable = Cable(lab, keep_devices=True)
    before, worker = cable.page(), cable.daemon.worker()
    with cable.stream() as stream:
        cable.wait_for_frames()
        cable.daemon.signal(signal.SIGTERM)
        assert cable.daemon.wait_exit() == 0
        cable.wait_for_frames()
        cable.daemon.edit_file("keep_devices = true", "keep_devices = false")
        cable.restart()
        cable.wait_for_frames()
        row = cable.record("stopped with keep_devices, started", 20_000, before, stream)
    assert row.outcome.lost == 0
    assert cable.daemon.worker() == worker


def test_both_the_control_plane_and_a_worker_are_killed(lab: Lab) -> None:
    """A device that no process holds any more is recreated; the other worker's device continues."""
    cable = Cable(lab, "".join(f"[epair.epair{unit}]\n" for unit in range(1, 5)), workers=2)
    before = cable.page()
    owner = int(before.interface("epair0a").worker)
    workers = {process_name(pid): pid for pid in cable.daemon.workers()}
    kept, other = workers[f"epaird-w{owner}"], workers[f"epaird-w{1 - owner}"]
    with cable.stream() as stream:
        cable.wait_for_frames()
        cable.daemon.signal(signal.SIGKILL)
        kill(other)
        cable.daemon.wait_exit()
        cable.wait_for_frames()
        cable.restart()
        recreated = {line.partition(":")[0] for line in cable.daemon.log_lines_with("its device is gone")}
        assert recreated == {
            name for name in before.pairs() if before.interface(f"{name}a").worker != str(owner)
        }
        assert recreated
        cable.wait_for_frames()
        cable.record("control plane and another worker killed", 20_000, before, stream)
    assert cable.daemon.metrics().pairs() == before.pairs()
    assert kept in cable.daemon.workers()


def test_the_spare_is_killed(lab: Lab) -> None:
    cable = Cable(lab)
    before = cable.page()
    with cable.stream() as stream:
        kill(until(cable.daemon.spares)[0])
        kill(cable.daemon.worker())
        cable.daemon.wait_for_log("again")
        cable.wait_for_frames()
        cable.record("worker killed, the spare too", 20_000, before, stream)


def test_a_worker_without_memory(lab: Lab) -> None:
    cable = Cable(lab)
    before = cable.page()
    with cable.stream() as stream:
        cable.wait_for_frames()
        limit = ["prlimit", f"--pid={cable.daemon.worker()}", "--as=1:1"]
        subprocess.run(limit, user=NOBODY, group=NOBODY, check=True)
        # The worker has no memory for the cable to attach: it ends, and its successor has
        # memory.
        for unit in range(1, 200):
            cable.ctl("create", f"epair{unit}")
            if cable.daemon.log_lines_with("again"):
                break
        cable.daemon.wait_for_log("again")
        cable.wait_for_frames()
        cable.record("worker out of memory", 20_000, before, stream)


def test_a_daemon_without_descriptors(lab: Lab) -> None:
    cable = Cable(lab)
    before = cable.page()
    with cable.stream() as stream:
        cable.wait_for_frames()
        used = len(list(Path(f"/proc/{cable.daemon.pid}/fd").iterdir()))
        _, most = resource.prlimit(cable.daemon.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(cable.daemon.pid, resource.RLIMIT_NOFILE, (used + 12, most))
        refused = cable.ctl_until_failure("create", "epair", times=20)
        assert "too many open files" in refused
        resource.prlimit(cable.daemon.pid, resource.RLIMIT_NOFILE, (most, most))
        cable.ctl("create", "epair99")
        cable.record("control plane out of descriptors", 20_000, before, stream)
    assert "epair99" in cable.daemon.metrics().pairs()


def test_a_full_disk(lab: Lab) -> None:
    """A state file that cannot be written is reported once, and written when there is room again."""
    with small_disk(lab.directory / "run", 128 << 10) as disk:
        cable = Cable(lab)
        before = cable.page()
        with cable.stream() as stream:
            filler = fill_up(disk)
            for unit in range(1, 20):
                cable.ctl("create", f"epair{unit}")
            cable.daemon.wait_for_log("a successor would not know of the last changes")
            kill(cable.daemon.worker())
            cable.daemon.wait_for_log("again")
            cable.wait_for_frames()
            filler.unlink()
            cable.daemon.wait_for_log("can be written again")
            cable.daemon.crash()
            cable.restart()
            cable.wait_for_frames()
            cable.record("disk full, a worker and the control plane killed", 20_000, before, stream)
        assert len(cable.daemon.metrics().pairs()) == 20
        cable.daemon.stop()


def test_a_clock_that_jumps(lab: Lab) -> None:
    """Nothing depends on the time of day."""
    wrapper = (sys.executable, str(Path(__file__).with_name("jumping_clock.py")))
    cable = Cable(lab, start=functools.partial(lab.launch, wrapper=wrapper))
    before, worker = cable.page(), cable.daemon.worker()
    with cable.stream() as stream:
        cable.wait_for_frames(10_000)
        cable.ctl("create", "epair1")
        cable.ctl("destroy", "epair1")
        row = cable.record("clock jumps by days", 20_000, before, stream)
    assert row.outcome.lost == 0
    assert cable.daemon.worker() == worker
    assert cable.daemon.healthz() == 200


def test_link_events_overrun(lab: Lab) -> None:
    """While the control plane is stopped, more link events occur than its netlink socket can hold."""
    cable = Cable(lab)
    before = cable.page()
    with cable.stream() as stream:
        cable.wait_for_frames()
        cable.daemon.signal(signal.SIGSTOP)
        cable.red.ip("link set eth0 alias one")
        cable.blue.ip("link set eth0 mtu 1400")
        batch = lab.directory / "batch"
        batch.write_text("".join(f"link set lo alias {number}\n" for number in range(30_000)))
        cable.red.ip(f"-batch {batch}")
        cable.daemon.signal(signal.SIGCONT)
        cable.daemon.wait_for_log("the kernel has dropped link events")
        until(lambda: cable.daemon.metrics().interface("epair0b").mtu_bytes == 1400, cable.daemon.__repr__)
        cable.wait_for_frames()
        row = cable.record("netlink overrun (ENOBUFS)", 20_000, before, stream)
    assert row.outcome.lost == 0


def test_a_start_that_fails_leaves_everything_to_the_next(lab: Lab) -> None:
    cable = Cable(lab)
    before, worker = cable.page(), cable.daemon.worker()
    with cable.stream() as stream:
        cable.wait_for_frames()
        cable.daemon.crash()
        listen = "TCP-LISTEN:9862,bind=127.0.0.1,reuseaddr,fork"
        other = lab.home.start("socat", "-d", "-d", listen, "PIPE")
        other.wait_for_output("listening")
        failed = lab.restart(cable.daemon)
        assert failed.wait_exit() == 1
        assert failed.log == ["metrics.listen: 127.0.0.1:9862 is in use by another program"]
        other.kill()
        cable.restart()
        cable.wait_for_frames()
        row = cable.record("control plane killed, a start fails", 20_000, before, stream)
    assert row.outcome.lost == 0
    assert cable.daemon.worker() == worker


def test_a_second_daemon_is_refused(lab: Lab) -> None:
    cable = Cable(lab)
    second = lab.restart(cable.daemon)
    assert second.wait_exit() == 1
    (line,) = second.log
    assert "another epaird" in line
    assert f"(pid {cable.daemon.pid})" in line
    cable.assert_forwards()


def test_workers_end_when_no_control_plane_comes(lab: Lab) -> None:
    cable = Cable(lab, orphan_timeout=1)
    cable.daemon.crash()
    until(lambda: not lab.processes("epaird"))
    cable.restart()
    cable.assert_forwards()


def test_an_orphan_that_is_stopped_is_killed_by_the_next_control_plane(lab: Lab) -> None:
    cable = Cable(lab)
    worker = cable.daemon.worker()
    stop(worker)
    cable.daemon.crash()
    cable.restart()
    assert cable.daemon.worker() != worker
    cable.assert_forwards()


def test_the_whole_service_is_killed_and_started_again(lab: Lab) -> None:
    """As under systemd, only the descriptors in the manager's store and the state file survive."""
    with ServiceManager(str(lab.directory / "notify")) as manager:

        def start(text: str, **daemon: Any) -> Daemon:  # noqa: ANN401
            started = ManagedDaemon(lab, lab.configuration(text, **daemon), manager)
            lab._daemons.append(started)
            return started

        def stored() -> set[str]:
            manager.receive_all()
            return {name for name, _ in manager.unit.stored}

        cable = Cable(lab, start=start)
        until(lambda: stored() == {"ledger", "epair0a", "epair0b"})
        before = cable.page()
        with cable.stream() as stream:
            cable.wait_for_frames()
            for pid in (cable.daemon.pid, *lab.processes("epaird.dataplane")):
                kill(pid)
            cable.daemon.wait_exit()
            until(lambda: not lab.processes("epaird"))
            cable.daemon = ManagedDaemon(lab, cable.daemon.file, manager).wait_ready()
            lab._daemons.append(cable.daemon)
            cable.wait_for_frames()
            cable.record("every process killed, service started", 20_000, before, stream)
        cable.ctl("create", "epair7")
        until(lambda: "epair7b" in stored())
        cable.ctl("destroy", "epair7")
        until(lambda: stored() == {"ledger", "epair0a", "epair0b"})
        cable.daemon.stop()
        assert stored() == set()
