"""Impossible requests: one clear line, and nothing is left of the attempt."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.scenarios.lab import CABLE, EPAIRD, NAMESPACES, Daemon, Lab, pair
from tests.scenarios.transfers import BLUE, RED, ping

pytestmark = pytest.mark.real

AS_NOBODY = (
    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
    # The installation may be readable by root only.
    "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search",
)  # fmt: skip
OTHER_USER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
POWERLESS = ("setpriv", "--bounding-set=-all")
WITHOUT_DEVICE = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /dev/net && exec "$@"', "sh")


def refusal(daemon: Daemon) -> str:
    """Return the only log line of a daemon that exits with status 1 and leaves nothing behind."""
    daemon.assert_clean_exit(1)
    (line,) = daemon.log
    return line


@pytest.mark.parametrize("listen", ["127.0.0.1:9862", "127.0.0.1:0", ""])
def test_a_second_daemon_of_the_same_configuration_leaves_the_first_alone(lab: Lab, listen: str) -> None:
    first = lab.launch(CABLE, listen=listen)
    first.wait_for_log("try:")
    second = lab.restart(first)
    assert second.wait_exit() == 1
    (line,) = second.log
    assert "in use" in line or "another epaird" in line
    ping(lab["red"], BLUE)
    ping(lab["blue"], RED)
    first.stop()


def test_a_run_directory_that_others_may_write_to(lab: Lab) -> None:
    """A local user could plant links there, which root would follow, or a state to take over."""
    run = lab.directory / "run"
    run.mkdir()
    run.chmod(0o777)
    line = refusal(lab.launch(CABLE))
    assert line.startswith(f"daemon.control_socket: {run} has mode 0777, ")


def test_no_other_user_can_read_or_lock_what_a_daemon_writes(lab: Lab) -> None:
    run = lab.directory / "run"
    before = os.umask(0)
    try:
        daemon = lab.daemon(CABLE)
    finally:
        os.umask(before)
    lab.directory.chmod(0o755)
    files = {each.name for each in run.iterdir() if each.is_file()}
    assert files == {"lock", "state.json", "state.journal", "namespaces.json"}
    for name in files:
        tried = subprocess.run(
            [*OTHER_USER, "flock", "-n", str(run / name), "true"], capture_output=True, check=False
        )
        assert tried.returncode != 0, name
        assert b"Permission denied" in tried.stderr
    daemon.stop()


def test_a_port_in_use(lab: Lab) -> None:
    other = lab.home.start("socat", "-d", "-d", "TCP-LISTEN:9862,bind=127.0.0.1,fork", "PIPE")
    other.wait_for_output("listening")
    line = refusal(lab.launch(CABLE))
    assert line.startswith("metrics.listen: 127.0.0.1:9862 ")
    assert "in use" in line


def test_a_namespace_that_does_not_exist(lab: Lab) -> None:
    line = refusal(lab.launch(pair(a={"netns": "$nowhere"}, b={"netns": None})))
    assert f"namespace {lab['nowhere']}: does not exist" in line
    assert "namespaces.create" in line


def test_a_path_that_is_no_namespace(lab: Lab) -> None:
    line = refusal(lab.launch(pair(a={"netns": "/etc/passwd"}, b={"netns": None})))
    assert "/etc/passwd" in line
    assert "network namespace" in line


@pytest.mark.parametrize("half", ["a", "b"])
def test_a_name_that_is_taken_in_its_namespace(lab: Lab, half: str) -> None:
    place = lab.namespace("red" if half == "a" else "blue")
    other = lab.namespace("blue" if half == "a" else "red")
    place.ip("link add eth0 type veth peer name peer0")
    line = refusal(lab.launch(pair()))
    assert line.startswith(f"epair0{half}: ")
    assert "eth0" in line
    assert "exists already" in line
    assert "eth0" in place.links()
    assert set(other.links()) == {"lo"}


def test_a_name_that_is_taken_at_home(lab: Lab) -> None:
    lab.home.ip("link add epair0b type veth peer name peer0")
    line = refusal(lab.launch(pair(a={"netns": None, "name": None}, b={"netns": None, "name": None})))
    assert line.startswith("epair0b: ")
    assert "exists already" in line
    assert set(lab.home.links()) == {"lo", "epair0b", "peer0"}


def test_a_namespace_of_others_is_not_taken_over(lab: Lab) -> None:
    blue = lab.namespace("blue")
    daemon = lab.launch(CABLE)
    assert daemon.wait_exit() == 1
    (line,) = daemon.log
    assert line.startswith(f"namespaces.create: {blue} exists already")
    assert blue.exists
    assert lab.leftovers() == [f"namespace {blue}"]


def test_if_the_second_pair_fails_the_first_is_undone(lab: Lab) -> None:
    line = refusal(lab.launch(NAMESPACES + pair(0) + pair(1, b={"netns": "$nowhere"})))
    assert "epair1" in line or str(lab["nowhere"]) in line


@pytest.mark.parametrize("user", [AS_NOBODY, POWERLESS], ids=["nobody", "powerless root"])
def test_missing_privileges_are_named_with_a_remedy(lab: Lab, user: tuple[str, ...]) -> None:
    lab.directory.chmod(0o755)
    daemon = lab.launch(CABLE, wrapper=user)
    daemon.assert_clean_exit(1)
    assert any("CAP_NET_ADMIN is missing" in line and "run as root" in line for line in daemon.log)
    assert any("CAP_SYS_ADMIN is missing" in line and "--cap-add" in line for line in daemon.log)
    assert len(daemon.log) <= 3


def test_a_missing_dev_net_tun_is_reported_with_a_remedy(lab: Lab) -> None:
    line = refusal(lab.launch(CABLE, wrapper=WITHOUT_DEVICE))
    assert line.startswith("/dev/net/tun is missing: ")
    assert "modprobe tun" in line


def test_a_wrong_configuration_creates_nothing_and_reports_every_error(lab: Lab) -> None:
    daemon = lab.launch(NAMESPACES + pair(a={"mtu": 70000}, b={"colour": "blue"}))
    daemon.assert_clean_exit(1)
    assert len(daemon.log) == 2
    assert "epair.epair0.a.mtu: 70000 is more than a TAP's 65521" in daemon.log
    assert any(line.startswith("epair.epair0.b.colour: ") for line in daemon.log)


def test_a_file_that_does_not_exist(lab: Lab) -> None:
    file = lab.directory / "nothing.toml"
    running = lab.home.start(EPAIRD, "run", "--config", str(file))
    assert running.wait_exit() == 1
    (line,) = running.stderr.splitlines()
    assert str(file) in line


def test_python_m_epaird_is_the_same_program(lab: Lab) -> None:
    python = str(Path(EPAIRD).with_name("python"))
    for arguments in (("check", str(lab.configuration(CABLE))), ("--version",)):
        assert lab.home.run(python, "-m", "epaird", *arguments) == lab.home.run(EPAIRD, *arguments)
