"""The process that has sent a message, as the kernel reports it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from epaird.kernel import abi
from epaird.kernel.senders import (
    has_ended,
    kill_process,
    open_process,
    reap_process,
    receive_packet,
    report_senders,
)

SENDER = """
import os, socket, sys
end = socket.socket(fileno=int(sys.argv[1]))
socket.send_fds(end, [b"I am pid 1"], [int(sys.argv[1])])
if os.fork() == 0:
    end.send(b"so am I")
    os._exit(0)
os.wait()
end.send(b"for ever")
end.recv(1)
"""


def pid_of(pidfd: int) -> int:
    with open(f"/proc/self/fdinfo/{pidfd}") as info:  # noqa: PTH123  a descriptor, not a path
        return next(int(line.split()[1]) for line in info if line.startswith("Pid:"))


@pytest.mark.parametrize("pidfds", [True, False], ids=["pidfds", "Linux before 6.5"])
def test_each_message_has_its_own_sender(monkeypatch: pytest.MonkeyPatch, pidfds: bool) -> None:
    if not pidfds:
        monkeypatch.setattr(abi, "SO_PASSPIDFD", 9999)
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.settimeout(30)
    report_senders(near, on=True)
    command = [sys.executable, "-I", "-S", "-c", SENDER, str(far.fileno())]
    with near, subprocess.Popen(command, pass_fds=(far.fileno(),)) as process:
        far.close()
        first, second, third = (receive_packet(near) for _ in range(3))
        assert [each.data for each in (first, second, third)] == [b"I am pid 1", b"so am I", b"for ever"]
        assert [len(each.fds) for each in (first, second, third)] == [1, 0, 0]
        for each in (first, third):
            assert each.sender is not None
            assert (each.sender.pid, each.sender.uid) == (process.pid, os.getuid())
            if each.sender.pidfd is None:
                assert not pidfds
            else:
                assert pidfds
                assert pid_of(each.sender.pidfd) == process.pid
                os.close(each.sender.pidfd)
        assert second.sender is not None
        assert second.sender.pid not in (process.pid, os.getpid())
        for fd in first.fds:
            os.close(fd)
        if second.sender.pidfd is not None:
            os.close(second.sender.pidfd)
        near.send(b".")


def test_nothing_is_reported_when_it_was_not_requested() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        report_senders(near, on=True)
        report_senders(near, on=False)
        far.send(b"hello")
        assert receive_packet(near).sender is None


def test_descriptors_that_cannot_be_received_are_reported_as_missing() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        far.send(bytes(100_000))
        packet = receive_packet(near)
        assert packet.cut
        assert len(packet.data) == 65536


def test_the_end_is_an_empty_packet() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near:
        far.close()
        assert receive_packet(near).data == b""


def test_a_process_is_killed_and_reaped() -> None:
    process = subprocess.Popen(["sleep", "1000"])
    pidfd = open_process(process.pid)
    assert pidfd is not None
    assert not has_ended(pidfd)
    assert reap_process(pidfd) == 0, "it lives"
    kill_process(pidfd, 30)
    assert has_ended(pidfd)
    assert open_process(process.pid) is None, "it was reaped"
    kill_process(pidfd, 30)
    os.close(pidfd)
    process.returncode = -signal.SIGKILL


@pytest.mark.parametrize(
    ("command", "status"), [("exit 3", 3), ("kill -TERM $$", -signal.SIGTERM)], ids=["exit", "signal"]
)
def test_the_status_of_a_child(command: str, status: int) -> None:
    process = subprocess.Popen(["sh", "-c", command])
    pidfd = os.pidfd_open(process.pid)
    assert has_ended(pidfd, 30)
    assert reap_process(pidfd) == status
    os.close(pidfd)
    process.returncode = status


@pytest.mark.parametrize("pid", [0, -1, 1 << 22, 1 << 40])
def test_no_process(pid: int) -> None:
    assert open_process(pid) is None
