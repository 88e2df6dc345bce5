"""What clients may do to the control socket, and what becomes of it when daemons start and stop."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from epaird.control.api import credentials, guard
from epaird.control.api import server as apiserver
from epaird.control.api.credentials import Peer, may_control, peer_of
from epaird.control.api.socketfile import SocketFile
from epaird.control.http.listening import ListenError
from tests.control.control_server import Answer, Control, serving
from tests.waiting import DEADLINE_S, until, until_closed

GET = b"GET /v1/cloners HTTP/1.1\r\nhost: epaird\r\n\r\n"


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# Bodies and connections


def test_ten_megabytes_are_refused_before_they_are_sent(control: Control, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b'{"name": "' + b"x" * 10_000_000 + b'"}')
    answer = control.curl("/v1/interfaces", "--data-binary", f"@{body}")
    assert (answer.status, answer.problem["errno"]) == (413, "EMSGSIZE")
    chunked = control.curl("/v1/interfaces", "--data-binary", f"@{body}", "-H", "transfer-encoding: chunked")
    assert (chunked.status, chunked.problem["errno"]) == (413, "EMSGSIZE")
    assert control.operations.asked == []


def test_ten_megabytes_that_are_sent_all_the_same_disturb_nobody(control: Control) -> None:
    said = b"POST /v1/interfaces HTTP/1.1\r\nhost: a\r\ncontent-length: 10000000\r\n\r\n"
    with control.connect(said) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(bytes(10_000_000))
        assert control.curl("/v1/cloners").status == 200


def test_a_body_of_the_most_that_is_taken_is_taken(control: Control, tmp_path: Path) -> None:
    body = tmp_path / "body"
    for size, status in ((guard.BODY_MAX, 201), (guard.BODY_MAX + 1, 413)):
        body.write_bytes(b'{"name": "epair"}'.ljust(size))
        for options in ((), ("-H", "transfer-encoding: chunked")):
            answer = control.curl("/v1/interfaces", "--data-binary", f"@{body}", *options)
            assert answer.status == status


def test_a_thousand_idle_connections_hold_few_descriptors_and_lock_nobody_out(control: Control) -> None:
    said = [
        (),
        (b"GET /v1/cl",),
        (GET,),
        (b"POST /v1/interfaces HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{",),
    ]
    before = descriptors()
    with ExitStack() as open_connections:
        for number in range(1000):
            open_connections.enter_context(control.connect(*said[number % 4]))
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
        while text.count(b'"created"') < 16:  # the rest is lost while nobody reads
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
        control.on_loop(lambda: control.operations.bus.tell("up", "epair0a"))
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


def test_a_client_that_goes_does_not_stop_its_change(control: Control) -> None:
    control.on_loop(control.operations.gate.clear)
    body = b'{"name": "epair5"}'
    control.connect(b"POST /v1/interfaces HTTP/1.1\r\nhost: a\r\ncontent-length: 18\r\n\r\n" + body).close()
    until(lambda: control.operations.waiting == 1)
    control.on_loop(control.operations.gate.set)
    until(lambda: control.operations.asked == [("create", "epair5", {})])


# The daemon starts and stops


def test_clients_that_come_early_wait(tmp_path: Path) -> None:
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
    """Somebody has connected whom nobody has accepted."""
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return any(line[-1] == str(path) and line[5] == "02" for line in lines)  # SS_CONNECTING


def test_the_directory_is_made_and_the_file_goes_with_the_daemon(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "control.sock"
    with serving(path):
        assert stat.S_ISSOCK(path.stat().st_mode)
    assert list(path.parent.iterdir()) == []


def test_a_reader_of_events_is_told_the_end(tmp_path: Path) -> None:
    with serving(tmp_path / "control.sock") as control:
        reader = control.connect(b"GET /v1/events HTTP/1.1\r\nhost: a\r\n\r\n")
        until(lambda: control.operations.readers)
    text = until_closed(reader)
    assert text.startswith(b"HTTP/1.1 200")
    assert text.endswith(b"0\r\n\r\n")


def test_a_change_that_the_daemons_end_leaves_no_time_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apiserver, "LIMITS", replace(apiserver.LIMITS, stop_seconds=0.05))
    with serving(tmp_path / "control.sock") as control:
        control.on_loop(control.operations.gate.clear)
        change = control.connect(b"DELETE /v1/interfaces/nix HTTP/1.1\r\nhost: a\r\n\r\n")
        until(lambda: control.operations.waiting == 1)
    until_closed(change)


def test_requests_that_come_too_late_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apiserver, "LIMITS", replace(apiserver.LIMITS, stop_seconds=DEADLINE_S))
    with serving(tmp_path / "control.sock") as control:
        control.on_loop(control.operations.gate.clear)
        change = control.connect(b"DELETE /v1/interfaces/nix HTTP/1.1\r\nhost: a\r\n\r\n")
        half = control.connect(b"DELETE /v1/interfaces/nix HTTP/1.1\r\nhost: a\r\n")
        until(lambda: control.operations.waiting == 1)
        late = control.connect(b"DELETE /v1/interfaces/nix HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n")
        control.stop_soon()
        until(lambda: not control.path.exists())
        late.sendall(b"x")
        answer = until_closed(late)
        control.on_loop(control.operations.gate.set)
        assert until_closed(change).startswith(b"HTTP/1.1 404")
    assert until_closed(half) == b""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503")
    assert json.loads(body)["errno"] == "ESHUTDOWN"


def test_the_file_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with serving(path) as control:
        assert control.curl("/v1/cloners").status == 200


def test_the_file_of_a_living_daemon_is_never(control: Control) -> None:
    with pytest.raises(ListenError) as caught:
        Control(control.path).start()
    assert str(caught.value) == f"daemon.control_socket: {control.path}: another epaird listens there"
    assert control.curl("/v1/cloners").status == 200


def test_of_many_that_start_at_once_one_listens(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        made: list[SocketFile] = []
        refused: list[ListenError] = []
        together = threading.Barrier(8)

        def start(
            made: list[SocketFile] = made,
            refused: list[ListenError] = refused,
            together: threading.Barrier = together,
        ) -> None:
            together.wait()
            try:
                made.append(SocketFile(path, None))
            except ListenError as error:
                refused.append(error)

        threads = [threading.Thread(target=start) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        (only,) = made
        assert len(refused) == 7
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        only.remove()
        only.listener.close()
        assert list(tmp_path.iterdir()) == []


def test_a_daemon_whose_clients_have_to_wait_is_alive_too(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as busy, ExitStack() as clients:
        busy.bind(str(path))
        busy.listen(0)
        for _ in range(3):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect_ex(str(path))
        with pytest.raises(ListenError, match="another epaird listens there"):
            Control(path).start()


def test_the_file_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with serving(path):
        path.rename(tmp_path / "moved.sock")
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(path))
    assert path.exists()


def test_what_is_not_a_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("mine")
    with pytest.raises(ListenError, match="exists and is not a socket"):
        Control(path).start()
    assert path.read_text() == "mine"


def test_a_directory_that_cannot_be_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ListenError, match=r"^daemon\.control_socket: .*: Not a directory$"):
        Control(tmp_path / "file" / "control.sock").start()


# Who may


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that everybody may enter, unlike pytest's own."""
    path = Path("/tmp", f"ept{os.getpid()}")  # noqa: S108 - nothing is read from it
    path.mkdir(mode=0o755)
    yield path
    shutil.rmtree(path)


def nobody(gid: int | None = None, groups: str = "--clear-groups") -> tuple[str, ...]:
    """What makes a command one of the user nobody's."""
    user = pwd.getpwnam("nobody")
    return ("setpriv", f"--reuid={user.pw_uid}", f"--regid={gid or user.pw_gid}", groups)


def test_the_socket_is_for_root_and_one_group(public: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apiserver, "group_id", lambda: os.getgid())
    with serving(public / "control.sock") as control:
        status = control.path.stat()
    assert stat.S_IMODE(status.st_mode) == 0o660
    assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid())


@pytest.mark.real
def test_a_stranger_cannot_connect(public: Path) -> None:
    with serving(public / "control.sock") as control:
        done = subprocess.run(
            [*nobody(), "curl", "-sS", "--unix-socket", str(control.path), "http://epaird/v1/cloners"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 7  # CURLE_COULDNT_CONNECT


@pytest.mark.real
def test_a_stranger_who_connects_is_refused_everywhere(public: Path) -> None:
    with serving(public / "control.sock") as control:
        control.path.chmod(0o666)
        for path in ("/v1/interfaces", "/v1/events", "/v1/openapi.json", "/nowhere"):
            answer = control.curl(path, as_user=nobody())
            assert (answer.status, answer.problem["errno"]) == (403, "EPERM")
            assert answer.headers["connection"] == "close"
        created = control.curl("/v1/interfaces", data={"name": "epair"}, as_user=nobody())
        assert created.status == 403
        assert control.operations.asked == []


@pytest.mark.real
@pytest.mark.parametrize("who", [nobody(4242), nobody(groups="--groups=7,4242")])
def test_members_of_the_group_may(
    public: Path, monkeypatch: pytest.MonkeyPatch, who: tuple[str, ...]
) -> None:
    monkeypatch.setattr(apiserver, "group_id", lambda: 4242)
    with serving(public / "control.sock") as control:
        assert control.path.stat().st_gid == 4242
        answer = control.curl("/v1/interfaces", data={"name": "epair"}, as_user=who)
        assert answer.status == 201


def test_who_may_control() -> None:
    own = os.geteuid()
    stranger = Peer(pid=1, uid=own + 1000, gid=1000, groups=frozenset({1000, 1001}))
    assert may_control(Peer(1, 0, 0), None)
    assert may_control(Peer(1, own, 99), None)
    assert not may_control(stranger, None)
    assert not may_control(stranger, 1002)
    assert may_control(stranger, 1000)
    assert may_control(stranger, 1001)


def test_the_peer_is_who_connected() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.getuid(), os.getgid())
    assert peer.groups == frozenset(os.getgroups())


def test_there_may_be_no_such_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "GROUP", "no such group")
    assert credentials.group_id() is None
    monkeypatch.setattr(credentials, "GROUP", "root")
    assert credentials.group_id() == 0
