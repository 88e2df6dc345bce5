"""The users who may control the daemon, by their credentials."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from epaird.control.api import credentials
from epaird.control.api import server as apiserver
from epaird.control.api.credentials import Peer, may_control, peer_of
from tests.control.control_server import serving


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user may enter, unlike pytest's own."""
    path = Path("/tmp", f"ept{os.getpid()}")  # noqa: S108 - nothing is read from it
    path.mkdir(mode=0o755)
    yield path
    shutil.rmtree(path)


def nobody(gid: int | None = None, groups: str = "--clear-groups") -> tuple[str, ...]:
    """Return the words before a command that run it as the user nobody."""
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
        assert control.operations.requested == []


@pytest.mark.real
@pytest.mark.parametrize("member", [nobody(4242), nobody(groups="--groups=7,4242")])
def test_members_of_the_group_may(
    public: Path, monkeypatch: pytest.MonkeyPatch, member: tuple[str, ...]
) -> None:
    monkeypatch.setattr(apiserver, "group_id", lambda: 4242)
    with serving(public / "control.sock") as control:
        assert control.path.stat().st_gid == 4242
        answer = control.curl("/v1/interfaces", data={"name": "epair"}, as_user=member)
        assert answer.status == 201


def test_root_the_own_user_and_the_group_may_control() -> None:
    own = os.geteuid()
    stranger = Peer(pid=1, uid=own + 1000, gid=1000, groups=frozenset({1000, 1001}))
    assert may_control(Peer(1, 0, 0), None)
    assert may_control(Peer(1, own, 99), None)
    assert not may_control(stranger, None)
    assert not may_control(stranger, 1002)
    assert may_control(stranger, 1000)
    assert may_control(stranger, 1001)


def test_the_peer_is_the_process_that_connected() -> None:
    accepted, client = socket.socketpair(socket.AF_UNIX)
    with accepted, client:
        peer = peer_of(accepted)
    assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.getuid(), os.getgid())
    assert peer.groups == frozenset(os.getgroups())


def test_the_group_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "GROUP", "no such group")
    assert credentials.group_id() is None
    monkeypatch.setattr(credentials, "GROUP", "root")
    assert credentials.group_id() == 0
