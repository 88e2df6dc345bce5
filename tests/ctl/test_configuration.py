"""epairctl plan, reload --dry-run and save: the configuration as a whole."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

from epaird.plan.actions import Action, Detail
from tests.ctl.epairctl import EPAIRCTL, Cli
from tests.waiting import DEADLINE_S

PLANNED = (
    Action("create", "epair", "epair1", (Detail("a.mtu", "", "9000"),)),
    Action("recreate", "epair", "epair2", (Detail("queues", "1", "2", "cannot change in place: so it is"),)),
)


def test_a_plan_reads_as_terraforms_and_its_status_is_2_with_changes(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "new.toml"
    file.write_text("[epair.epair0]\n")
    done = cli.run("plan", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Nothing to do: everything is as the configuration says.\n"
    reloads = cli.control.reloads
    assert reloads.requested == [("plan", "[epair.epair0]\n", str(file))]
    reloads.actions = PLANNED
    for arguments, status in ((("plan", str(file)), 2), (("reload", "--dry-run"), 2), (("reload",), 0)):
        done = cli.run(*arguments)
        assert (done.returncode, done.stderr) == (status, "")
        assert done.stdout.splitlines() == [
            "  + epair1", "      a.mtu = 9000",
            "-/+ epair2", "      queues: 1 -> 2  # cannot change in place: so it is",
            "", "Plan: 1 to create, 0 to change, 1 to recreate, 0 to destroy.",
        ]  # fmt: skip
    assert json.loads(cli.run("-j", "plan", str(file)).stdout)["changes"] is True
    assert reloads.requested[2:4] == [("reload", True), ("reload", False)]


def test_each_error_in_a_file_is_a_line(cli: Cli, tmp_path: Path) -> None:
    cli.control.reloads.problems = ("a.b: is wrong", "c: too")
    (tmp_path / "x").write_text("")
    for arguments in (["plan", str(tmp_path / "x")], ["reload"], ["reload", "--dry-run"]):
        done = cli.run(*arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.splitlines() == ["epairctl: a.b: is wrong", "epairctl: c: too"]
    assert cli.fails("plan", str(tmp_path / "none")) == f"{tmp_path}/none: No such file or directory"
    (tmp_path / "x").write_bytes(b"\xff")
    assert cli.fails("plan", str(tmp_path / "x")) == f"{tmp_path}/x: not UTF-8 text"


def test_on_a_terminal_a_plan_is_in_colours(cli: Cli) -> None:
    cli.control.reloads.actions = PLANNED
    controller, terminal = pty.openpty()
    done = subprocess.run(
        [EPAIRCTL, "reload"], env=cli.environment | {"TERM": "xterm-256color"}, stdout=terminal,
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    os.close(terminal)
    assert done.returncode == 0
    assert b"\x1b[32m  + epair1" in os.read(controller, 65536)
    os.close(controller)


def test_save_prints_toml(cli: Cli) -> None:
    assert cli.output("save") == "# r\u00e9d\n[epair.epair0]\n"
