"""A daemon that watches its file, which others write, empty and link."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kernel.files import exchange, relink
from tests.scenarios.lab import CABLE, Daemon, Lab
from tests.waiting import until

pytestmark = pytest.mark.real


def reloads(daemon: Daemon, result: str = "success") -> float:
    return daemon.metrics().value("epaird_config_reloads_total", result=result)


def reads(daemon: Daemon, mtu: int, count: int) -> None:
    """Wait until a half has this MTU, which took ``count`` reloads since the start."""
    until(lambda: daemon.lab.home.links()["epair5a"].mtu == mtu, daemon.__repr__)
    until(lambda: reloads(daemon) == count, daemon.__repr__)


def text(mtu: int) -> str:
    return f"[epair.epair5.a]\nmtu = {mtu}\n"


def test_each_other_text_is_applied_once_however_it_comes_to_the_path(lab: Lab) -> None:
    releases = {}
    for number, mtu in (("r1", 1401), ("r2", 1402), ("r3", 1403)):
        releases[number] = lab.directory / number
        releases[number].mkdir()
        lab.configuration(text(mtu), watch=True).rename(releases[number] / "file")
    current, etc = lab.directory / "current", lab.directory / "etc"
    etc.mkdir()
    current.symlink_to("r1")
    file = etc / "file"
    file.symlink_to("../current/file")
    daemon = lab.launch_file(file).wait_ready()
    relink(current, "r2")
    reads(daemon, 1402, 1)
    file.unlink()
    file.symlink_to(releases["r3"] / "file")
    reads(daemon, 1403, 2)
    exchange(releases["r1"], releases["r3"])
    reads(daemon, 1401, 3)
    file.unlink()
    os.link(releases["r2"] / "file", file)
    reads(daemon, 1402, 4)
    relink(current, "r3")  # off the path
    lab.configuration(text(1404), watch=True).replace(releases["r3"] / "file")
    (releases["r2"] / "file").write_text(lab.configuration(text(1405), watch=True).read_text())
    reads(daemon, 1405, 5)
    assert reloads(daemon, "failure") == 0


def test_a_file_that_is_emptied_or_removed_takes_nothing_down(lab: Lab) -> None:
    daemon = lab.daemon(CABLE + text(1400), watch=True)
    whole, index = daemon.file.read_text(), lab["red"].links()["eth0"].index
    daemon.file.write_text("")
    daemon.wait_for_log("is empty: the configuration in force stays, the watch goes on")
    daemon.file.unlink()
    daemon.wait_for_log("no such file or directory: the configuration in force stays")
    daemon.file.write_text(whole)
    daemon.wait_for_log("has the same text as before again")
    assert lab["red"].links()["eth0"].index == index
    with daemon.file.open("w") as steps:  # as a slow program writes
        for line in whole.replace("1400", "1406").splitlines(keepends=True):
            steps.write(line)
            steps.flush()
    reads(daemon, 1406, 1)
    assert reloads(daemon, "failure") == 0
    assert lab["red"].links()["eth0"].index == index


def test_a_path_that_is_no_regular_file_is_refused_at_once(lab: Lab) -> None:
    fifo = Path(lab.directory / "fifo")
    os.mkfifo(fifo)
    daemon = lab.launch_file(fifo)
    assert daemon.wait_exit() == 1
    assert daemon.log == [f"{fifo}: is not a regular file"]
