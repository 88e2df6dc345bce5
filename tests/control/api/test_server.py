"""Connections to the control socket: their number, their time, and the server's start and stop."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from epaird.control.api import server as apiserver
from epaird.control.api.credentials import Peer
from epaird.control.api.server import ControlServer
from tests.control.control_server import Answer, Control, serving
from tests.control.operations import FakeOperations
from tests.loop import on_loop
from tests.waiting import DEADLINE_S, until, until_closed

GET = b"GET /v1/cloners HTTP/1.1\r\nhost: epaird\r\n\r\n"


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_requests_other_than_http_get_a_problem_document_too(control: Control) -> None:
    with control.connect(b"hello\r\n\r\n") as connection:
        head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert b"application/problem+json" in head
    assert json.loads(body)["errno"] == "EINVAL"


def test_a_thousand_idle_connections_hold_few_descriptors_and_lock_no_client_out(control: Control) -> None:
    sent = [
        (),
        (b"GET /v1/cl",),
        (GET,),
        (b"POST /v1/interfaces HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{",),
    ]
    before = descriptors()
    with ExitStack() as open_connections:
        for number in range(1000):
            open_connections.enter_context(control.connect(*sent[number % 4]))
        assert control.curl("/v1/cloners").status == 200
        assert control.curl("/v1/interfaces", data={"name": "epair"}).status == 201
        until(lambda: descriptors() - before - 1000 <= apiserver.LIMITS.connections)


def test_a_request_under_way_and_a_reader_of_events_outlive_a_thousand_idle_connections(
    control: Control,
) -> None:
    control.on_loop(control.operations.gate.clear)
    reader = control.connect(b"GET /v1/events HTTP/1.1\r\nhost: a\r\n\r\n")
    body = b'{"name": "epair"}'
    changes = [
        control.connect(b"POST /v1/interfaces HTTP/1.1\r\nhost: a\r\ncontent-length: 17\r\n\r\n" + body)
        for _ in range(100)
    ]
    until(lambda: control.operations.waiting == 100)
    with ExitStack() as open_connections:
        for _ in range(1000):
            open_connections.enter_context(control.connect(b"GET /v1"))
        control.on_loop(control.operations.gate.set)
        for connection in changes:
            with connection:
                assert connection.recv(65536).startswith(b"HTTP/1.1 201")
    with reader:
        text = b""
        while text.count(b'"created"') < 16:  # the rest is lost while the client does not read
            text += reader.recv(65536)


def test_a_half_request_is_cut_and_a_long_change_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apiserver, "LIMITS", replace(apiserver.LIMITS, exchange_seconds=0.2))
    with serving(tmp_path / "control.sock") as control:
        control.on_loop(control.operations.gate.clear)
        change = control.connect(b"DELETE /v1/interfaces/nix HTTP/1.1\r\nhost: a\r\n\r\n")
        reader = control.connect(b"GET /v1/events HTTP/1.1\r\nhost: a\r\n\r\n")
        for _ in range(2):
            assert until_closed(control.connect(b"GET /v1/cloners HTTP/1.1\r\n")) == b""
        half_a_body = b"POST /v1/interfaces HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{"
        assert until_closed(control.connect(half_a_body)) == b""
        control.on_loop(control.operations.gate.set)
        with change:
            assert change.recv(65536).startswith(b"HTTP/1.1 404")
        control.on_loop(lambda: control.operations.bus.publish("up", "epair0a"))
        with reader:
            text = b""
            while b'"up"' not in text:
                part = reader.recv(65536)
                assert part, "the stream was cut"
                text += part


def test_one_client_never_waits_for_another(control: Control) -> None:
    control.on_loop(control.operations.gate.clear)
    slow = control.connect(b"DELETE /v1/interfaces/nix HTTP/1.1\r\nhost: a\r\n\r\n")
    until(lambda: control.operations.waiting == 1)
    assert control.curl("/v1/interfaces").json == []
    control.on_loop(control.operations.gate.set)
    with slow:
        assert slow.recv(65536).startswith(b"HTTP/1.1 404")


def test_clients_that_connect_early_wait(tmp_path: Path) -> None:
    control = Control(tmp_path / "control.sock")
    early: list[Answer] = []
    client = threading.Thread(target=lambda: early.append(control.curl("/v1/cloners")))

    def bound() -> None:
        client.start()
        until(lambda: _waiting_in(control.path))

    control.bound = bound
    control.start()
    client.join(DEADLINE_S)
    control.stop()
    assert [answer.status for answer in early] == [200]


def _waiting_in(path: Path) -> bool:
    """Return True while a client has connected and is not accepted."""
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return any(line[-1] == str(path) and line[5] == "02" for line in lines)  # SS_CONNECTING


def test_bytes_after_the_last_request_do_not_replace_its_answer(control: Control) -> None:
    body = b'{"name": "epair7"}'
    request = b"POST /v1/interfaces HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"
    control.on_loop(control.operations.gate.clear)
    connection = control.connect(request % (len(body), body))
    until(lambda: control.operations.waiting)
    connection.sendall(b"GET /v1/cloners HTTP/1.1\r\nhost: a\r\n\r\n")
    control.curl("/v1/cloners")  # the bytes were read before this
    control.on_loop(control.operations.gate.set)
    assert until_closed(connection).startswith(b"HTTP/1.1 201 ")
    assert "epair7" in control.operations.interfaces


def test_a_user_has_few_connections_and_root_is_not_locked_out(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = Peer(1, 1000, 1000)
    monkeypatch.setattr(apiserver, "peer_of", lambda _: user)
    monkeypatch.setattr(apiserver, "may_control", lambda *_: True)
    control.curl("/v1/cloners")  # with the first connection libuv opens a descriptor of its own
    before = descriptors()
    with ExitStack() as opened:
        for _ in range(100):
            opened.enter_context(control.connect())
        until(lambda: descriptors() - before - 100 <= apiserver.OF_USER_MAX)
        assert control.curl("/v1/cloners").status == 200, "it takes the place of the longest silent one"
    control.on_loop(control.operations.gate.clear)
    body = b"DELETE /v1/interfaces/nix HTTP/1.1\r\nhost: a\r\n\r\n"
    with ExitStack() as busy:
        changes = [busy.enter_context(control.connect(body)) for _ in range(apiserver.OF_USER_MAX)]
        until(lambda: control.operations.waiting == apiserver.OF_USER_MAX)
        problem = control.curl("/v1/cloners").problem
        assert (problem["status"], problem["errno"]) == (503, "EMFILE")
        assert problem["detail"] == "user 1000 has 32 connections: try again later"
        monkeypatch.setattr(apiserver, "peer_of", lambda _: Peer(1, 0, 0))
        assert control.curl("/v1/cloners").status == 200
        control.on_loop(control.operations.gate.set)
        for change in changes:
            assert change.recv(65536).startswith(b"HTTP/1.1 404")


def test_a_file_that_is_removed_is_bound_again_and_clients_stay(control: Control) -> None:
    early = control.connect()
    follower = control.connect(b"GET /v1/events HTTP/1.1\r\nhost: a\r\n\r\n")
    until(lambda: control.operations.readers)
    control.path.unlink()
    assert not control.on_loop(lambda: control.server.has_file)
    control.run(control.server.restore_file())
    assert control.on_loop(lambda: control.server.has_file)
    assert control.curl("/v1/interfaces", data={"name": "epair"}).status == 201
    early.sendall(GET)
    assert early.recv(65536).startswith(b"HTTP/1.1 200")
    text = b""
    while b"created" not in text:
        text += follower.recv(65536)
    early.close()
    follower.close()


@on_loop
async def test_a_socket_of_the_service_manager_gets_a_file_again(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    passed = socket.socket(socket.AF_UNIX)
    passed.bind(str(path))
    passed.listen()
    server = ControlServer.inherit(passed, FakeOperations())
    await server.start()
    assert server.has_file
    for _ in range(2):
        path.unlink()
        assert not server.has_file
        await server.restore_file()
        assert server.has_file
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(GET)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
    (inherited, first), (own, second) = server.hand_over()
    assert (inherited, own) == (False, True)
    os.close(first)
    os.close(second)
    await server.stop()
    assert path.exists(), "it is left to the next control plane"
