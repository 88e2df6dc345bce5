"""Ten seconds of create and destroy by four clients, through the API of a real daemon."""

from __future__ import annotations

import http.client
import json
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.scenarios.lab import Daemon, Lab
from tests.scenarios.page import Interface
from tests.waiting import DEADLINE_S, until

pytestmark = pytest.mark.real

RACING_S = 10.0
GRANTED = (200, 201, 204)
EXPECTED = {"EEXIST", "ENXIO", "EBUSY"}


class Client(http.client.HTTPConnection):
    """A client of the control socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("epaird", timeout=DEADLINE_S)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(DEADLINE_S)
        self.sock.connect(self._path)

    def request_error(self, method: str, path: str, body: object = None) -> str:
        """Return the errno's name of a refused request, or an empty string if it was granted."""
        text = None if body is None else json.dumps(body)
        self.request(method, f"/v1/interfaces{path}", text, {"Content-Type": "application/json"})
        answer = self.getresponse()
        reply = answer.read()
        if answer.status in GRANTED:
            return ""
        name: str = json.loads(reply)["errno"]
        return name


def test_four_clients_racing_leave_nothing(lab: Lab) -> None:
    red = lab.namespace("red")
    daemon = lab.daemon("[lo]\n", workers=2)
    sock = lab.directory / "run" / "control.sock"
    until(daemon.spares)  # its pipe is one of the daemon's descriptors
    daemon.metrics()  # libuv opens a descriptor of its own with its first connection
    descriptors = _descriptors(daemon)
    ending = time.monotonic() + RACING_S

    def client(number: int) -> dict[str, int]:
        choose = random.Random(number)
        connection, done = Client(sock), {"POST": 0, "DELETE": 0}
        while time.monotonic() < ending:
            name = choose.choice(("epair0", "epair1", "lo1", "lo2"))
            if choose.random() < 0.5:
                made = choose.choice((name, name.rstrip("0123456789")))
                place = {"a": {"netns": red.name}} if name.startswith("epair") else {"netns": red.name}
                refusal = connection.request_error(
                    "POST", "", {"name": made, "settings": choose.choice(({}, place))}
                )
                done["POST"] += not refusal
            else:
                refusal = connection.request_error("DELETE", f"/{name}")
                done["DELETE"] += not refusal
            if refusal not in {"", *EXPECTED}:
                raise AssertionError(refusal)
        connection.close()
        return done

    def reader() -> None:
        connection = Client(sock)
        while time.monotonic() < ending:
            assert not connection.request_error("GET", "")
            daemon.metrics()
        connection.close()

    with ThreadPoolExecutor(5) as threads:
        reading = threads.submit(reader)
        done = [each.result() for each in [threads.submit(client, number) for number in range(4)]]
        reading.result()
    assert min(sum(each[verb] for each in done) for verb in ("POST", "DELETE")) > 10
    last = Client(sock)
    for name in {each.pair or each.device for each in _interfaces(daemon)} - {"lo0"}:
        assert last.request_error("DELETE", f"/{name}") == ""
    last.close()
    assert set(lab.home.links("tun")) == {"lo0"}
    assert not red.links("tun")
    assert daemon.metrics().devices() == ["lo0"]
    until(lambda: _descriptors(daemon) <= descriptors, lambda: f"{_descriptors(daemon)} > {descriptors}")


def _interfaces(daemon: Daemon) -> list[Interface]:
    page = daemon.metrics()
    return [page.interface(device) for device in page.devices()]


def _descriptors(daemon: Daemon) -> int:
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (daemon.pid, *daemon.workers()))
