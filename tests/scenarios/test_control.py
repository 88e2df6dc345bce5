"""Control of the running daemon through its control socket, by epairctl and by curl."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest

from tests.scenarios.ctl import EPAIRCTL, control_socket, epairctl, refused, run_epairctl
from tests.scenarios.lab import CABLE, NAMESPACES, Lab
from tests.scenarios.transfers import BLUE, RED, datagrams, ping
from tests.waiting import DEADLINE_S, until

pytestmark = pytest.mark.real


def interface_names(lab: Lab) -> list[str]:
    """Return the names of all interfaces."""
    return [each["device"] for each in json.loads(epairctl(lab, "-j", "list"))]


def curl(lab: Lab, path: str, *options: str) -> str:
    command = ["curl", "-sS", "--unix-socket", str(control_socket(lab)), *options, f"http://epaird{path}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True).stdout


def settings(half: str, netns: str, address: str) -> list[str]:
    """Return the settings of a half as command-line arguments."""
    return [f"{half}.netns={netns}", f"{half}.name=eth0", f'{half}.addresses=["{address}/24"]']


def test_a_pair_created_at_run_time_forwards_and_is_destroyed(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES)
    words = [*settings("a", "$red", RED), *settings("b", "$blue", BLUE)]
    assert epairctl(lab, "create", "epair", *words) == "epair0a\n"
    ping(lab["red"], BLUE)
    assert refused(lab, "create", "epair0").endswith("(EEXIST)")
    assert epairctl(lab, "set", "epair0a", "mtu=9000") == ""
    assert epairctl(lab, "set", "epair0b", "mtu=9000") == ""
    ping(lab["red"], BLUE, "-s", "8000", "-M", "do")
    page = daemon.at_rest()
    stats = json.loads(epairctl(lab, "-j", "stats", "epair0a"))[0]["stats"]
    assert stats["opackets"] >= page.interface("epair0a").opackets
    assert epairctl(lab, "destroy", "epair0b") == ""
    assert interface_names(lab) == []
    assert lab["red"].links("tun") == lab["blue"].links("tun") == {}
    assert len(daemon.log_lines_with(f"by uid {os.getuid()} ")) == 4
    daemon.stop()


def test_curl_creates_a_pair(lab: Lab) -> None:
    lab.daemon(CABLE)
    created = json.loads(curl(lab, "/v1/interfaces", "-d", '{"name": "epair"}'))
    assert created == {"name": "epair1", "devices": ["epair1a", "epair1b"]}
    found = json.loads(curl(lab, "/v1/interfaces"))
    assert [each["origin"] for each in found] == ["configuration"] * 2 + ["runtime"] * 2
    assert curl(lab, "/v1/interfaces/epair1", "-X", "DELETE", "-w", "%{http_code}") == "204"
    problem = json.loads(curl(lab, "/v1/interfaces/epair1", "-X", "DELETE"))
    assert (problem["status"], problem["errno"]) == (404, "ENXIO")


def test_all_invalid_values_are_reported_at_once(lab: Lab) -> None:
    lab.daemon(CABLE)
    words = ["a.mtu=70000", "b.netns=", "colour=3"]
    body = json.dumps({"name": "epair", "settings": {"a": {"mtu": 70000}, "b": {"netns": ""}, "colour": 3}})
    line = refused(lab, "create", "epair", *words)
    problem = json.loads(curl(lab, "/v1/interfaces", "-d", body))
    assert [each["key"].partition(".epair1.")[2] for each in problem["errors"]] == [
        "a.mtu", "b.netns", "colour",
    ]  # fmt: skip
    assert line == f"{problem['detail']} (EINVAL)"
    assert "70000 is more than a TAP's 65521" in line


def test_carrier_and_patching_are_seen_by_the_namespaces(lab: Lab) -> None:
    lab.daemon(CABLE)

    def carrier(name: str) -> bool:
        return "LOWER_UP" in lab[name].ip("link show eth0")

    until(lambda: carrier("red"))
    epairctl(lab, "set", "epair0", "carrier=off")
    until(lambda: not carrier("red") and not carrier("blue"))
    epairctl(lab, "set", "epair0", "carrier=peer")
    until(lambda: carrier("red") and carrier("blue"))
    epairctl(lab, "unpatch", "epair0a")
    until(lambda: not carrier("red") and not carrier("blue"))
    epairctl(lab, "patch", "epair0a", "epair0b")
    ping(lab["red"], BLUE)


def test_monitor_prints_events(lab: Lab) -> None:
    daemon = lab.daemon(CABLE)
    monitor = lab.home.start(EPAIRCTL, "--socket", str(control_socket(lab)), "monitor", "-br")
    until(lambda: has_client(lab))
    epairctl(lab, "create", "epair1")
    lab["red"].ip("link set eth0 down")
    lab["red"].ip("link set eth0 name eth9")
    epairctl(lab, "destroy", "epair1")
    for words in (
        "epair1a created",
        "epair0a down",
        "epair0b nocarrier",
        "epair0a renamed",
        "epair1b destroyed",
    ):
        monitor.wait_for_output(words)
    assert b"epair1a unregistering" in monitor.stdout
    daemon.stop()
    assert monitor.wait_exit() == 1
    assert "the daemon has ended" in monitor.stderr


def has_client(lab: Lab) -> bool:
    """Return whether a client is connected to the control socket."""
    lines = [line.split() for line in lab.home.run("cat", "/proc/net/unix").splitlines()]
    return any(line[-1] == str(control_socket(lab)) and line[5] == "03" for line in lines)  # SS_CONNECTED


def test_four_clients_at_once(lab: Lab) -> None:
    """Each client creates and destroys pairs; concurrent readers never fail."""
    daemon = lab.daemon(NAMESPACES)
    failures: list[str] = []

    def client(unit: int) -> None:
        for _ in range(8):
            name = "epair" if unit % 2 else f"epair{100 + unit}"
            made = run_epairctl(lab, "create", name)
            destroyed = run_epairctl(lab, "destroy", made.stdout.strip())
            failures.extend(each.stderr for each in (made, destroyed) if each.returncode)

    clients = [threading.Thread(target=client, args=(unit,)) for unit in range(4)]
    for each in clients:
        each.start()
    while any(each.is_alive() for each in clients):
        interface_names(lab)
        epairctl(lab, "stats")
        daemon.metrics()
    for each in clients:
        each.join()
    assert failures == []
    assert interface_names(lab) == []
    assert lab.home.links("tun") == {}
    daemon.stop()


def test_bad_clients_do_not_disturb_forwarding(lab: Lab) -> None:
    """A thousand idle connections, partial requests and bodies of 10 MB, while numbered datagrams cross."""
    daemon = lab.daemon(CABLE)
    answers: list[str] = []
    bad_clients = threading.Thread(target=_bad_clients, args=(lab, answers))
    bad_clients.start()
    crossings = 0
    while bad_clients.is_alive() or not crossings:
        datagrams(lab["red"], lab["blue"], BLUE, 10_000)
        crossings += 1
    bad_clients.join()
    assert answers == ["epair0a epair0b", "EMSGSIZE"] * 10 + ["epair1a"]
    daemon.at_rest()
    daemon.assert_sleeps()
    daemon.stop()


def _bad_clients(lab: Lab, answers: list[str]) -> None:
    """Open a thousand bad connections; append the replies that well-behaved clients get in between."""
    post = b"POST /v1/interfaces HTTP/1.1\r\nhost: a\r\ncontent-length: 10000000\r\n\r\n"
    sent = [b"", b"GET /v1/inter", post + b"{", post + bytes(100_000)]
    body = lab.directory / "body"
    body.write_bytes(bytes(10_000_000))
    with ExitStack() as clients:
        for number in range(1000):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(control_socket(lab)))
            client.sendall(sent[number % len(sent)])
            if number % 100 == 0:
                answers.append(" ".join(interface_names(lab)))
                answer = curl(
                    lab, "/v1/interfaces", "--data-binary", f"@{body}", "-H", "Expect: 100-continue"
                )
                answers.append(json.loads(answer)["errno"])
        answers.append(epairctl(lab, "create", "epair").strip())


def test_requests_before_startup_is_complete_wait(lab: Lab) -> None:
    daemon = lab.launch("".join(f"[epair.epair{unit}]\n" for unit in range(30)))
    until(lambda: control_socket(lab).exists())
    assert len(interface_names(lab)) == 60
    assert daemon.running
    daemon.stop()


def test_a_daemon_that_was_killed_leaves_the_socket_to_the_next(lab: Lab) -> None:
    first = lab.daemon(CABLE)
    first.crash()
    assert control_socket(lab).is_socket()
    line = refused(lab, "list")
    assert line == f"the daemon is not running: no process listens at {control_socket(lab)}"
    second = lab.restart(first).wait_ready()
    assert interface_names(lab) == ["epair0a", "epair0b"]
    second.stop()
    assert refused(lab, "list").startswith("the daemon is not running: there is no ")


def test_a_socket_that_is_passed_is_used_and_left(lab: Lab) -> None:
    """The socket is passed as by a systemd socket unit."""
    path = lab.directory / "passed.sock"
    program = (
        "import os, socket, sys; listener = socket.socket(socket.AF_UNIX); listener.bind(sys.argv[1]);"
        "listener.listen(); os.dup2(listener.fileno(), 3); os.set_inheritable(3, True);"
        "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1', 'LISTEN_FDNAMES': 'control'};"
        "os.execv(sys.argv[2], sys.argv[2:])"
    )
    daemon = lab.launch(CABLE, wrapper=(sys.executable, "-c", program, str(path))).wait_ready()
    command = [EPAIRCTL, "--socket", str(path), "cloners"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert done.stdout == "epair\n"
    assert not control_socket(lab).exists()
    daemon.stop()
    assert path.is_socket()
