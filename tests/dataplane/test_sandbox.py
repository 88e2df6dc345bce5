"""The sandbox of a worker: what it denies, and what still works in it."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys

import pytest

from epaird.dataplane.sandbox import ALLOWED, Sandbox, rules
from epaird.kernel import isolation, landlock, privileges, seccomp
from epaird.kernel.errors import KernelError
from epaird.kernel.syscalls import SYSCALLS

ENTER = """
import gc, os, resource, signal, sys, time, traceback, random
from epaird.dataplane.sandbox import Sandbox
sandbox = Sandbox()
sandbox.prepare()
sandbox.close()
assert not sandbox.description().missing, sandbox.description()
"""

needs_x86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="has the numbers of x86_64 only")


def confined(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in the sandbox."""
    command = [sys.executable, "-c", ENTER + program]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


@needs_x86
@pytest.mark.real
def test_everything_that_reaches_beyond_the_process_is_denied() -> None:
    command = [sys.executable, "-m", "tests.dataplane.confined", __file__]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    report = json.loads(done.stdout)
    assert report["missing"] == []
    assert report["environment"] == {}
    assert {name: code for name, code in report["attempts"].items() if code != errno.EPERM} == {}
    assert {name: code for name, code in report["python"].items() if code != errno.EPERM} == {}


@pytest.mark.real
def test_memory_grows_and_shrinks() -> None:
    done = confined(
        "held = [bytearray(1 << 20) for _ in range(200)]\nsmall = [object() for _ in range(10**6)]\n"
        "del held, small\ngc.collect()\nrandom.random(); os.urandom(8); time.sleep(0.001)\n"
        "time.process_time_ns(); os.sched_getaffinity(0); os.sched_yield()\nos.write(1, b'done')\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done", "")


@pytest.mark.real
def test_descriptors_and_the_name_of_the_process_can_be_changed() -> None:
    done = confined(
        "import ctypes, fcntl\nfrom epaird.kernel import abi\n"
        "fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL))\n"
        "copy = os.dup(1)\nos.set_inheritable(copy, False)\nos.set_blocking(copy, True)\nos.close(copy)\n"
        "assert ctypes.CDLL(None).prctl(abi.PR_SET_NAME, b'confined') == 0\nos.write(1, b'done')\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done", "")


@pytest.mark.real
def test_a_traceback_is_printed_without_the_lines_of_the_source() -> None:
    done = confined("def fails():\n    raise ValueError('seen')\nfails()\n")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.endswith("ValueError: seen\n")


@pytest.mark.real
def test_abort_still_ends_the_process_by_its_signal() -> None:
    assert confined("os.abort()\n").returncode == -signal.SIGABRT


@pytest.mark.real
def test_its_resource_limits_are_0() -> None:
    done = confined("")
    assert done.returncode == 0, done.stderr
    program = (
        "from epaird.kernel import privileges\nimport resource\nprivileges.limit_resources()\n"
        "print([resource.getrlimit(each) for each in privileges.LIMITS])"
    )
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert shown.stdout == f"{[(0, 0)] * len(privileges.LIMITS)}\n"
    assert resource.RLIMIT_NPROC in privileges.LIMITS
    assert resource.RLIMIT_FSIZE in privileges.LIMITS


@pytest.mark.parametrize("machine", sorted(SYSCALLS))
def test_each_machine_has_what_the_hot_path_calls(machine: str) -> None:
    numbers = SYSCALLS[machine]
    for name in ("read", "write", "epoll_pwait", "sched_yield", "sendmsg", "recvmsg", "ppoll", "munmap"):
        assert name in ALLOWED
        assert name in numbers
    assert set(rules(1)) <= numbers.keys()
    assert not set(ALLOWED) & set(rules(1))
    assert set(ALLOWED) <= {name for each in SYSCALLS.values() for name in each}


@pytest.mark.real
def test_in_a_user_namespace_the_user_that_is_kept_is_reported_as_missing() -> None:
    program = (
        "from epaird.dataplane.sandbox import Sandbox\nsandbox = Sandbox()\nsandbox.prepare()\n"
        "sandbox.close()\nprint(*sandbox.description().missing, sep='|')"
    )
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", program]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert [each.partition(":")[0] for each in done.stdout.split("|")] == ["changing to user 65534"]


def test_a_layer_that_the_machine_lacks_is_reported_and_the_others_are_applied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    applied: list[str] = []

    def lacking(name: str) -> None:
        raise KernelError(errno.ENOSYS, f"{name}: Function not implemented")

    def enter(kind: str) -> None:
        if kind == "mnt":
            lacking("mnt namespace")
        applied.append(kind)

    monkeypatch.setattr(isolation, "enter_empty", enter)
    monkeypatch.setattr(privileges, "limit_resources", lambda: applied.append("limits"))
    monkeypatch.setattr(privileges, "drop_all", lambda: applied.append("privileges"))
    monkeypatch.setattr(landlock, "deny_everything", lambda: lacking("Landlock"))
    monkeypatch.setattr(seccomp, "deny", lambda _names: lacking("seccomp"))
    monkeypatch.setattr(seccomp, "allow_only", lambda *_: pytest.fail("io_uring is not denied"))
    for name in os.environ:
        monkeypatch.setenv(name, os.environ[name])  # restored after the test
    sandbox = Sandbox()
    sandbox.prepare()
    sandbox.close()
    assert applied == ["net", "ipc", "uts", "cgroup", "limits", "privileges"]
    described = sandbox.description()
    assert described.landlock == 0
    assert described.namespaces == ("net", "ipc", "uts", "cgroup")
    assert described.missing == (
        "mnt namespace: Function not implemented",
        "Landlock: Function not implemented",
        "seccomp: Function not implemented",
    )
    assert not os.environ
