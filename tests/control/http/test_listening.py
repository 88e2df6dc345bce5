"""Listening sockets, and addresses at which none can listen."""

from __future__ import annotations

import errno
import os
import socket
import subprocess

import pytest

from epaird.control.http.listening import ListenError, host_port, listen
from epaird.control.metrics.server import KEY
from epaird.kernel import namespace
from tests.kernel.named import within


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


def test_a_socket_that_listens_there_already_is_kept() -> None:
    with socket.create_server(("127.0.0.1", 0)) as current:
        port = current.getsockname()[1]
        assert listen(KEY, "127.0.0.1", port, current) is current
        assert listen(KEY, "127.0.0.1", 0, current) is current


@pytest.mark.real
def test_a_link_local_address_of_an_interface() -> None:
    name = f"ept{os.getpid()}listen"
    namespace.create(name)
    try:
        for command in ("link add v0 type veth peer name v1", "link set v1 up", "link set v0 up"):
            subprocess.run(["ip", "-n", name, *command.split()], check=True)
        subprocess.run(["ip", "-n", name, "address", "add", "fe80::5/64", "dev", "v0", "nodad"], check=True)
        with within(name), listen("metrics.listen", "fe80::5%v0", 0) as first:
            port = first.getsockname()[1]
            assert listen("metrics.listen", "fe80::5%v0", port, first) is first
            with socket.create_connection(("fe80::5%v0", port)):
                pass
    finally:
        namespace.remove(name)


def test_an_address_that_includes_the_current_one_has_its_port_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as current:
        port = current.getsockname()[1]
        with listen(KEY, "0.0.0.0", port, current) as other:  # noqa: S104
            assert other.getsockname() == ("0.0.0.0", port)  # noqa: S104
            for each in (current, other):
                assert each.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
            with pytest.raises(ListenError, match="is in use by another program"):
                listen(KEY, "127.0.0.1", port)


def test_an_address_as_a_url_has_it() -> None:
    assert (host_port("127.0.0.1", 80), host_port("::1", 80)) == ("127.0.0.1:80", "[::1]:80")
