"""Every error of epairctl is one line and an exit status."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from epaird.config.settings import DaemonSettings
from epaird.control.operations import Refused
from epaird.ctl.context import DEFAULT_SOCKET
from tests.control.control_server import serving
from tests.ctl.epairctl import EPAIRCTL, Cli
from tests.waiting import DEADLINE_S, until


def test_a_refusal_is_one_line_with_the_errno(pair: Cli) -> None:
    assert pair.fails("create", "epair0") == "epair0: exists already (EEXIST)"
    assert pair.fails("create", "tap0") == '"tap0" is not a name, as in "epair0" (EINVAL)'
    assert pair.fails("show", "nix") == 'there is no interface "nix" (ENXIO)'
    assert pair.fails("show", "a/b") == 'there is no interface "a/b" (ENXIO)'
    assert pair.fails("show", "") == 'there is no interface "" (ENXIO)'
    assert pair.fails("list", "tap") == "kind: tap is none of epair, lo (EINVAL)"
    assert "netns: " in pair.fails("set", "epair0a", "netns=../x", "mtu=1")
    assert "mtu: " in pair.fails("set", "epair0a", "netns=../x", "mtu=1")
    pair.operations.fails = Refused(errno.EPERM, "two\nlines")
    assert pair.fails("destroy", "epair0") == "two lines (EPERM)"


def test_arguments_that_are_not_utf8_are_one_line(cli: Cli) -> None:
    for command in (["create"], ["show"], ["destroy"], ["list"]):
        done = subprocess.run(
            [EPAIRCTL.encode(), *(word.encode() for word in command), b"\xff"],
            env=cli.environment,
            capture_output=True,
            timeout=DEADLINE_S,
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
    line = f"the daemon is not running: no process listens at {path}"
    assert cli.fails("--socket", str(path), "monitor") == line
    assert cli.fails("--socket", "/etc/passwd", "list").startswith("the daemon is not running: no process")
    assert "path too long" in cli.fails("--socket", "/" + "x" * 200, "list")


def test_the_option_goes_before_the_environment(cli: Cli) -> None:
    cli.environment["EPAIRD_SOCKET"] = "/nowhere"
    assert cli.output("--socket", str(cli.control.path), "cloners") == "epair lo\n"


def test_the_default_is_the_daemons() -> None:
    assert str(DaemonSettings().control_socket) == DEFAULT_SOCKET


@pytest.mark.real
def test_a_user_without_permission_gets_one_line(cli: Cli) -> None:
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
    """Run epairctl as the user nobody, which it becomes after the imports: nobody may not read this tree."""
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
        connection, _ = listener.accept()
    connection.close()
    assert process.wait(DEADLINE_S) == 1
    assert process.communicate() == ("", "epairctl: the daemon has ended without an answer\n")


def test_a_daemon_that_runs_and_gives_no_answer(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        process = cli.start("--socket", str(path), "list")
        listener.accept()[0].close()
        assert process.wait(DEADLINE_S) == 1
    line = "epairctl: the daemon has closed the connection without an answer\n"
    assert process.communicate() == ("", line)


def test_another_program_at_the_socket(cli: Cli, tmp_path: Path) -> None:
    for sent, line in (
        (b"220 mail.example.org\r\n", "the program at the control socket is not epaird"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "the program at the control socket is not epaird",
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
                connection.sendall(sent)
            assert process.wait(DEADLINE_S) == 1
        assert process.communicate() == ("", f"epairctl: {line}\n")
        path.unlink()


def test_a_closed_pipe_ends_the_command(pair: Cli) -> None:
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
    assert "epair0a" in pair.output("list")
    monitor = pair.start("monitor")
    until(lambda: pair.operations.readers)
    pair.control.on_loop(pair.operations.gate.set)
    assert first.wait(DEADLINE_S) == 0
    assert monitor.stdout is not None
    assert "epair0 destroyed" in monitor.stdout.readline()
    monitor.kill()
    monitor.communicate()
    first.communicate()
