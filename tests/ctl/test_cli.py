"""epairctl as a whole: its help, its options after those of ip, and what it imports."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys

import pytest

from epaird import __version__
from epaird.ctl import cli as cli_module
from tests.ctl.epairctl import EPAIRCTL, Cli
from tests.waiting import DEADLINE_S


def test_version_and_help(cli: Cli) -> None:
    assert cli.output("--version") == f"epairctl {__version__}\n"
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
        text = cli.output(*arguments)
        assert "EPAIRD_SOCKET" in text
        assert "completion" in text
        assert all(f"\n  {command} " in text for command in commands)
        assert "..." not in text.partition("Commands:")[2]
    for command in commands:
        assert cli.output(command, "--help").startswith(f"Usage: epairctl {command} ")


@pytest.mark.parametrize("before", [True, False])
def test_options_come_before_the_command_or_after_it(pair: Cli, before: bool) -> None:
    def output(command: str, *options: str) -> str:
        return pair.output(*options, *command.split()) if before else pair.output(*command.split(), *options)

    assert [each["device"] for each in json.loads(output("list", "-j"))] == ["epair0a", "epair0b", "lo1"]
    assert output("list", "-j").count("\n") == 1
    assert output("list", "-j", "-p").count("\n") > 10
    assert output("list", "-jp") == output("list", "--json", "--pretty")
    assert output("list", "-br").splitlines() == [
        "epair0a  UP  02:5d:11:22:33:0a  epair0a",
        "epair0b  UP  02:5d:11:22:33:0a  epair0b",
        "lo1      UP  02:5d:11:22:33:0a  lo1",
    ]
    assert output("show epair0", "-o").count("\n") == 2
    assert output("show epair0", "-o").startswith("epair0a: <UP,LOWER_UP> mtu 1500 state up\\    ether 02:")
    assert output("list", "-o").count("\n") == 3
    assert output("stats epair0a", "-o").startswith("epair0a ipackets=0 ibytes=0 ")
    assert output("stats epair0a", "-br").split("\n")[0].split() == [
        "NAME", "ipackets", "ibytes", "opackets", "obytes",
    ]  # fmt: skip
    assert json.loads(output("stats lo1", "-j"))[0]["stats"]["oerrors"]["peer_down"] == 0
    assert json.loads(output("show lo1", "-j"))[0]["device"] == "lo1"


def test_without_interfaces_nothing_is_printed(cli: Cli) -> None:
    assert cli.output("list", "-br") == cli.output("list", "-o") == cli.output("stats", "-o").strip() == ""
    assert json.loads(cli.output("list", "-j")) == []


def test_a_terminal_has_colours(pair: Cli) -> None:
    for command in (["list"], ["stats", "-w", "-i", "0.1"]):
        text = _in_terminal(pair, command)
        assert b"\x1b[" in text
        assert b"epair0a" in text


def _in_terminal(cli: Cli, arguments: list[str]) -> bytes:
    """Return what a command writes to a terminal until it ends or has shown a pair."""
    controller, terminal = pty.openpty()
    environment = cli.environment | {"TERM": "xterm-256color", "COLUMNS": "200"}
    process = subprocess.Popen([EPAIRCTL, *arguments], env=environment, stdout=terminal)
    os.close(terminal)
    text = b""
    try:
        while b"epair0b" not in text:
            text += os.read(controller, 65536)
    except OSError:  # EIO: the command has closed the other end
        pass
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(DEADLINE_S)
        os.close(controller)
    return text


def test_a_command_imports_only_what_it_needs() -> None:
    program = (
        "import sys; from epaird.ctl import cli; cli.main(['--socket', '/nowhere', 'list']);"
        "print(*{'rich', 'pydantic', 'http.client', 'ssl', 'asyncio', 'tomllib', 'fastapi', 'uvloop'}"
        " & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_a_command_imports_no_other_commands_module() -> None:
    program = (
        "import sys; from epaird.ctl import cli; cli.main(['--socket', '/nowhere', 'list']);"
        "print(*{'epaird.ctl.watch', 'epaird.ctl.configuration', 'epaird.client.plans', 'pathlib'}"
        " & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_every_command_has_its_own_name() -> None:
    commands = cli_module.epairctl.commands
    assert [commands[name].name for name in commands] == sorted(commands)
    assert "nix" not in commands
