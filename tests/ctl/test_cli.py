"""The real epairctl against the API on a control socket, over operations without interfaces."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from epaird import __version__
from tests.control.control_server import serving
from tests.ctl.epairctl import EPAIRCTL, Cli
from tests.waiting import DEADLINE_S, until

# Commands


def test_create_prints_the_name_that_was_made(cli: Cli) -> None:
    assert cli.says("create", "epair") == "epair0\n"
    assert cli.says("create", "epair7") == "epair7\n"
    assert cli.says("create", "lo1") == "lo1\n"
    assert json.loads(cli.says("create", "-j", "epair")) == {"name": "epair1"}


def test_create_takes_settings_as_words_and_as_options(cli: Cli) -> None:
    cli.says("create", "epair", "-o", "a.mtu=9000", "-o", "queues=2", "a.netns=red", "b.up=false")
    assert cli.operations.asked == [
        ("create", "epair0", {"a": {"mtu": 9000, "netns": "red"}, "queues": 2, "b": {"up": False}})
    ]


def test_destroy_takes_any_of_the_names(pair: Cli) -> None:
    assert pair.says("destroy", "epair0b", "lo1") == ""
    assert pair.says("list").splitlines()[1:] == []


def test_destroy_goes_on_behind_one_that_is_not_there(pair: Cli) -> None:
    assert pair.fails("destroy", "epair0", "nix", "lo1") == "nix: there is no such interface (ENXIO)"
    assert pair.operations.interfaces == {}


def test_list(pair: Cli) -> None:
    assert pair.says("list").splitlines() == [
        "NAME     STATE  PEER     MTU   MAC                DEVICE   NETNS  WORKER",
        "epair0a  up     epair0b  1500  02:5d:11:22:33:0a  epair0a  -      0",
        "epair0b  up     epair0a  1500  02:5d:11:22:33:0a  epair0b  -      0",
        "lo1      up     -        1500  02:5d:11:22:33:0a  lo1      -      0",
    ]
    assert [line.split()[0] for line in pair.says("list", "lo").splitlines()] == ["NAME", "lo1"]


def test_show(pair: Cli) -> None:
    shown = pair.says("show", "epair0").splitlines()
    assert [line for line in shown if not line.startswith(" ")] == [
        "epair0a: <UP,LOWER_UP> mtu 1500 state up",
        "epair0b: <UP,LOWER_UP> mtu 1500 state up",
    ]
    assert "    in:  0 packets, 0 bytes, 0 multicast" in shown
    assert len(pair.says("show", "epair0b").splitlines()) == len(shown) / 2


def test_set(pair: Cli) -> None:
    assert pair.says("set", "epair0a", "mtu=9000", "up=false") == ""
    assert pair.operations.asked[-1] == ("change", "epair0a", {"mtu": 9000, "up": False})
    assert pair.says("show", "epair0a").startswith("epair0a: <LOWER_UP> mtu 9000 state down\n")


def test_stats(pair: Cli) -> None:
    first, *rows = pair.says("stats").splitlines()
    assert first.split() == [
        "NAME", "ipackets", "ibytes", "imcasts", "ierrors", "opackets", "obytes", "omcasts", "oerrors",
        "oqdrops",
    ]  # fmt: skip
    assert [row.split() for row in rows] == [[name, *"000000000"] for name in ("epair0a", "epair0b", "lo1")]
    assert [line.split()[0] for line in pair.says("stats", "epair0b", "lo1").splitlines()] == [
        "NAME", "epair0b", "lo1",
    ]  # fmt: skip
    assert pair.fails("stats", "nix") == "nix: there is no such interface (ENXIO)"


def test_stats_watched_are_rates_again_and_again(pair: Cli) -> None:
    process = pair.start("stats", "-w", "-i", "0.1", "epair0a")
    assert process.stdout is not None
    for _ in range(3):
        heading, row = process.stdout.readline().split(), process.stdout.readline().split()
        assert heading[:3] == ["NAME", "ipackets/s", "ibit/s"]
        assert row == ["epair0a", *"0000000"]
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE_S) == 130
    assert process.communicate()[1].strip() == ""


def test_cloners(cli: Cli) -> None:
    assert cli.says("cloners") == "epair lo\n"
    assert json.loads(cli.says("cloners", "-j")) == ["epair", "lo"]


def test_patch_and_unpatch(pair: Cli) -> None:
    line = pair.fails("patch", "epair0a", "epair0b")
    assert line == "epair0b: is plugged into another, --force takes it from there (EBUSY)"
    assert pair.says("patch", "epair0a", "epair0b", "--force") == ""
    assert pair.says("unpatch", "epair0a") == ""
    assert pair.operations.asked[-2:] == [("patch", "epair0a", "epair0b", True), ("unpatch", "epair0a")]
    assert pair.fails("patch", "lo1", "epair0a") == "lo1: a loopback has no peer (ENODEV)"
    assert pair.fails("patch", "epair0a", "epair0a") == "epair0a: cannot be its own peer (EINVAL)"


@pytest.mark.parametrize(
    ("options", "expected"),
    [((), "epair0 created"), (("-br",), "epair0 created"), (("-j",), '"what": "created"')],
)
def test_monitor(cli: Cli, options: tuple[str, ...], expected: str) -> None:
    process = cli.start("monitor", *options)
    until(lambda: cli.operations.readers)
    cli.says("create", "epair")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert expected in line
    assert "\x1b" not in line
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE_S) == 130
    assert process.communicate()[1].strip() == ""


def test_monitor_tells_the_daemons_end(tmp_path: Path) -> None:
    with serving(tmp_path / "control.sock") as control:
        process = Cli(control).start("monitor")
        until(lambda: control.operations.readers)
    assert process.wait(DEADLINE_S) == 1
    assert process.communicate() == ("", "epairctl: the daemon has ended\n")


def test_version_and_help(cli: Cli) -> None:
    assert cli.says("--version") == f"epairctl {__version__}\n"
    commands = [
        "create",
        "destroy",
        "list",
        "show",
        "set",
        "stats",
        "cloners",
        "monitor",
        "patch",
        "unpatch",
        "completion",
    ]
    for arguments in ((), ("-h",), ("--help",)):
        text = cli.says(*arguments)
        assert "EPAIRD_SOCKET" in text
        assert "completion" in text
        assert all(f"\n  {command} " in text for command in commands)
        assert "..." not in text.partition("Commands:")[2]
    for command in commands:
        assert cli.says(command, "--help").startswith(f"Usage: epairctl {command} ")


# Options after those of ip


@pytest.mark.parametrize("before", [True, False])
def test_options_stand_before_the_command_or_behind_it(pair: Cli, before: bool) -> None:
    def says(command: str, *options: str) -> str:
        return pair.says(*options, *command.split()) if before else pair.says(*command.split(), *options)

    assert [each["device"] for each in json.loads(says("list", "-j"))] == ["epair0a", "epair0b", "lo1"]
    assert says("list", "-j").count("\n") == 1
    assert says("list", "-j", "-p").count("\n") > 10
    assert says("list", "-jp") == says("list", "--json", "--pretty")
    assert says("list", "-br").splitlines() == [
        "epair0a  UP  02:5d:11:22:33:0a  epair0a",
        "epair0b  UP  02:5d:11:22:33:0a  epair0b",
        "lo1      UP  02:5d:11:22:33:0a  lo1",
    ]
    assert says("show epair0", "-o").count("\n") == 2
    assert says("show epair0", "-o").startswith("epair0a: <UP,LOWER_UP> mtu 1500 state up\\    ether 02:")
    assert says("list", "-o").count("\n") == 3
    assert says("stats epair0a", "-o").startswith("epair0a ipackets=0 ibytes=0 ")
    assert says("stats epair0a", "-br").split("\n")[0].split() == [
        "NAME", "ipackets", "ibytes", "opackets", "obytes",
    ]  # fmt: skip
    assert json.loads(says("stats lo1", "-j"))[0]["stats"]["oerrors"]["peer_down"] == 0
    assert json.loads(says("show lo1", "-j"))[0]["device"] == "lo1"


def test_of_nothing_there_is_nothing(cli: Cli) -> None:
    assert cli.says("list", "-br") == cli.says("list", "-o") == cli.says("stats", "-o").strip() == ""
    assert json.loads(cli.says("list", "-j")) == []


def test_a_terminal_has_colours(pair: Cli) -> None:
    for command in (["list"], ["stats", "-w", "-i", "0.1"]):
        text = _in_terminal(pair, command)
        assert b"\x1b[" in text
        assert b"epair0a" in text


def _in_terminal(cli: Cli, arguments: list[str]) -> bytes:
    """What a command writes to a terminal until it ends, or has shown a pair."""
    ours, theirs = pty.openpty()
    environment = cli.environment | {"TERM": "xterm-256color", "COLUMNS": "200"}
    process = subprocess.Popen([EPAIRCTL, *arguments], env=environment, stdout=theirs)
    os.close(theirs)
    text = b""
    try:
        while b"epair0b" not in text:
            text += os.read(ours, 65536)
    except OSError:  # EIO: nobody has the other end any more
        pass
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(DEADLINE_S)
        os.close(ours)
    return text


# What it costs


def test_a_command_imports_only_what_it_needs() -> None:
    program = (
        "import sys; from epaird.ctl import cli; cli.main(['--socket', '/nowhere', 'list']);"
        "print(*{'rich', 'pydantic', 'http.client', 'ssl', 'asyncio', 'tomllib', 'fastapi', 'uvloop'}"
        " & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
