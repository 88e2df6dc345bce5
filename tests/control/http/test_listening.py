"""Listening sockets, and addresses at which none can listen."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from epaird.control.http.listening import ListenError, listen
from epaird.control.metrics.server import KEY


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ListenError) as caught:
            listen(KEY, "127.0.0.1", port)
    assert str(caught.value) == f"metrics.listen: 127.0.0.1:{port} is in use by another program"


def test_an_address_of_another_machine_is_one_clear_line() -> None:
    with pytest.raises(ListenError) as caught:
        listen(KEY, "192.0.2.1", 9862)
    assert str(caught.value) == "metrics.listen: 192.0.2.1:9862 is no address of this machine"


def test_an_unknown_name_is_one_clear_line() -> None:
    with pytest.raises(ListenError) as caught:
        listen(KEY, "no such host", 9862)
    assert str(caught.value) == "metrics.listen: 'no such host' is neither an address nor a known host name"


def test_other_faults_are_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        raise OSError(errno.ENOMEM, "")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(ListenError) as caught:
        listen(KEY, "::1", 9862)
    assert str(caught.value) == f"metrics.listen: [::1]:9862: {os.strerror(errno.ENOMEM)}"
