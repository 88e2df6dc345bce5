"""The service manager's protocol, against a manager."""

from __future__ import annotations

import logging
import os
import socket
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.control.handover import notify
from epaird.control.handover.notify import (
    Health,
    Inherited,
    Notifier,
    attend,
    inherited,
    listener,
    take_inherited,
    watchdog_s,
)
from epaird.control.tasks import spawn
from tests.deploy.manager import ServiceManager
from tests.loop import on_loop, turns
from tests.waiting import eventually


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServiceManager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@ept-{uuid.uuid4()}"
    with ServiceManager(address) as manager:
        yield manager


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Callable[[int], list[int]]]:
    """Return a function that opens files, each containing its number."""
    made: list[int] = []

    def make(count: int) -> list[int]:
        for _ in range(count):
            path = tmp_path / f"file{len(made)}"
            path.write_text(str(len(made)))
            made.append(os.open(path, os.O_RDONLY))
        return made[-count:]

    yield make
    for fd in made:
        os.close(fd)


def test_the_life_of_a_service(manager: ServiceManager) -> None:
    notifier = Notifier(manager.address)
    assert notifier
    notifier.ready("1 pair, 2 workers")
    manager.receive()
    assert (manager.unit.state, manager.unit.status) == ("running", "1 pair, 2 workers")
    notifier.reloading(now_ns=1_234_567_890)
    manager.receive()
    assert (manager.unit.state, manager.unit.reload_began_us) == ("reload", 1_234_567)
    notifier.ready("2 pairs, 2 workers")
    manager.receive()
    assert (manager.unit.state, manager.unit.status) == ("running", "2 pairs, 2 workers")
    notifier.stopping()
    manager.receive()
    assert (manager.unit.state, manager.unit.status) == ("stop", "stopping")


def test_a_status_is_one_line_and_sets_nothing_else(manager: ServiceManager) -> None:
    Notifier(manager.address).ready("epair0: gone\nSTOPPING=1")
    manager.receive()
    assert (manager.unit.state, manager.unit.status) == ("running", "epair0: gone STOPPING=1")


def test_without_a_manager_nothing_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    for address in (None, ""):
        notifier = Notifier(address)
        assert not notifier
        notifier.ready("ok")
        notifier.stopping()
    assert not caplog.records


def test_a_manager_that_is_gone_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(str(tmp_path / "gone"))
    notifier.ready("ok")
    notifier.stopping()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(tmp_path / "gone") in record.getMessage()


def test_a_manager_that_reads_nothing_is_not_waited_for(
    manager: ServiceManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notify, "SEND_TIMEOUT_S", 0.01)
    notifier = Notifier(manager.address)
    while not caplog.records:
        notifier.send("WATCHDOG=1")
    manager.receive_all()
    notifier.ready("ok")
    manager.receive()
    assert manager.unit.state == "running"


def test_the_store_keeps_descriptors_by_name_and_in_order(
    manager: ServiceManager, files: Callable[[int], list[int]]
) -> None:
    notifier = Notifier(manager.address)
    notifier.store("epair0a", files(2))
    notifier.store("epair0b", files(1))
    manager.receive_all()
    assert [(name, _content(fd)) for name, fd in manager.unit.stored] == [
        ("epair0a", "0"), ("epair0a", "1"), ("epair0b", "2"),
    ]  # fmt: skip
    # A device whose other queue was closed reports a hangup, and is to be kept all the same.
    assert not manager.unit.polled
    notifier.remove("epair0a")
    manager.receive_all()
    assert [name for name, _ in manager.unit.stored] == ["epair0b"]


def test_more_descriptors_than_one_message_carries(
    manager: ServiceManager, files: Callable[[int], list[int]]
) -> None:
    fds = files(notify.FDS_AT_ONCE + 2)
    Notifier(manager.address).store("many", fds)
    assert len(manager.receive_all()) == 2
    assert [_content(fd) for _, fd in manager.unit.stored] == [str(n) for n in range(len(fds))]


@pytest.mark.parametrize("name", ["", "a:b", "a\nSTOPPING=1", "ä", "x" * 256])
def test_names_that_the_store_would_not_accept(name: str) -> None:
    with pytest.raises(ValueError, match="not a name for the store"):
        Notifier("@nobody").store(name, [])
    with pytest.raises(ValueError, match="not a name for the store"):
        Notifier("@nobody").remove(name)


def test_a_successor_finds_what_was_stored(
    manager: ServiceManager, files: Callable[[int], list[int]]
) -> None:
    Notifier(manager.address).store("epair0a", files(2))
    Notifier(manager.address).store("epair0b", files(1))
    manager.receive_all()
    program = """
        import os, subprocess, sys
        from epaird.control.handover.notify import take_inherited
        for each in take_inherited():
            print(each.fd, each.name, os.pread(each.fd, 9, 0).decode(), os.get_inheritable(each.fd))
        print(sorted(name for name in os.environ if name.startswith("LISTEN_")))
    """
    process = manager.start([sys.executable, "-c", textwrap.dedent(program)], os.environ)
    output, _ = process.communicate(timeout=30)
    assert output.decode().splitlines() == [
        "3 epair0a 0 False",
        "4 epair0a 1 False",
        "5 epair0b 2 False",
        "[]",
    ]


@on_loop
async def test_keepalives_and_status_while_everything_is_alive(tmp_path: Path) -> None:
    health = Health(alive=True, status="1 pair")
    with ServiceManager(str(tmp_path / "notify")) as manager:
        task = spawn(attend(Notifier(manager.address), 0.001, lambda: health), "attending")
        await eventually(lambda: (manager.receive_all(), manager.unit.watchdog_pings >= 5)[1])
        assert [each for each in manager.messages if "STATUS" in each] == [
            {"STATUS": "1 pair", "WATCHDOG": "1"}
        ]
        health = Health(alive=True, status="2 pairs")
        await eventually(lambda: (manager.receive_all(), manager.unit.status == "2 pairs")[1])
        task.cancel()
        await eventually(task.done)


@on_loop
async def test_no_keepalive_while_a_worker_is_not_alive(tmp_path: Path) -> None:
    health = Health(alive=False, status="worker 1 is not alive")
    checks = 0

    def check() -> Health:
        nonlocal checks
        checks += 1
        return health

    with ServiceManager(str(tmp_path / "notify")) as manager:
        task = spawn(attend(Notifier(manager.address), 3600, check), "attending")
        # It is checked again soon, however long the interval.
        await eventually(lambda: checks >= 3)
        manager.receive_all()
        assert manager.messages == [{"STATUS": "worker 1 is not alive"}]
        health = Health(alive=True, status="fine")
        await eventually(lambda: (manager.receive_all(), manager.unit.watchdog_pings)[1])
        seen = checks
        await turns(20)
        assert checks == seen
        task.cancel()
        await eventually(task.done)


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "7"}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": ""}, None),
    ],
)
def test_the_watchdog_of_the_environment(environment: dict[str, str], seconds: float | None) -> None:
    assert watchdog_s(environment, pid=7) == seconds


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, ()),
        ({"LISTEN_FDS": "1"}, ()),
        ({"LISTEN_PID": "8", "LISTEN_FDS": "1"}, ()),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "0"}, ()),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "many"}, ()),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "1"}, (Inherited(3, "unknown"),)),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2"}, (Inherited(3, "unknown"), Inherited(4, "unknown"))),
        (
            {"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "control:epair0a"},
            (Inherited(3, "control"), Inherited(4, "epair0a")),
        ),
        (
            {"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "control"},
            (Inherited(3, "unknown"), Inherited(4, "unknown")),
        ),
    ],
)
def test_the_descriptors_that_were_passed(environment: dict[str, str], found: tuple[Inherited, ...]) -> None:
    assert inherited(environment, pid=7) == found


@given(st.lists(st.from_regex(r"[ -9;-~]{1,20}", fullmatch=True), min_size=1))
def test_every_name_is_found_again(names: list[str]) -> None:
    environment = {"LISTEN_PID": "7", "LISTEN_FDS": str(len(names)), "LISTEN_FDNAMES": ":".join(names)}
    assert [(each.fd, each.name) for each in inherited(environment, 7)] == list(enumerate(names, 3))


def test_descriptors_of_another_process_are_not_touched() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "3"}
    assert take_inherited(environment) == ()
    assert environment == {}


def test_the_listener_is_the_socket_of_its_name_that_listens(files: Callable[[int], list[int]]) -> None:
    (file,) = files(1)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as unbound:
        found = (
            Inherited(file, "control"),
            Inherited(unbound.fileno(), "control"),
            Inherited(os.dup(server.fileno()), "control"),
        )
        assert listener(found, "other") is None
        taken = listener(found, "control")
        assert taken is not None
        with taken:
            assert taken.getsockname() == server.getsockname()


def _content(fd: int) -> str:
    return os.pread(fd, 9, 0).decode()
