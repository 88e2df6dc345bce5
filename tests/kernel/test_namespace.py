from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyroute2.netns
import pytest

from epaird.kernel import namespace
from epaird.kernel.errors import KernelError
from epaird.kernel.printable import printable
from tests.kernel.named import within
from tests.kernel.openfiles import open_files

pytestmark = pytest.mark.real


def in_a_thread(function: Callable[[], None]) -> None:
    with ThreadPoolExecutor(1) as executor:
        executor.submit(function).result()


def test_a_name_and_a_path() -> None:
    assert namespace.path_of("red") == "/run/netns/red"
    assert namespace.path_of("/proc/7/ns/net") == "/proc/7/ns/net"


def test_ip_sees_the_namespace_with_lo_up(new_namespace: Callable[[], str]) -> None:
    name = new_namespace()
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    assert name in listed.split()
    command = ["ip", "-n", name, "-o", "link", "show", "lo"]
    lo = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "<LOOPBACK,UP,LOWER_UP>" in lo


def test_creating_one_leaves_every_thread_in_its_namespace(new_namespace: Callable[[], str]) -> None:
    home = namespace.identity(None)

    def make() -> None:
        new_namespace()
        assert namespace.identity(None) == home

    in_a_thread(make)
    make()
    assert namespace.identity(None) == home


def test_creating_one_starts_no_process(
    new_namespace: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started a process"))
    new_namespace()


def test_a_name_that_is_taken_is_refused_and_left_alone(new_namespace: Callable[[], str]) -> None:
    name = new_namespace()
    before = namespace.identity(name)
    with pytest.raises(KernelError, match=f"^namespace {name}: exists already$") as refusal:
        namespace.create(name)
    assert refusal.value.errno == errno.EEXIST
    assert namespace.identity(name) == before


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b"])
def test_invalid_names(name: str) -> None:
    with pytest.raises(KernelError, match="not a name"):
        namespace.create(name)


def test_a_name_may_have_any_characters_as_with_ip_netns(new_name: Callable[[], str]) -> None:
    name = f"{new_name()}-tür☃"
    namespace.create(name)
    try:
        assert namespace.name_of(namespace.identity(name)) == name
    finally:
        namespace.remove(name)
    assert not Path("/run/netns", name).exists()


def test_a_failed_creation_leaves_nothing(
    new_name: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = namespace.identity(None)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "mount failed")

    monkeypatch.setattr(pyroute2.netns, "attach", fail)
    name = new_name()
    with pytest.raises(KernelError, match=f"^namespace {name}: No space left on device$"):
        namespace.create(name)
    assert not Path(namespace.path_of(name)).exists()
    assert namespace.identity(None) == home


def test_the_fingerprint_is_reported_before_the_name_exists(new_name: Callable[[], str]) -> None:
    name, home = new_name(), namespace.identity(None)
    reported: list[namespace.Fingerprint] = []

    def report(fingerprint: namespace.Fingerprint) -> None:
        assert not Path(namespace.path_of(name)).exists()
        reported.append(fingerprint)

    namespace.create(name, report)
    try:
        (fingerprint,) = reported
        assert fingerprint.identity == namespace.identity(name) != home
    finally:
        namespace.remove(name)


def test_an_exception_of_the_callback_prevents_the_creation(new_name: Callable[[], str]) -> None:
    name, home = new_name(), namespace.identity(None)

    def fail(_: namespace.Fingerprint) -> None:
        raise KernelError(errno.ENOSPC, "no room")

    with pytest.raises(KernelError, match="no room"):
        namespace.create(name, fail)
    assert not Path(namespace.path_of(name)).exists()
    assert namespace.identity(None) == home


def test_removing(new_namespace: Callable[[], str]) -> None:
    name = new_namespace()
    namespace.remove(name)
    assert not Path(namespace.path_of(name)).exists()
    with pytest.raises(KernelError, match="does not exist") as refusal:
        namespace.remove(name)
    assert refusal.value.errno == errno.ENOENT


def test_two_paths_to_one_namespace(new_namespace: Callable[[], str]) -> None:
    name = new_namespace()
    assert namespace.identity(name) == namespace.identity(f"/run/netns/{name}")
    assert namespace.identity(name) != namespace.identity(None)
    assert namespace.identity("/proc/self/ns/net") == namespace.identity(None)


def test_the_name_of_a_namespace(new_namespace: Callable[[], str]) -> None:
    name = new_namespace()
    identity = namespace.identity(name)
    assert namespace.name_of(identity) == name
    namespace.remove(name)
    assert namespace.name_of(identity) == f"net:[{identity.inode}]"


def test_a_name_of_any_bytes(new_name: Callable[[], str]) -> None:
    raw = os.fsencode(new_name()) + b"\xff\x1b \\x1b"
    name = printable(raw)
    namespace.create(name)
    try:
        assert raw in os.listdir(b"/run/netns")  # noqa: PTH208
        assert namespace.name_of(namespace.identity(name)) == name
        assert namespace.leads_to(f"/run/netns/{name}") == namespace.identity(name)
        assert namespace.path_of(name) == f"/run/netns/{name}"
        assert namespace.path_of("a\udcff") == "/run/netns/a\\xff"
        with pytest.raises(KernelError, match=f"^namespace {re.escape(name)}: exists already$"):
            namespace.create(name)
    finally:
        namespace.remove(name)
    assert raw not in os.listdir(b"/run/netns")  # noqa: PTH208


@pytest.mark.parametrize("name", ["a\0b", "/a\\x00b", "\ud800"])
def test_a_text_that_no_file_is_called_by(name: str) -> None:
    assert namespace.leads_to(name) is None
    with pytest.raises(KernelError, match="is not a file's name"), namespace.opened(name):
        pass


def test_entering_and_leaving(new_namespace: Callable[[], str]) -> None:
    name, home = new_namespace(), namespace.identity(None)
    with within(name):
        assert namespace.identity(None) == namespace.identity(name)
        assert [device for _, device in socket.if_nameindex()] == ["lo"]
    assert namespace.identity(None) == home


def test_an_exception_leaves_the_namespace_too(new_namespace: Callable[[], str]) -> None:
    home = namespace.identity(None)
    with pytest.raises(ZeroDivisionError), within(new_namespace()):
        raise ZeroDivisionError
    assert namespace.identity(None) == home


def test_inside_is_for_one_thread_only(new_namespace: Callable[[], str]) -> None:
    name, home = new_namespace(), namespace.identity(None)
    entered, looked = threading.Event(), threading.Event()

    def enter() -> None:
        with within(name):
            entered.set()
            assert looked.wait(10)

    with ThreadPoolExecutor(1) as executor:
        visit = executor.submit(enter)
        assert entered.wait(10)
        assert namespace.identity(None) == home
        looked.set()
        visit.result()


def test_no_file_descriptor_is_left(new_namespace: Callable[[], str]) -> None:
    before = open_files()
    name = new_namespace()
    with within(name):
        pass
    with pytest.raises(KernelError), within("/etc/passwd"):
        pass
    assert open_files() == before


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("eptnone", "namespace eptnone: does not exist: create it, or list it under namespaces.create"),
        ("/run/eptnone/net", "namespace /run/eptnone/net: does not exist"),
        ("/etc/passwd", "namespace /etc/passwd: is not a network namespace"),
        ("/proc/self/ns/uts", "namespace /proc/self/ns/uts: is not a network namespace"),
    ],
)
def test_paths_that_cannot_be_entered(path: str, message: str) -> None:
    for attempt in (namespace.identity, lambda path: within(path).__enter__()):
        with pytest.raises(KernelError) as refusal:
            attempt(path)
        assert str(refusal.value) == message


@pytest.mark.parametrize("kind", ["fifo", "device", "file", "directory", "socket"])
def test_nothing_but_a_namespace_is_opened(tmp_path: Path, kind: str) -> None:
    """A FIFO would wait for its other end, and a device could do anything."""
    path = tmp_path / kind
    with contextlib.ExitStack() as stack:
        match kind:
            case "fifo":
                os.mkfifo(path)
            case "device":
                path = Path("/dev/ptmx")
            case "file":
                path.touch()
            case "directory":
                path.mkdir()
            case "socket":
                listening = stack.enter_context(socket.socket(socket.AF_UNIX))
                listening.bind(str(path))
        before = open_files()
        terminals = set(Path("/dev/pts").iterdir())
        with pytest.raises(KernelError, match=f"^namespace {path}: is not a network namespace$") as refused:
            namespace.identity(str(path))
        assert refused.value.errno == errno.EINVAL
        assert (open_files(), set(Path("/dev/pts").iterdir())) == (before, terminals)


def test_a_handle_leads_to_the_same_namespace_whatever_its_name_does(
    new_namespace: Callable[[], str],
) -> None:
    name = new_namespace()
    with namespace.opened(name) as found:
        namespace.remove(name)
        namespace.create(name)
        with namespace.inside(found):
            assert namespace.identity(None) == found.identity != namespace.identity(name)


def test_a_fingerprint_is_never_another_ones(new_namespace: Callable[[], str]) -> None:
    """The kernel soon gives the inode of a namespace that is gone to another one."""
    name = new_namespace()
    prints: list[namespace.Fingerprint] = []
    for _ in range(20):
        with namespace.opened(name) as found:
            prints.append(namespace.fingerprint(found))
            assert namespace.fingerprint(found).matches(prints[-1])
        namespace.remove(name)
        namespace.create(name)
    assert all(each.cookie for each in prints)
    assert not any(a.matches(b) for a in prints for b in prints if a is not b)


def test_an_unknown_cookie_matches_any() -> None:
    known, unknown = namespace.Fingerprint(4, 7, 1), namespace.Fingerprint(4, 7)
    assert known.matches(unknown)
    assert unknown.matches(known)
    assert not known.matches(namespace.Fingerprint(4, 7, 2))
    assert not unknown.matches(namespace.Fingerprint(4, 8, 1))
