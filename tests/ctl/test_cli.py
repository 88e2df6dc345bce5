"""The real epairctl against the API on a control socket, over operations without interfaces."""

from __future__ import annotations

import errno
import json
import os
import pty
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from epaird import __version__
from epaird.actions import Action, Detail
from epaird.control.operations import Refused
from epaird.ctl.cli import DEFAULT_SOCKET
from epaird.settings import DaemonSettings
from tests.control.control_server import DEADLINE, Control, serving, until

EPAIRCTL = str(Path(sys.executable).with_name("epairctl"))


class Cli:
    """epairctl, and the daemon that it asks."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.operations = control.operations
        self.environment = os.environ | {"EPAIRD_SOCKET": str(control.path), "LC_ALL": "C.UTF-8"}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command."""
        return subprocess.run(
            [EPAIRCTL, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    def says(self, *arguments: str) -> str:
        """What a command that succeeds prints."""
        done = self.run(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert "\x1b" not in done.stdout
        return done.stdout

    def fails(self, *arguments: str, status: int = 1) -> str:
        """The one line that a command which fails prints."""
        done = self.run(*arguments)
        assert (done.returncode, done.stdout) == (status, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("epairctl: ")
        return line.removeprefix("epairctl: ")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command that goes on."""
        return subprocess.Popen(
            [EPAIRCTL, *arguments],
            env=self.environment | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    with serving(tmp_path / "control.sock") as control:
        yield Cli(control)


@pytest.fixture
def pair(cli: Cli) -> Cli:
    """With epair0 and lo1."""
    cli.says("create", "epair")
    cli.says("create", "lo1")
    return cli


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
    assert process.wait(DEADLINE) == 130
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
    assert process.wait(DEADLINE) == 130
    assert process.communicate()[1].strip() == ""


def test_monitor_tells_the_daemons_end(tmp_path: Path) -> None:
    with serving(tmp_path / "control.sock") as control:
        process = Cli(control).start("monitor")
        until(lambda: control.operations.readers)
    assert process.wait(DEADLINE) == 1
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
        process.wait(DEADLINE)
        os.close(ours)
    return text


# What goes wrong


def test_a_refusal_is_one_line_with_the_errno(pair: Cli) -> None:
    assert pair.fails("create", "epair0") == "epair0: exists already (EEXIST)"
    assert pair.fails("create", "tap0") == '"tap0" is not a name, as in "epair0" (EINVAL)'
    assert pair.fails("show", "nix") == "nix: there is no such interface (ENXIO)"
    assert pair.fails("show", "a/b") == '"a/b": there is no such interface (ENXIO)'
    assert pair.fails("show", "") == '"": there is no such interface (ENXIO)'
    assert pair.fails("list", "tap") == "kind: tap is none of epair, lo (EINVAL)"
    assert "netns: " in pair.fails("set", "epair0a", "netns=../x", "mtu=1")
    assert "mtu: " in pair.fails("set", "epair0a", "netns=../x", "mtu=1")
    pair.operations.fails = Refused(errno.EPERM, "two\nlines")
    assert pair.fails("destroy", "epair0") == "two lines (EPERM)"


def test_arguments_that_are_not_utf8_are_told(cli: Cli) -> None:
    for command in (["create"], ["show"], ["destroy"], ["list"]):
        done = subprocess.run(
            [EPAIRCTL.encode(), *(word.encode() for word in command), b"\xff"],
            env=cli.environment,
            capture_output=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["craete"], "No such command 'craete'."),
        (["create"], "Missing argument 'NAME'."),
        (["destroy"], "Missing argument 'NAME...'."),
        (["set", "epair0a"], "Missing argument 'KEY=VALUE...'."),
        (["set", "epair0a", "mtu"], "'mtu' is not a setting, as in mtu=9000 or a.netns=red"),
        (["create", "epair", "-o"], "Option '-o' requires an argument."),
        (["list", "--colour"], "No such option"),
        (["patch", "epair0a"], "Missing argument 'PEER'."),
        (["stats", "-w", "-i", "0"], "Invalid value for '-i' / '--interval': 0.0 is not in the range"),
        (["completion", "tcsh"], "Invalid value for '{bash|zsh|fish}': 'tcsh' is not one of"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(cli: Cli, arguments: list[str], line: str) -> None:
    assert cli.fails(*arguments, status=2).startswith(line)


def test_a_daemon_that_does_not_run(tmp_path: Path, cli: Cli) -> None:
    path = tmp_path / "nowhere.sock"
    assert cli.fails("--socket", str(path), "list") == f"the daemon is not running: there is no {path}"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    line = f"the daemon is not running: nobody listens at {path}"
    assert cli.fails("--socket", str(path), "monitor") == line
    assert cli.fails("--socket", "/etc/passwd", "list").startswith("the daemon is not running: nobody")
    assert "path too long" in cli.fails("--socket", "/" + "x" * 200, "list")


def test_the_option_goes_before_the_environment(cli: Cli) -> None:
    cli.environment["EPAIRD_SOCKET"] = "/nowhere"
    assert cli.says("--socket", str(cli.control.path), "cloners") == "epair lo\n"


def test_the_default_is_the_daemons() -> None:
    assert str(DaemonSettings().control_socket) == DEFAULT_SOCKET


@pytest.mark.real
def test_who_may_not_is_told_so(cli: Cli) -> None:
    directory = Path(f"/tmp/ept{os.getpid()}ctl")  # noqa: S108 - nothing is read from it
    directory.mkdir(mode=0o755)
    path = directory / "control.sock"
    try:
        with serving(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            done = _as_nobody(path)
            path.chmod(0o666)
            refused = _as_nobody(path)
    finally:
        directory.rmdir()
    assert done.stderr == (
        f"epairctl: {path}: permission denied: only root and members of the group epaird may\n"
    )
    assert refused.stderr.endswith("only root and the members of group epaird may (EPERM)\n")
    assert (done.returncode, refused.returncode) == (1, 1)


def _as_nobody(path: Path) -> subprocess.CompletedProcess[str]:
    """The client as the user nobody, started before it becomes that one, who may not read this tree."""
    program = (
        "import os, sys; from epaird.ctl import cli; import encodings.idna; import h11;"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        f"sys.exit(cli.main(['--socket', {str(path)!r}, 'cloners']))"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_a_daemon_that_ends_before_it_answers(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        process = cli.start("--socket", str(path), "list")
        listener.accept()[0].close()
        assert process.wait(DEADLINE) == 1
    assert process.communicate() == ("", "epairctl: the daemon has ended without an answer\n")


def test_another_program_at_the_socket(cli: Cli, tmp_path: Path) -> None:
    for said, line in (
        (b"220 mail.example.org\r\n", "the daemon has ended without an answer"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "what answers at the control socket is not epaird",
        ),
        (b"HTTP/1.1 502 Bad\r\ncontent-length: 2\r\n\r\n{}", "the daemon answered 502"),
    ):
        path = tmp_path / "other.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            process = cli.start("--socket", str(path), "cloners")
            with listener.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(said)
            assert process.wait(DEADLINE) == 1
        assert process.communicate() == ("", f"epairctl: {line}\n")
        path.unlink()


def test_nobody_who_reads_any_more(pair: Cli) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [EPAIRCTL, "list"], env=pair.environment, stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_second_never_waits_for_the_first(pair: Cli) -> None:
    pair.control.on_loop(pair.operations.gate.clear)
    first = pair.start("destroy", "epair0")
    until(lambda: pair.operations.waiting)
    assert "epair0a" in pair.says("list")
    monitor = pair.start("monitor")
    until(lambda: pair.operations.readers)
    pair.control.on_loop(pair.operations.gate.set)
    assert first.wait(DEADLINE) == 0
    assert monitor.stdout is not None
    assert "epair0 destroyed" in monitor.stdout.readline()
    monitor.kill()
    monitor.communicate()
    first.communicate()


# Completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(cli: Cli, shell: str) -> None:
    script = cli.says("completion", shell)
    assert "_EPAIRCTL_COMPLETE" in script


def _completed(cli: Cli, *words: str) -> list[str]:
    cli.environment |= {
        "_EPAIRCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("epairctl", *words)),
        "COMP_CWORD": str(len(words)),
    }
    done = cli.run()
    assert done.stderr == ""
    return [line.split(",", 1)[1] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["sh"], ["show"]),
        (["show", "ep"], ["epair0", "epair0a", "epair0b"]),
        (["destroy", "epair0", "l"], ["lo1"]),
        (["patch", "epair0a", "epair0b"], ["epair0b"]),
        (["create", "e"], ["epair"]),
        (["list", "l"], ["lo"]),
        (["set", "epair0a", "m"], ["mtu="]),
        (["completion", "z"], ["zsh"]),
    ],
)
def test_words_complete(pair: Cli, words: list[str], found: list[str]) -> None:
    assert _completed(pair, *words) == found


def test_without_a_daemon_nothing_completes_and_nothing_is_said(cli: Cli) -> None:
    cli.environment["EPAIRD_SOCKET"] = "/nowhere"
    assert _completed(cli, "show", "ep") == []


def test_a_daemon_that_hangs_does_not_hang_the_shell(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        cli.environment["EPAIRD_SOCKET"] = str(path)
        assert _completed(cli, "show", "ep") == []


def test_bash_itself_completes(pair: Cli) -> None:
    program = (
        f'PATH={Path(EPAIRCTL).parent}:$PATH; eval "$(epairctl completion bash)"; '
        "COMP_WORDS=(epairctl show epair0); COMP_CWORD=2; _epairctl_completion epairctl; echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(
        ["bash", "-c", program], env=pair.environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "epair0 epair0a epair0b\n"


# What it costs


def test_a_command_imports_only_what_it_needs() -> None:
    program = (
        "import sys; from epaird.ctl import cli; cli.main(['--socket', '/nowhere', 'list']);"
        "print(*{'rich', 'pydantic', 'http.client', 'ssl', 'asyncio', 'tomllib', 'fastapi', 'uvloop'}"
        " & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


# The configuration as a whole


PLANNED = (
    Action("create", "epair", "epair1", (Detail("a.mtu", "", "9000"),)),
    Action("recreate", "epair", "epair2", (Detail("queues", "1", "2", "cannot change in place: so it is"),)),
)


def test_a_plan_reads_as_terraforms_and_its_status_says_whether_there_is_anything_to_do(
    cli: Cli, tmp_path: Path
) -> None:
    file = tmp_path / "new.toml"
    file.write_text("[epair.epair0]\n")
    done = cli.run("plan", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Nothing to do: everything is as the configuration says.\n"
    reloads = cli.control.reloads
    assert reloads.asked == [("plan", "[epair.epair0]\n", str(file))]
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
    assert reloads.asked[2:4] == [("reload", True), ("reload", False)]


def test_each_mistake_in_a_file_is_a_line(cli: Cli, tmp_path: Path) -> None:
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
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [EPAIRCTL, "reload"], env=cli.environment | {"TERM": "xterm-256color"}, stdout=theirs,
        timeout=DEADLINE, check=False,
    )  # fmt: skip
    os.close(theirs)
    assert done.returncode == 0
    assert b"\x1b[32m  + epair1" in os.read(ours, 65536)
    os.close(ours)


def test_save_prints_toml(cli: Cli) -> None:
    assert cli.says("save") == "# r\u00e9d\n[epair.epair0]\n"
