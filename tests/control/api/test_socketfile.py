"""The control socket's file when daemons start and stop."""

from __future__ import annotations

import socket
import stat
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from epaird.control.api.socketfile import SocketFile
from epaird.control.http.listening import ListenError
from tests.control.control_server import Control, serving
from tests.waiting import DEADLINE_S


def test_the_directory_is_created_and_the_file_removed_with_the_daemon(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "control.sock"
    with serving(path):
        assert stat.S_ISSOCK(path.stat().st_mode)
    assert list(path.parent.iterdir()) == []


def test_the_file_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with serving(path) as control:
        assert control.curl("/v1/cloners").status == 200


def test_the_file_of_a_running_daemon_is_never_replaced(control: Control) -> None:
    with pytest.raises(ListenError) as caught:
        Control(control.path).start()
    assert str(caught.value) == f"daemon.control_socket: {control.path}: another epaird listens there"
    assert control.curl("/v1/cloners").status == 200


def test_one_of_many_daemons_that_start_at_once_listens(tmp_path: Path) -> None:
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


def test_a_daemon_with_a_full_backlog_is_running_too(tmp_path: Path) -> None:
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


def test_a_file_that_is_not_a_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("mine")
    with pytest.raises(ListenError, match="exists and is not a socket"):
        Control(path).start()
    assert path.read_text() == "mine"


def test_a_directory_that_cannot_be_created_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ListenError, match=r"^daemon\.control_socket: .*: Not a directory$"):
        Control(tmp_path / "file" / "control.sock").start()
