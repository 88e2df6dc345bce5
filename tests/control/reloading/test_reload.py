"""A reload, from the file to the interfaces, on a machine without a kernel."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import tomllib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from epaird.actions import Action
from epaird.configuration import read
from epaird.control import daemon, logs
from epaird.control import running as program
from epaird.control.host import Place
from epaird.control.operations import Refused
from epaird.control.reloading.reload import Source
from epaird.control.workforce.links import Link
from epaird.kernel.tun import Tap
from epaird.messages import Attach, Detach, Resize, Tune
from epaird.plan import RESTART
from epaird.settings import DaemonSettings
from tests.control.fake import FakeHost
from tests.loop import has_children, on_loop, until

RED = {"netns": "red", "addresses": ["10.0.0.1/24"]}
BLUE = {"netns": "blue", "addresses": ["10.0.0.2/24"], "routes": [{"to": "default", "via": "10.0.0.1"}]}


log_formats: list[str] = []
"""The one that was set up last."""


class Running:
    """A daemon, its machine, and its file."""

    def __init__(self, path: Path, host: FakeHost) -> None:
        self.path = path
        self.host = host
        self.daemon: daemon.Daemon
        self.base: dict[str, Any] = {
            "daemon": {"workers": 1, "control_socket": str(path.parent / "run" / "control.sock")},
            "metrics": {"listen": ""},
            "namespaces": {"create": ["red", "blue"]},
            "epair": {"epair0": {"a": RED, "b": BLUE}},
        }

    def write(self, **tables: Any) -> None:  # noqa: ANN401
        """The file: that of the start with other tables; of [daemon], other keys."""
        tables["daemon"] = self.base["daemon"] | tables.get("daemon", {})
        self.path.write_text(tomli_w.dumps(self.base | tables))

    async def reload(self, *, dry_run: bool = False, **tables: Any) -> dict[str, str]:  # noqa: ANN401
        """What a reload of such a file does to whom."""
        self.write(**tables)
        return verbs(await self.daemon.reloads.reload(dry_run=dry_run))

    async def reload_all(self, **tables: Any) -> tuple[Action, ...]:  # noqa: ANN401
        """What such a reload does, in full."""
        self.write(**tables)
        return await self.daemon.reloads.reload()

    async def refused(self, **tables: Any) -> Refused:  # noqa: ANN401
        with pytest.raises(Refused) as refused:
            await self.reload(**tables)
        return refused.value

    def state(self) -> dict[str, object]:
        """All that a reload may change, but for indices of devices."""
        interfaces = self.daemon._interfaces
        return {
            "devices": {
                name: (link.place.name, link.place.netns, replace(link.settings, mac=None), link.carrier)
                for name, link in self.host.links.items()
                if link.settings is not None
            },
            "namespaces": sorted(self.host.namespaces),
            "settings": {pair.name: (pair.settings, pair.origin) for pair in interfaces.pairs},
            "macs": {half.device: half.mac for half in interfaces.pairs.halves},
            "peers": {half.device: half.peer and half.peer.device for half in interfaces.pairs.halves},
            "workers": [worker.reading().queue_limit for worker in self.daemon._workers],
            "cables": sorted(cable for worker in self.daemon._workers for cable in worker.attachments),
            "level": logging.getLogger().level,
        }

    def carries(self, device: str = "epair0a", to: str = "epair0b") -> Callable[[], bool]:
        """Send a frame; whether it has arrived."""
        there = self.host.links[to].owner
        before = len(there.receives())
        self.host.links[device].owner.sends()
        return lambda: len(there.receives()) > before


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    host = FakeHost()
    rename = host.rename

    async def renamed(tap: Tap, place: Place, name: str) -> None:
        await rename(tap, place, name)
        host.tell(host.event(tap.name))
        host.tell(host.event(tap.name))  # also when looking was made to fail

    monkeypatch.setattr(host, "rename", renamed)
    monkeypatch.setattr(daemon, "Host", lambda: host)

    def set_up(level: str, form: str) -> None:
        logging.getLogger().setLevel(level.upper())
        log_formats[:] = [form]

    log_formats.clear()
    monkeypatch.setattr(logs, "set_up", set_up)
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    return host


@pytest.fixture
def at_hand(tmp_path: Path, host: FakeHost) -> Callable[..., contextlib.AbstractAsyncContextManager[Running]]:
    """A daemon that was started with a file."""

    @contextlib.asynccontextmanager
    async def begin(**tables: Any) -> AsyncIterator[Running]:  # noqa: ANN401
        running = Running(tmp_path / "epaird.toml", host)
        running.base |= tables
        running.write()
        file = read(running.path)
        level = logging.getLogger().level
        logging.getLogger().setLevel(file.configuration.daemon.log_level.upper())
        async with daemon.Daemon(file.configuration, None, Source(running.path, file.sha256)) as it:
            await it.start()
            running.daemon = it
            host.steps.clear()
            yield running
        logging.getLogger().setLevel(level)
        assert not host.links
        assert not has_children()

    return begin


Begin = Callable[..., contextlib.AbstractAsyncContextManager[Running]]


def verbs(actions: tuple[Action, ...]) -> dict[str, str]:
    return {action.name: action.verb for action in actions}


def pair(**settings: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"a": RED, "b": BLUE} | settings


@on_loop
async def test_a_file_that_says_the_same_changes_nothing(at_hand: Begin) -> None:
    async with at_hand() as it:
        before = it.state()
        assert await it.reload() == {}
        assert it.state() == before
        assert set(it.host.steps) <= {"present", "namespace_identity"}


@on_loop
async def test_pairs_come_go_and_change(at_hand: Begin) -> None:
    async with at_hand(epair={"epair0": pair(), "epair1": {}, "epair2": {}}) as it:
        kept = it.host.links["epair0a"].tap
        b = BLUE | {"mtu": 9000, "addresses": ["10.0.0.2/24", "10.1.0.2/24"]}
        done = await it.reload(
            epair={"epair0": pair(b=b), "epair2": {"queues": 2}, "epair3": {"a": {"name": "eth7"}}}
        )
        assert done == {"epair0": "change", "epair1": "destroy", "epair2": "recreate", "epair3": "create"}
        assert it.host.links["epair0a"].tap is kept
        settings = it.host.links["epair0b"].settings
        assert settings is not None
        assert settings.mtu == 9000
        assert "epair1a" not in it.host.links
        assert len(it.host.links["epair2a"].owners) == 2
        assert it.host.links["epair3a"].place.name == "eth7"
        await until(it.carries())
        assert await it.reload(dry_run=True, **tables_of(it)) == {}


def tables_of(it: Running) -> dict[str, Any]:
    """What the file says now."""
    return tomllib.loads(it.path.read_text())


@on_loop
async def test_an_unchanged_pair_is_not_touched(at_hand: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    many: dict[str, Any] = {f"epair{number}": {} for number in range(40)}
    async with at_hand(epair={"epair0": pair(), **many}) as it:
        asked: list[tuple[str, str]] = []
        ask = Link._ask

        def counted(link: Link, order: Attach | Resize | Detach | Tune, fds: tuple[int, ...] = ()) -> Any:  # noqa: ANN401
            asked.append((type(order).__name__, getattr(order, "cable", "")))
            return ask(link, order, fds)

        monkeypatch.setattr(Link, "_ask", counted)
        done = await it.reload(epair={"epair0": pair(), **many, "epair7": {"a": {"mtu": 1400}}})
        assert done == {"epair7": "change"}
        await until(lambda: asked == [("Resize", "epair7")])
        assert sorted(set(it.host.steps)) == ["namespace_identity", "present", "reconfigure"]
        assert it.host.steps.count("present") == 1
        assert it.host.steps.count("reconfigure") == 1


@on_loop
async def test_every_mistake_is_told_at_once_and_nothing_is_touched(
    at_hand: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    async with at_hand() as it:
        before = it.state()
        mistakes = await it.refused(daemon={"queue_limit": 0}, epair={"epair0": pair(a={"mtu": 1}), "x": {}})
        assert mistakes.errno == errno.EINVAL
        assert [each.split(": ")[0] for each in mistakes.problems] == [
            "daemon.queue_limit", "epair.epair0.a.mtu", "epair.x",
        ]  # fmt: skip
        told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert told == [f"not reloaded: {each}" for each in mistakes.problems]
        it.path.write_text("[epair")
        with pytest.raises(Refused, match=r"epaird\.toml, line 1, column"):
            await it.daemon.reloads.reload()
        it.path.unlink()
        with pytest.raises(Refused, match=r"epaird\.toml: no such file"):
            await it.daemon.reloads.reload()
        assert it.state() == before
        assert not it.host.steps
        assert it.daemon.reloads.reading().failures == 3
        assert it.daemon.health().status.endswith("the last reload failed")


@on_loop
async def test_namespaces_that_are_not_there_or_cannot_go_are_told_before(at_hand: Begin) -> None:
    async with at_hand() as it:
        before = it.state()
        epair = {"epair0": pair(), "epair1": {"a": {"netns": "green"}, "b": {"netns": "grey"}}}
        refusal = await it.refused(epair=epair, namespaces={"create": ["red"]})
        assert [each.split(": ")[0] for each in refusal.problems] == [
            "epair.epair1.a.netns", "epair.epair1.b.netns", "namespaces.create",
        ]  # fmt: skip
        assert "blue cannot go, epair0b lives in it" in refusal.problems[2]
        assert it.state() == before


def everything_changes() -> dict[str, Any]:
    """Tables of which each makes a reload do something else."""
    return {
        "daemon": {"queue_limit": 99, "workers": 2, "log_level": "warning"},
        "namespaces": {"create": ["red", "blue", "green"]},
        "lo": {},
        "epair": {
            "epair0": pair(
                a=RED | {"mtu": 1400, "name": "eth9", "addresses": ["10.0.0.1/24", "10.0.9.1/24"]}
            ),
            "epair1": {"a": {"netns": "green"}, "b": {"peer": "epair2a"}},
            "epair2": {"carrier": "always"},
            "epair4": {"a": {"netns": "green"}},
        },
    }


EVERYTHING = {"epair0": pair(), "epair1": {}, "epair2": {"a": {"addresses": ["10.3.0.1/24"]}}, "epair3": {}}


@on_loop
async def test_whichever_step_fails_everything_is_as_it_was(at_hand: Begin) -> None:
    failed: list[str] = []
    async with at_hand(epair=EVERYTHING) as it:
        before = it.state()
        step = 0
        while True:
            it.host.steps.clear()
            it.host.failing_step = step
            it.write(**everything_changes())
            try:
                await it.daemon.reloads.reload()
            except Refused as refusal:
                failed.append(f"{it.host.steps[step]}: {refusal}")
                it.host.failing_step = None
            else:
                it.host.failing_step = None
                if len(it.host.steps) <= step:
                    break
                # One that makes no difference to a reload.
                await it.reload()
                before["macs"] = it.state()["macs"]
            assert it.state() == before, it.host.steps[: step + 1]
            step += 1
        assert it.daemon.reloads.reading().failures == len(failed)
        assert all("Input/output error" in each for each in failed)
        steps = {each.split(":")[0] for each in failed}
        assert {"make_namespace", "open_tap", "place", "configure", "reconfigure", "rename"} <= steps
        assert await it.reload(dry_run=True, **tables_of(it)) == {}
        assert it.state()["peers"] == {
            "epair0a": "epair0b", "epair0b": "epair0a", "epair1a": None, "epair1b": "epair2a",
            "epair2a": "epair1b", "epair2b": None, "epair4a": "epair4b", "epair4b": "epair4a",
        }  # fmt: skip
        # And back again.
        await it.reload()
        after = it.state()
        assert after | {"macs": None} == before | {"macs": None}


@on_loop
async def test_made_at_runtime_it_survives_until_the_file_has_it(at_hand: Begin) -> None:
    async with at_hand() as it:
        await it.daemon._interfaces.create("epair7", {"a": {"mtu": 1400}})
        tap = it.host.links["epair7a"].tap
        assert await it.reload() == {}
        (reading, _) = it.daemon._interfaces.interface("epair7")
        assert reading.origin == "runtime"
        done = await it.reload(epair={"epair0": pair(), "epair7": {"a": {"mtu": 1400}}})
        assert done == {"epair7": "adopt"}
        assert it.host.links["epair7a"].tap is tap
        (reading, _) = it.daemon._interfaces.interface("epair7")
        assert reading.origin == "configuration"
        assert await it.reload() == {"epair7": "destroy"}


@on_loop
async def test_what_was_set_or_plugged_otherwise_is_as_the_file_says_again(at_hand: Begin) -> None:
    async with at_hand(epair={"epair0": pair(), "epair1": {}}) as it:
        before = it.state()
        interfaces = it.daemon._interfaces
        await interfaces.change("epair0b", {"mtu": 1400})
        await interfaces.change("epair1", {"carrier": "off"})
        await interfaces.patch("epair0a", "epair1b", force=True)
        assert await it.reload(dry_run=True) == {
            "epair0": "change", "epair1": "change", "epair0a": "change", "epair1a": "change",
        }  # fmt: skip
        await it.reload()
        assert it.state() == before


@on_loop
async def test_what_was_taken_away_is_put_back_and_what_others_added_is_left(at_hand: Begin) -> None:
    async with at_hand() as it:
        link = it.host.links["epair0b"]
        assert link.settings is not None
        before = link.settings
        link.settings = replace(link.settings, addresses=("10.9.9.9/24",), routes=())
        assert await it.reload(dry_run=True) == {"epair0b": "restore"}
        assert await it.reload() == {"epair0b": "restore"}
        assert link.settings.addresses == before.addresses
        assert link.settings.routes == before.routes
        assert await it.reload() == {}


@on_loop
async def test_a_pair_that_was_lost_is_made_again(at_hand: Begin) -> None:
    async with at_hand() as it:
        it.host.tell(it.host.delete("epair0a"))
        await until(lambda: not it.host.links)
        assert await it.reload() == {"epair0": "create"}
        await until(it.carries())


@on_loop
async def test_the_file_that_is_saved_asks_for_nothing(at_hand: Begin) -> None:
    async with at_hand(lo={"lo1": {"addresses": ["10.5.0.1/24"]}}) as it:
        interfaces = it.daemon._interfaces
        await interfaces.create("epair", {"a": {"netns": "red", "name": "x1"}, "queues": 2})
        await interfaces.create("epair5", {"b": {"routes": [{"to": "10.7.0.0/16", "via": "10.6.0.1"}],
                                                 "addresses": ["10.6.0.2/24"]}})  # fmt: skip
        await interfaces.create("lo", {"mode": "verbatim"})
        await interfaces.change("epair5a", {"mtu": 1400})
        await interfaces.patch("epair0a", "epair5b", force=True)
        text = it.daemon.reloads.text()
        planned = await it.daemon.reloads.plan(text, "saved.toml")
        assert {each.verb for each in planned} == {"adopt"}
        it.path.write_text(text)
        assert {each.verb for each in await it.daemon.reloads.reload()} == {"adopt"}
        assert await it.daemon.reloads.reload() == ()
        # Also by a daemon that makes all of it anew.
        assert 'peer = "epair5b"' in text


@on_loop
async def test_workers_come_and_go_while_every_frame_arrives(at_hand: Begin) -> None:
    many: dict[str, Any] = {f"epair{number}": {} for number in range(6)}
    async with at_hand(epair=many) as it:
        for count in (3, 2, 4, 1):
            asyncio.get_running_loop().call_soon(it.host.links["epair0a"].owner.sends, 20)
            await it.reload(epair=many, daemon={"workers": count})
            loads = [len(worker.attachments) for worker in it.daemon._workers]
            assert sum(loads) == 6
            assert max(loads) - min(loads) <= 1
            assert len(it.daemon.reading().workers) == count
            for name in many:
                await until(it.carries(f"{name}a", f"{name}b"))
        sent = it.host.links["epair0a"].owner.sent
        await until(lambda: len(it.host.links["epair0b"].owner.receives()) == sent)


@on_loop
async def test_workers_go_by_other_settings_without_being_replaced(at_hand: Begin) -> None:
    async with at_hand() as it:
        (worker,) = it.daemon._workers
        pid = worker.pid
        assert await it.reload(daemon={"queue_limit": 7, "poll_spin_us": 0}) == {"daemon": "change"}
        assert worker.reading().queue_limit == 7
        there = it.host.links["epair0b"].owner
        sender = it.host.links["epair0a"].owner

        def full() -> bool:
            sender.sends_all_it_can()
            return worker.reading().oactive

        await until(full)
        assert worker.reading().queue_frames == 7
        await until(lambda: len(there.receives()) == it.host.links["epair0a"].owner.sent)
        assert worker.pid == pid


@on_loop
async def test_what_needs_a_restart_is_said_and_stays(at_hand: Begin) -> None:
    async with at_hand() as it:
        it.write(daemon={"control_socket": "/run/elsewhere/control.sock"})
        (action,) = await it.daemon.reloads.reload()
        assert action.verb == "restart"
        assert action.details[0].note == "only a restart of the daemon applies it"
        assert await it.daemon.reloads.reload(dry_run=True) == (action,)


OTHER = {
    "workers": 3,
    "queue_limit": 7,
    "poll_spin_us": 0,
    "worker_timeout": 0,
    "orphan_timeout": 7.0,
    "drain_timeout": 0.2,
    "keep_devices": True,
    "watch": True,
    "log_level": "warning",
    "log_format": "json",
}
"""Keys of [daemon] that a reload applies, and values that differ from their defaults."""


def in_force(it: Running) -> dict[str, object]:
    """What the daemon does by each of these keys."""
    (settings,) = {
        (each._settings.queue_limit, each._settings.poll_spin_us, each._settings.orphan_timeout)
        for each in it.daemon._workers
    }
    return {
        "workers": len(it.daemon._workers),
        **dict(zip(("queue_limit", "poll_spin_us", "orphan_timeout"), settings, strict=True)),
        "worker_timeout": it.daemon._hearts is not None,
        # By these it goes when it ends.
        "drain_timeout": it.daemon._configuration.daemon.drain_timeout,
        "keep_devices": it.daemon.keeps_devices,
        "watch": it.daemon._file_watch is not None,
        "log_level": logging.getLogger().level,
        "log_format": log_formats[-1:] or ["text"],
    }


def test_every_key_of_the_daemon_is_applied_or_said_to_need_a_restart() -> None:
    restart = {key.removeprefix("daemon.") for key in RESTART}
    assert OTHER.keys() | restart == DaemonSettings.model_fields.keys()
    assert not OTHER.keys() & restart


@pytest.mark.parametrize("key", OTHER)
def test_a_key_of_the_daemon_is_applied_in_place_and_alone(at_hand: Begin, key: str) -> None:
    async def change() -> None:
        async with at_hand() as it:
            before = in_force(it)
            (action,) = await it.reload_all(daemon={key: OTHER[key]})
            assert (action.verb, action.name, action.details[0].note) == ("change", "daemon", "")
            after = in_force(it)
            assert [each for each in after if after[each] != before[each]] == [key]
            await it.reload()
            assert in_force(it) == before

    on_loop(change)()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as it:
        port: int = it.getsockname()[1]
        return port


def healthz(host: str, port: int) -> bytes:
    with socket.create_connection((host, port), timeout=20) as connection, connection.makefile("rb") as file:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        return file.read()


def serves(host: str, port: int) -> bool:
    try:
        return healthz(host, port).startswith(b"HTTP/1.1 ")
    except ConnectionRefusedError:
        return False


@on_loop
async def test_the_metrics_page_moves_and_goes_and_comes(at_hand: Begin) -> None:
    here, there = free_port(), free_port()
    async with at_hand(metrics={"listen": f"127.0.0.1:{here}"}) as it:

        async def listens(*wanted: tuple[str, int]) -> bool:
            places = [("127.0.0.1", here), ("127.0.0.2", here), ("127.0.0.1", there), ("::1", there)]
            return [each for each in places if await asyncio.to_thread(serves, *each)] == list(wanted)

        assert await listens(("127.0.0.1", here))
        for listen, places in (
            (f"127.0.0.1:{there}", [("127.0.0.1", there)]),
            (f"127.0.0.1:{here}", [("127.0.0.1", here)]),
            (f"0.0.0.0:{here}", [("127.0.0.1", here), ("127.0.0.2", here)]),  # includes what it had
            (f"127.0.0.2:{here}", [("127.0.0.2", here)]),  # and is included
            ("", []),
            (f"[::1]:{there}", [("::1", there)]),
        ):
            (action,) = await it.reload_all(metrics={"listen": listen})
            assert (action.verb, action.name, action.details[0].note) == ("change", "metrics", "")
            await until(lambda: not it.daemon._page._going)
            assert await listens(*places), listen
            assert it.daemon.reloads.force.metrics.listen == listen
        assert await it.reload(metrics={"listen": f"[::1]:{there}"}) == {}
    assert not serves("::1", there)


@on_loop
async def test_a_page_that_cannot_move_fails_the_reload_before_anything(
    at_hand: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    here = free_port()
    async with at_hand(metrics={"listen": f"127.0.0.1:{here}"}) as it:
        before = it.state()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = "{}:{}".format(*taken.getsockname())
            it.host.steps.clear()
            refusal = await it.refused(
                metrics={"listen": address}, daemon={"queue_limit": 9}, epair={"epair0": pair(), "epair1": {}}
            )
        line = f"metrics.listen: {address} is in use by another program"
        assert str(refusal) == line
        errors = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
        assert errors == [f"not reloaded: {line}"]
        assert set(it.host.steps) <= {"present", "namespace_identity"}
        assert it.state() == before
        assert await asyncio.to_thread(serves, "127.0.0.1", here)


@on_loop
async def test_a_page_stays_where_it_was_when_something_else_of_the_reload_fails(at_hand: Begin) -> None:
    here, there = free_port(), free_port()
    async with at_hand(metrics={"listen": f"127.0.0.1:{here}"}) as it:
        it.host.fail("open_tap")
        wanted = {"epair": {"epair0": pair(), "epair1": {}}, "metrics": {"listen": f"127.0.0.1:{there}"}}
        await it.refused(**wanted)
        assert await asyncio.to_thread(serves, "127.0.0.1", here)
        assert not await asyncio.to_thread(serves, "127.0.0.1", there)
        assert await it.reload(**wanted) == {"epair1": "create", "metrics": "change"}
        assert await asyncio.to_thread(serves, "127.0.0.1", there)


@on_loop
async def test_who_has_connected_to_the_old_page_is_answered_to_the_end(at_hand: Begin) -> None:
    here, there = free_port(), free_port()
    async with at_hand(metrics={"listen": f"127.0.0.1:{here}"}) as it:
        silent, writer = await asyncio.open_connection("127.0.0.1", here)
        begun, also = await asyncio.open_connection("127.0.0.1", here)
        also.write(b"GET /healthz HTT")
        assert await asyncio.to_thread(serves, "127.0.0.1", here)  # both were accepted before it
        await it.reload(metrics={"listen": f"127.0.0.1:{there}"})
        assert not await asyncio.to_thread(serves, "127.0.0.1", here)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        also.write(b"P/1.1\r\nhost: a\r\n\r\n")
        for reader in (silent, begun):  # and no more than answered: the connection ends
            assert (await reader.read()).endswith(b"ok\n")
        writer.close()
        also.close()
        await until(lambda: not it.daemon._page._going)


@on_loop
async def test_a_hangup_reloads_and_the_page_and_the_manager_are_told(
    tmp_path: Path, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    manager.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    said: list[str] = []

    def heard(words: str) -> bool:
        with contextlib.suppress(BlockingIOError):
            while True:
                said.append(manager.recv(4096).decode())
        return any(words in each for each in said)

    it = Running(tmp_path / "epaird.toml", host)
    it.write()
    file = read(it.path)
    running = asyncio.create_task(program._run(file.configuration, Source(it.path, file.sha256)))
    await until(lambda: heard("READY=1"))
    said.clear()
    it.write(epair={"epair0": pair(), "epair1": {}})
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: heard("READY=1"))
    order = [line for each in said for line in each.splitlines() if line in ("RELOADING=1", "READY=1")]
    assert order == ["RELOADING=1", "READY=1"]
    assert "MONOTONIC_USEC=" in next(each for each in said if "RELOADING=1" in each)
    assert "epair1a" in host.links
    said.clear()
    it.path.write_text("[daemon]\nworkers = 0\n")
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: heard("the last reload failed"))
    assert "epair1a" in host.links
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 0
    manager.close()


@on_loop
async def test_a_watched_file_is_read_again_when_it_was_written_or_replaced(at_hand: Begin) -> None:
    async with at_hand() as it:
        await it.reload(daemon={"watch": True})
        it.write(daemon={"watch": True}, epair={"epair0": pair(), "epair1": {}})
        await until(lambda: it.daemon.reloads.reading().successes == 2)
        assert "epair1b" in it.host.links
        it.path.touch()  # nothing new
        path = it.path
        it.path = path.with_name(".new")
        it.write(daemon={"watch": True}, epair={"epair0": pair(), "epair2": {}})
        it.path = it.path.rename(path)
        await until(lambda: it.daemon.reloads.reading().successes == 3)
        assert {"epair2b", "epair1b"} & it.host.links.keys() == {"epair2b"}
        await it.reload(epair={"epair0": pair()})  # and watches no more
        steps = len(it.host.steps)
        it.write()
        await asyncio.sleep(0.3)
        assert len(it.host.steps) == steps


@on_loop
async def test_a_caller_who_goes_away_stops_no_reload(at_hand: Begin) -> None:
    async with at_hand() as it:
        held = it.host.hold("open_tap")
        it.write(epair={"epair0": pair(), "epair1": {}})
        asking = asyncio.create_task(it.daemon.reloads.reload())
        await until(held.reached.is_set)
        asking.cancel()
        held.released.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        assert "epair1b" in it.host.links
        assert it.daemon.reloads.reading().successes == 1
