"""The socket of a worker process."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from epaird.control.workers.socketfile import by_directory, listening_socket, socket_name


def test_only_the_owner_may_connect(tmp_path: Path) -> None:
    path = tmp_path / socket_name(4711)
    with listening_socket(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert list(tmp_path.glob(socket_name("*"))) == [path]


def test_a_path_of_any_length_is_bound_and_connected(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 200)
    directory.mkdir()
    path = directory / socket_name(1)
    with listening_socket(path), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        with by_directory(path) as short:
            assert len(short) < 108
            client.connect(short)
        assert client.getpeername() != ""


def test_a_file_that_is_there_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / socket_name(1)
    path.write_text("left")
    with listening_socket(path):
        assert path.is_socket()


def test_a_directory_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        listening_socket(tmp_path / "no" / socket_name(1))
