"""What members of the group, other local users and tenants can and cannot do, as docs/security.md says.

Each party is played by a process with its credentials, in its namespace.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.scenarios.ctl import control_socket, epairctl
from tests.scenarios.lab import CABLE, Daemon, Lab, pair
from tests.scenarios.namespaces import Namespace
from tests.scenarios.transfers import RawSocket, frame, number_of, ping
from tests.waiting import until

pytestmark = pytest.mark.real

NOBODY: Final = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
MARK: Final = "payload-of-a-tenant"
FOREIGN_MAC: Final = bytes.fromhex("02beefbeef02")


@pytest.fixture
def daemon(lab: Lab) -> Daemon:
    """A daemon with the manual's first cable."""
    return lab.daemon(CABLE).wait_ready()


def curl(place: Namespace, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run curl in a namespace as the user nobody."""
    with place.inside():
        return subprocess.run(
            [*NOBODY, "curl", "-sS", "--max-time", "10", *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )


def answers(path: Path) -> Iterator[bytes]:
    """Yield what the API answers to each GET that it describes, with real names in place of parameters."""
    document = json.loads(_get(path, "/v1/openapi.json"))
    for route, methods in document["paths"].items():
        if "get" in methods and "events" not in route:
            yield _get(path, route.replace("{name}", "epair0a"))


def _get(path: Path, target: str) -> bytes:
    done = subprocess.run(
        ["curl", "-sS", "--unix-socket", path, f"http://epaird{target}"],
        capture_output=True,
        timeout=30,
        check=True,
    )
    return done.stdout


def page_of(daemon: Daemon) -> str:
    """Return the URL of a daemon's metrics page."""
    return next(line for line in daemon.log if line.startswith("metrics: ")).removeprefix("metrics: ")


def test_no_answer_of_the_api_has_a_payload(lab: Lab, daemon: Daemon) -> None:
    pattern = MARK.encode().hex()[:32]  # ping takes 16 bytes
    ping(lab["red"], "10.0.0.2", "-p", pattern)
    found = list(answers(control_socket(lab)))
    assert len(found) >= 5
    shown = daemon.metrics().text
    for text in (*found, shown, "\n".join(daemon.log).encode()):
        assert MARK[:16].encode() not in text
        assert pattern.encode() not in text


@pytest.mark.parametrize("route", ["/v1/reload", "/v1/upgrade"])
def test_no_request_chooses_the_file_or_the_program(lab: Lab, daemon: Daemon, route: str) -> None:
    """A request that names one is refused, or it has no effect: the daemon goes on with its own file."""
    other = lab.configuration(pair(1, ipv6=False))
    body = dict.fromkeys(("file", "config", "path", "program", "executable"), str(other))
    done = subprocess.run(
        ["curl", "-sS", "--unix-socket", control_socket(lab), "--json", json.dumps(body),
         f"http://epaird{route}?file={other}&program={other}"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "epair1" not in done.stdout
    if route == "/v1/upgrade":
        daemon.wait_for_log("upgraded to")
    until(lambda: daemon.metrics().devices() == ["epair0a", "epair0b"])
    assert daemon.process.poll() is None


def test_every_local_user_can_read_the_metrics(lab: Lab, daemon: Daemon) -> None:
    done = curl(lab.home, page_of(daemon))
    assert 'epaird_interface_info{device="epair0a"' in done.stdout
    assert "10.0.0.1" not in done.stdout  # no IP address


def test_without_a_page_there_is_nothing_to_read(lab: Lab) -> None:
    lab.launch(CABLE, listen="").wait_for_output("try: ")
    epairctl(lab, "list")
    with lab.home.inside():
        listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True)
    assert listening.stdout == ""


def test_a_tenant_reaches_neither_the_api_nor_the_metrics(lab: Lab, daemon: Daemon) -> None:
    lab.directory.chmod(0o755)  # the tenant shares the file system
    page = curl(lab["red"], page_of(daemon))
    assert page.returncode == 7  # CURLE_COULDNT_CONNECT
    api = curl(lab["red"], "--unix-socket", str(control_socket(lab)), "http://epaird/v1/interfaces")
    assert api.returncode == 7
    assert not page.stdout
    assert not api.stdout


def test_a_tenant_sends_any_frame(lab: Lab, daemon: Daemon) -> None:
    """With another source address, an unknown EtherType, and any octets after that."""
    lab["red"].wait_for_carrier("eth0")
    with RawSocket(lab["red"], "eth0") as sender, RawSocket(lab["blue"], "eth0") as receiver:
        for number, kind in enumerate((0x0000, 0x88B5, 0xFFFF)):
            sender.send(frame(kind, 200, number=number))
            assert number_of(receiver.receive()) == number
    assert daemon.metrics().interface("epair0a").opackets >= 3


def test_a_tenant_cannot_move_or_reach_the_other_half(lab: Lab) -> None:
    """As root of a user namespace that owns the half's namespace, and nothing else."""
    with lab.home.inside():
        tenant = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", "echo ready; exec sleep 60"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    try:
        assert tenant.stdout is not None
        assert tenant.stdout.readline() == "ready\n"
        blue = lab.namespace("blue", ipv6=False)
        halves = pair(a={"netns": f"/proc/{tenant.pid}/ns/net"}, ipv6=False)
        lab.daemon(halves).wait_ready()
        as_tenant = ["nsenter", f"--target={tenant.pid}", "--user", "--net", "--preserve-credentials"]
        assert "eth0" in _output(as_tenant, "ip", "link")
        for command in (
            ("ip", "link", "set", "eth0", "netns", "1"),
            ("ip", "-n", blue.name, "link", "set", "eth0", "down"),
            ("ip", "netns", "exec", blue.name, "true"),
            ("nsenter", "--net=/proc/1/ns/net", "true"),
        ):
            done = subprocess.run([*as_tenant, *command], capture_output=True, text=True, check=False)
            assert done.returncode != 0, command
            assert "not permitted" in done.stderr.lower() or "denied" in done.stderr.lower(), done.stderr
        assert blue.links()["eth0"].up
        assert _output(as_tenant, "ip", "link", "set", "eth0", "mtu", "1400") == ""
    finally:
        tenant.kill()
        tenant.wait()
        tenant.stdout.close() if tenant.stdout else None


def _output(prefix: list[str], *command: str) -> str:
    done = subprocess.run([*prefix, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
