"""The client against the API on a control socket, over operations without interfaces."""

from __future__ import annotations

import itertools
import socket
import threading
from pathlib import Path

import pytest

from epaird.client import client as client_module
from epaird.client.client import Client, DaemonError
from epaird.client.events import Event
from epaird.client.models import CreatedInterface
from epaird.plan.actions import Action
from tests.control.control_server import Control
from tests.waiting import until


@pytest.fixture
def client(control: Control) -> Client:
    """A client of a daemon with epair0 and lo1."""
    made = Client(str(control.path))
    assert made.create("epair", {}) == "epair0"
    assert made.create("lo1", {}) == "lo1"
    return made


def test_a_created_interface_has_the_names_of_its_devices(client: Client) -> None:
    made = client.create_interface("epair", {})
    assert made == CreatedInterface("epair1", ["epair1a", "epair1b"])
    assert client.create_interface("lo7", {}) == CreatedInterface("lo7", ["lo7"])
    assert CreatedInterface.parse({"name": "epair1"}).devices == []  # a daemon of 0.2.0


def test_interfaces(client: Client) -> None:
    assert client.cloners() == ["epair", "lo"]
    assert [each.device for each in client.interfaces()] == ["epair0a", "epair0b", "lo1"]
    assert [each.device for each in client.interfaces("lo")] == ["lo1"]
    half = client.interface("epair0b")[0]
    assert (half.device, half.peer, half.mtu, half.up) == ("epair0b", "epair0a", 1500, True)
    assert half.stats.opackets == half.stats.oerrors["peer_down"] == half.stats.too_big == 0


def test_changes(client: Client, control: Control) -> None:
    assert [each.mtu for each in client.change("epair0a", {"mtu": 9000})] == [9000]
    client.patch("epair0a", "epair0b", force=True)
    client.unpatch("epair0a")
    client.destroy("lo1")
    client.upgrade()
    assert control.operations.requested[2:] == [
        ("change", "epair0a", {"mtu": 9000}), ("patch", "epair0a", "epair0b", True), ("unpatch", "epair0a"),
        ("destroy", "lo1"), ("upgrade",),
    ]  # fmt: skip


def test_impairments(client: Client, control: Control) -> None:
    (direction,) = client.impairment("epair0").directions
    assert (direction.impairment, direction.seed) == ({"delay": "100ms"}, 7)
    client.impair("epair0", {"loss": "1%", "delay": None})
    client.impair("epair0a", {"loss": "1%"}, whole=True, duration="30s")
    client.stop_impairing("epair0")
    client.stop_impairing("epair0", duration="1.5s")
    decisions = client.decisions("epair0a", 2)
    client.replay("epair0a", decisions)
    assert control.operations.requested[2:] == [
        ("impair", "epair0", {"loss": "1%", "delay": None}, False, None),
        ("impair", "epair0a", {"loss": "1%"}, True, 30.0),
        ("impair", "epair0", {}, True, None), ("impair", "epair0", {}, True, 1.5),
        ("replay", "epair0a", [(0, 1), (1, 1)]),
    ]  # fmt: skip


def test_statistics_are_of_one_moment(client: Client) -> None:
    first, second = client.statistics(), client.statistics()
    assert second.time > first.time
    assert [each.device for each in first.interfaces] == ["epair0a", "epair0b", "lo1"]
    assert (first.workers[0].queue_limit, first.workers[0].alive) == (2100, True)


def test_plans_and_the_configuration(client: Client, control: Control) -> None:
    control.reloads.actions = (Action("create", "epair", "epair1"),)
    assert client.plan("[epair.epair1]\n", "new.toml").changes
    assert [each.name for each in client.reload(dry_run=True).actions] == ["epair1"]
    client.reload()
    assert control.reloads.requested == [
        ("plan", "[epair.epair1]\n", "new.toml"), ("reload", True), ("reload", False),
    ]  # fmt: skip
    assert client.configuration() == "# r\u00e9d\n[epair.epair0]\n"


def test_events_are_yielded_as_they_happen(client: Client, control: Control) -> None:
    seen: list[Event] = []
    reader = threading.Thread(target=lambda: seen.extend(itertools.islice(client.events(), 2)))
    reader.start()
    until(lambda: control.operations.readers)
    client.create("epair", {})
    client.destroy("epair1")
    reader.join()
    assert [(each.what, each.interface) for each in seen] == [("created", "epair1"), ("destroyed", "epair1")]


def test_a_refusal_is_an_error_with_every_problem(client: Client, control: Control) -> None:
    with pytest.raises(DaemonError, match=r"^epair0: exists already \(EEXIST\)$"):
        client.create("epair0", {})
    with pytest.raises(DaemonError, match=r'^there is no interface "a/b" \(ENXIO\)$'):
        client.interface("a/b")
    control.reloads.problems = ("a.b: is wrong", "c: too")
    with pytest.raises(DaemonError) as caught:
        client.reload()
    assert caught.value.problems == ("a.b: is wrong", "c: too")


@pytest.mark.parametrize("name", ["nix", "n x", "%41", "r\u00e9d", "\udcff"])
def test_every_name_arrives_as_it_is(client: Client, name: str) -> None:
    with pytest.raises(DaemonError, match="there is no interface"):
        client.interface(name)
    with pytest.raises(DaemonError, match="is none of epair, lo"):
        client.interfaces(name)


def test_an_answer_that_takes_long_is_announced(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "SLOW_S", 0.01)
    control.on_loop(control.operations.gate.clear)
    slow = Client(str(control.path), lambda: control.on_loop(control.operations.gate.set))
    assert slow.create("epair", {}) == "epair0"


def test_a_daemon_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "silent.sock"
    with pytest.raises(DaemonError, match="the daemon is not running: there is no "):
        Client(str(path)).cloners()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(DaemonError, match="the daemon does not answer"):
            Client(str(path)).ask("GET", "cloners", timeout_s=0.01)


@pytest.mark.parametrize("body", [b"[1]", b'[{"device": "epair0a"}]', b"hello", b"[null]"])
def test_an_answer_of_another_program_is_an_error(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "other.sock"

    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        with pytest.raises(DaemonError, match="the program at the control socket is not epaird"):
            Client(str(path)).interfaces()
        thread.join()
