"""The command that shows worker processes, and its parts."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from epaird.client.workers import WorkerInfo
from epaird.control.api import views
from epaird.ctl.workers import HEADINGS, age, lacking, row, share
from tests.control.samples import process
from tests.ctl.epairctl import Cli

RUNNING = views.process(process("0"))


def test_the_table(cli: Cli) -> None:
    lack = "mnt namespace: not permitted"
    cli.operations.processes = (
        process("0", queue_frames=12),
        process("1", state="dead", pid=None),
        process("", state="spare", pid=4712, landlock=None, version="", missing=(lack,)),
    )
    heading, first, dead, spare, missing = cli.output("workers", "-i", "0.1").splitlines()
    assert tuple(heading.split()) == HEADINGS
    assert first.split() == [
        "0", "running", "4711", "nobody", "none", "filter", "7", "net,mnt", "3", "12/2100", "0.8", "61.2",
        "3m20s", "0.4.0",
    ]  # fmt: skip
    assert dead.split() == ["1", "dead", *["-"] * 12]
    assert spare.split()[:8] == ["-", "spare", "4712", "nobody", "none", "filter", "?", "net,mnt"]
    assert missing == f"missing: {lack} (pid 4712)"


def test_other_forms(cli: Cli) -> None:
    cli.operations.processes = (process("0"),)
    (found,) = json.loads(cli.output("workers", "-j", "-i", "0.1"))
    assert (found["pid"], found["seccomp"], found["cpu_percent"]) == (4711, "filter", 0.8)
    assert found.keys() == {*vars(RUNNING), "cpu_percent"}
    assert cli.output("-br", "workers", "-i", "0.1").splitlines()[1].split() == [
        "0", "running", "4711", "3", "0/2100", "0.8",
    ]  # fmt: skip
    (line,) = cli.output("-o", "workers", "-i", "0.1").splitlines()
    assert line.startswith("worker=0 state=running pid=4711 user=nobody capabilities=none seccomp=filter")


def test_the_share_of_a_processor_is_that_of_the_interval() -> None:
    later = replace(RUNNING, cpu_seconds=RUNNING.cpu_seconds + 0.25, age_seconds=RUNNING.age_seconds + 0.5)
    assert share(RUNNING, later) == 50.0
    assert share(None, RUNNING) == 0.8
    assert share(RUNNING, RUNNING) == 0.8
    # Another process has been given the pid.
    assert share(replace(RUNNING, age_seconds=9999.0), RUNNING) == 0.8
    assert share(None, WorkerInfo("0", "dead")) is None


def test_many_capabilities_are_counted() -> None:
    some = ["net_admin", "sys_admin"]
    assert row(replace(RUNNING, capabilities=some), None)["CAPABILITIES"] == "net_admin,sys_admin"
    assert row(replace(RUNNING, capabilities=[str(each) for each in range(40)]), None)["CAPABILITIES"] == "40"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.4, "0s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"), (3600, "1h00m"), (86399, "23h59m"),
        (187200, "2d04h"),
    ],
)  # fmt: skip
def test_an_age_has_two_units(seconds: float, shown: str) -> None:
    assert age(seconds) == shown


def test_a_layer_that_several_lack_is_printed_once() -> None:
    lacks = replace(RUNNING, missing=["Landlock: no"])
    assert lacking([lacks, RUNNING, replace(lacks, pid=1)]) == ["missing: Landlock: no (pid 4711, 1)"]
