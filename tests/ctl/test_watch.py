"""Counters, rates and events, by the real epairctl."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.control.control_server import serving
from tests.ctl.epairctl import Cli
from tests.waiting import DEADLINE_S, until


def test_stats(pair: Cli) -> None:
    first, *rows = pair.output("stats").splitlines()
    assert first.split() == [
        "NAME", "ipackets", "ibytes", "imcasts", "ierrors", "opackets", "obytes", "omcasts", "oerrors",
        "oqdrops",
    ]  # fmt: skip
    assert [row.split() for row in rows] == [[name, *"000000000"] for name in ("epair0a", "epair0b", "lo1")]
    assert [line.split()[0] for line in pair.output("stats", "epair0b", "lo1").splitlines()] == [
        "NAME", "epair0b", "lo1",
    ]  # fmt: skip
    assert pair.fails("stats", "nix") == 'there is no interface "nix" (ENXIO)'


def test_stats_watched_are_repeated_rates(pair: Cli) -> None:
    process = pair.start("stats", "-w", "-i", "0.1", "epair0a")
    assert process.stdout is not None
    for _ in range(3):
        heading, row, *line = (process.stdout.readline().split() for _ in range(4))
        assert heading[:3] == ["NAME", "ipackets/s", "ibit/s"]
        assert row == ["epair0a", *"0000000"]
        assert line[0][:3] == ["IMPAIRED", "delay", "late"]
        assert line[1][:3] == ["epair0a", "100ms", "-"]
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE_S) == 130
    assert process.communicate()[1].strip() == ""


def test_watched_stats_as_json_have_the_impairment(pair: Cli) -> None:
    process = pair.start("-j", "stats", "-w", "-i", "0.1", "epair0a")
    assert process.stdout is not None
    found = json.loads(process.stdout.readline())["epair0a"]
    assert (found["opackets"], found["impairment"]["delay_seconds"]) == (0, 0.1)
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("options", "expected"),
    [((), "epair0 created"), (("-br",), "epair0 created"), (("-j",), '"what": "created"')],
)
def test_monitor(cli: Cli, options: tuple[str, ...], expected: str) -> None:
    process = cli.start("monitor", *options)
    until(lambda: cli.operations.readers)
    cli.output("create", "epair")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert expected in line
    assert "\x1b" not in line
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE_S) == 130
    assert process.communicate()[1].strip() == ""


def test_monitor_reports_the_daemons_end(tmp_path: Path) -> None:
    with serving(tmp_path / "control.sock") as control:
        process = Cli(control).start("monitor")
        until(lambda: control.operations.readers)
    assert process.wait(DEADLINE_S) == 1
    assert process.communicate() == ("", "epairctl: the daemon has ended\n")
