"""The routes of the daemon as a whole, by curl."""

from __future__ import annotations

import errno

from epaird.control.operations import Refused
from tests.control.control_server import Control, create
from tests.control.samples import process


def test_cloners(control: Control) -> None:
    assert control.curl("/v1/cloners").json == ["epair", "lo"]


def test_statistics_are_of_one_moment_of_a_clock_that_runs(control: Control) -> None:
    create(control)
    first, second = (control.curl("/v1/stats").json for _ in range(2))
    assert second["time"] > first["time"]
    assert [each["device"] for each in first["interfaces"]] == ["epair0a", "epair0b"]
    assert first["workers"][0]["queue_limit"] == 2100


def test_the_daemon_is_upgraded(control: Control) -> None:
    assert control.curl("/v1/upgrade", "-X", "POST").status == 204
    assert control.operations.requested == [("upgrade",)]
    control.operations.fails = Refused(errno.ENOEXEC, "not upgraded: no module named epaird")
    answer = control.curl("/v1/upgrade", "-X", "POST")
    assert (answer.status, answer.json["errno"]) == (422, "ENOEXEC")


def test_workers(control: Control) -> None:
    control.operations.processes = (process("0"), process("", state="spare", pid=4712))
    first, spare = control.curl("/v1/workers").json
    assert (first["worker"], first["state"], first["pid"], first["cables"]) == ("0", "running", 4711, 3)
    assert (first["capabilities"], first["seccomp"], first["landlock"]) == ([], "filter", 7)
    assert first["namespaces"] == ["net", "mnt"]
    assert (spare["worker"], spare["state"], spare["pid"]) == ("", "spare", 4712)
