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
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from epaird.config.reading import digest, read
from epaird.control import running as program
from epaird.control.operations import Refused
from epaird.control.reloading.inforce import Source
from epaird.ipc.channel import Channel
from epaird.ipc.messages import Message
from epaird.kernel.link import Address
from tests.control.fake import FakeHost
from tests.control.reloading.running import BLUE, RED, Begin, Running, pair
from tests.loop import on_loop
from tests.waiting import eventually


@on_loop
async def test_a_file_with_the_same_settings_changes_nothing(started: Begin) -> None:
    async with started() as running:
        before = running.state()
        assert await running.reload() == {}
        assert running.state() == before
        assert set(running.host.steps) <= {"present", "namespace_identity"}


@on_loop
async def test_pairs_are_created_destroyed_and_changed(started: Begin) -> None:
    async with started(epair={"epair0": pair(), "epair1": {}, "epair2": {}}) as running:
        kept = running.host.links["epair0a"].tap
        b = BLUE | {"mtu": 9000, "addresses": ["10.0.0.2/24", "10.1.0.2/24"]}
        done = await running.reload(
            epair={"epair0": pair(b=b), "epair2": {"queues": 2}, "epair3": {"a": {"name": "eth7"}}}
        )
        assert done == {"epair0": "change", "epair1": "destroy", "epair2": "recreate", "epair3": "create"}
        assert running.host.links["epair0a"].tap is kept
        settings = running.host.links["epair0b"].settings
        assert settings is not None
        assert settings.mtu == 9000
        assert "epair1a" not in running.host.links
        assert len(running.host.links["epair2a"].owners) == 2
        assert running.host.links["epair3a"].place.name == "eth7"
        await eventually(running.carries())
        assert await running.reload(dry_run=True, **tables_of(running)) == {}


def tables_of(running: Running) -> dict[str, Any]:
    """Return the present contents of the file."""
    return tomllib.loads(running.path.read_text())


@on_loop
async def test_an_unchanged_pair_is_not_touched(started: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    many: dict[str, Any] = {f"epair{number}": {} for number in range(40)}
    async with started(epair={"epair0": pair(), **many}) as running:
        requested: list[tuple[str, str]] = []
        send = Channel.send

        def counted(channel: Channel, message: Message, fds: tuple[int, ...] = ()) -> None:
            requested.append((type(message).__name__, getattr(message, "cable", "")))
            send(channel, message, fds)

        monkeypatch.setattr(Channel, "send", counted)
        done = await running.reload(epair={"epair0": pair(), **many, "epair7": {"a": {"mtu": 1400}}})
        assert done == {"epair7": "change"}
        await eventually(lambda: requested == [("Resize", "epair7")])
        assert sorted(set(running.host.steps)) == ["converge", "namespace_identity", "present", "set_mtu"]
        assert running.host.steps.count("present") == 1
        assert running.host.steps.count("converge") == running.host.steps.count("set_mtu") == 1


@on_loop
async def test_every_mistake_is_reported_at_once_and_nothing_is_changed(
    started: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    async with started() as running:
        before = running.state()
        mistakes = await running.refused(
            daemon={"queue_limit": 0}, epair={"epair0": pair(a={"mtu": 1}), "x": {}}
        )
        assert mistakes.errno == errno.EINVAL
        assert [each.split(": ")[0] for each in mistakes.problems] == [
            "daemon.queue_limit", "epair.epair0.a.mtu", "epair.x",
        ]  # fmt: skip
        logged = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert logged == [f"not reloaded: {each}" for each in mistakes.problems]
        running.path.write_text("[epair")
        with pytest.raises(Refused, match=r"epaird\.toml, line 1, column"):
            await running.daemon.reloads.reload()
        running.path.unlink()
        with pytest.raises(Refused, match=r"epaird\.toml: no such file"):
            await running.daemon.reloads.reload()
        assert running.state() == before
        assert not running.host.steps
        assert running.daemon._in_force.reading().failures == 3
        assert running.daemon.health().status.endswith("the last reload failed")


@on_loop
async def test_missing_namespaces_and_those_in_use_are_reported_first(started: Begin) -> None:
    async with started() as running:
        before = running.state()
        epair = {"epair0": pair(), "epair1": {"a": {"netns": "green"}, "b": {"netns": "grey"}}}
        refusal = await running.refused(epair=epair, namespaces={"create": ["red"]})
        assert [each.split(": ")[0] for each in refusal.problems] == [
            "epair.epair1.a.netns", "epair.epair1.b.netns", "namespaces.create",
        ]  # fmt: skip
        assert "blue cannot be removed, epair0b is in it" in refusal.problems[2]
        assert running.state() == before


def everything_changes() -> dict[str, Any]:
    """Return tables that each cause another kind of step."""
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
async def test_whichever_step_fails_everything_is_as_it_was(started: Begin) -> None:
    failed: list[str] = []
    async with started(epair=EVERYTHING) as running:
        before = running.state()
        step = 0
        while True:
            running.host.steps.clear()
            running.host.failing_step = step
            running.write(**everything_changes())
            try:
                await running.daemon.reloads.reload()
            except Refused as refusal:
                failed.append(f"{running.host.steps[step]}: {refusal}")
                running.host.failing_step = None
            else:
                running.host.failing_step = None
                if len(running.host.steps) <= step:
                    break
                # A step whose failure does not affect a reload.
                await running.reload()
                before["macs"] = running.state()["macs"]
            assert running.state() == before, running.host.steps[: step + 1]
            step += 1
        assert running.daemon._in_force.reading().failures == len(failed)
        assert all("Input/output error" in each for each in failed)
        steps = {each.split(":")[0] for each in failed}
        assert {
            "make_namespace",
            "open_tap",
            "place",
            "configure",
            "set_mtu",
            "set_name",
            "converge",
        } <= steps
        assert await running.reload(dry_run=True, **tables_of(running)) == {}
        assert running.state()["peers"] == {
            "epair0a": "epair0b", "epair0b": "epair0a", "epair1a": None, "epair1b": "epair2a",
            "epair2a": "epair1b", "epair2b": None, "epair4a": "epair4b", "epair4b": "epair4a",
        }  # fmt: skip
        # And back again.
        await running.reload()
        after = running.state()
        assert after | {"macs": None} == before | {"macs": None}


@on_loop
async def test_a_pair_created_at_runtime_stays_and_is_adopted_by_a_file_that_has_it(started: Begin) -> None:
    async with started() as running:
        await running.daemon._front_end.create("epair7", {"a": {"mtu": 1400}})
        tap = running.host.links["epair7a"].tap
        assert await running.reload() == {}
        (reading, _) = running.daemon._front_end.interface("epair7")
        assert reading.origin == "runtime"
        done = await running.reload(epair={"epair0": pair(), "epair7": {"a": {"mtu": 1400}}})
        assert done == {"epair7": "adopt"}
        assert running.host.links["epair7a"].tap is tap
        (reading, _) = running.daemon._front_end.interface("epair7")
        assert reading.origin == "configuration"
        assert await running.reload() == {"epair7": "destroy"}


@on_loop
async def test_settings_and_peers_changed_at_runtime_are_as_in_the_file_again(started: Begin) -> None:
    async with started(epair={"epair0": pair(), "epair1": {}}) as running:
        before = running.state()
        interfaces = running.daemon._front_end
        await interfaces.change("epair0b", {"mtu": 1400})
        await interfaces.change("epair1", {"carrier": "off"})
        await interfaces.patch("epair0a", "epair1b", force=True)
        assert await running.reload(dry_run=True) == {
            "epair0": "change", "epair1": "change", "epair0a": "change", "epair1a": "change",
        }  # fmt: skip
        await running.reload()
        assert running.state() == before


@on_loop
async def test_lost_addresses_are_restored_and_foreign_ones_left_alone(started: Begin) -> None:
    async with started() as running:
        link = running.host.links["epair0b"]
        assert link.settings is not None
        before = link.settings
        link.settings = replace(link.settings, addresses=(Address("10.9.9.9/24"),), routes=())
        assert await running.reload(dry_run=True) == {"epair0b": "restore"}
        assert await running.reload() == {"epair0b": "restore"}
        assert link.settings.addresses == (*before.addresses, Address("10.9.9.9/24"))
        assert link.settings.routes == before.routes
        assert await running.reload() == {}


@on_loop
async def test_a_lost_pair_is_created_again(started: Begin) -> None:
    async with started() as running:
        running.host.report(running.host.delete("epair0a"))
        await eventually(lambda: not running.host.links)
        assert await running.reload() == {"epair0": "create"}
        await eventually(running.carries())


@on_loop
async def test_the_saved_file_needs_no_change(started: Begin) -> None:
    async with started(lo={"lo1": {"addresses": ["10.5.0.1/24"]}}) as running:
        interfaces = running.daemon._front_end
        await interfaces.create("epair", {"a": {"netns": "red", "name": "x1"}, "queues": 2})
        await interfaces.create("epair5", {"b": {"routes": [{"to": "10.7.0.0/16", "via": "10.6.0.1"}],
                                                 "addresses": ["10.6.0.2/24"]}})  # fmt: skip
        await interfaces.create("lo", {"mode": "verbatim"})
        await interfaces.change("epair5a", {"mtu": 1400})
        await interfaces.patch("epair0a", "epair5b", force=True)
        text = running.daemon.reloads.text()
        planned = await running.daemon.reloads.plan(text, "saved.toml")
        assert {each.verb for each in planned} == {"adopt"}
        running.path.write_text(text)
        assert {each.verb for each in await running.daemon.reloads.reload()} == {"adopt"}
        assert await running.daemon.reloads.reload() == ()
        # A daemon that creates everything anew needs the peer.
        assert 'peer = "epair5b"' in text


@on_loop
async def test_a_hangup_reloads_and_is_reported_to_the_manager(
    tmp_path: Path, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    manager.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    received: list[str] = []

    def reported(words: str) -> bool:
        with contextlib.suppress(BlockingIOError):
            while True:
                received.append(manager.recv(4096).decode())
        return any(words in each for each in received)

    running = Running(tmp_path / "epaird.toml", host)
    running.write()
    file = read(running.path)
    task = asyncio.create_task(program._run(file.configuration, Source(running.path, file.sha256)))
    await eventually(lambda: reported("READY=1"))
    received.clear()
    running.write(epair={"epair0": pair(), "epair1": {}})
    os.kill(os.getpid(), signal.SIGHUP)
    await eventually(lambda: reported("READY=1"))
    order = [line for each in received for line in each.splitlines() if line in ("RELOADING=1", "READY=1")]
    assert order == ["RELOADING=1", "READY=1"]
    assert "MONOTONIC_USEC=" in next(each for each in received if "RELOADING=1" in each)
    assert "epair1a" in host.links
    received.clear()
    running.path.write_text("[daemon]\nworkers = 0\n")
    os.kill(os.getpid(), signal.SIGHUP)
    await eventually(lambda: reported("the last reload failed"))
    assert "epair1a" in host.links
    os.kill(os.getpid(), signal.SIGTERM)
    assert await task == 0
    manager.close()


@on_loop
async def test_a_watched_file_is_read_again_when_it_is_written_or_replaced(started: Begin) -> None:
    async with started() as running:
        await running.reload(daemon={"watch": True})
        running.write(daemon={"watch": True}, epair={"epair0": pair(), "epair1": {}})
        await eventually(lambda: running.daemon._in_force.reading().successes == 2)
        assert "epair1b" in running.host.links
        running.path.touch()  # the contents are the same
        path = running.path
        running.path = path.with_name(".new")
        running.write(daemon={"watch": True}, epair={"epair0": pair(), "epair2": {}})
        running.path = running.path.rename(path)
        await eventually(lambda: running.daemon._in_force.reading().successes == 3)
        assert {"epair2b", "epair1b"} & running.host.links.keys() == {"epair2b"}
        await running.reload(epair={"epair0": pair()})  # the file is not watched any more
        steps = len(running.host.steps)
        running.write()
        await asyncio.sleep(0.3)
        assert running.host.steps[steps:] == []


@on_loop
async def test_a_caller_that_is_cancelled_stops_no_reload(started: Begin) -> None:
    async with started() as running:
        held = running.host.hold("open_tap")
        running.write(epair={"epair0": pair(), "epair1": {}})
        asking = asyncio.create_task(running.daemon.reloads.reload())
        await eventually(held.reached.is_set)
        asking.cancel()
        held.released.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        assert "epair1b" in running.host.links
        assert running.daemon._in_force.reading().successes == 1


@on_loop
async def test_an_empty_file_is_obeyed_when_a_reload_of_it_is_requested(
    started: Begin, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started() as running:
        running.path.write_text("\n")
        # Another program may have the usual port of the page.
        monkeypatch.setattr(running.daemon.reloads, "_moving", lambda _: contextlib.nullcontext())
        done = await running.daemon.reloads.reload(dry_run=True)
        assert "is empty" not in caplog.text
        assert [action.verb for action in done if action.name == "epair0"] == ["destroy"]
        await running.daemon.reloads.reload()
        assert f"{running.path} is empty: everything that it had is removed" in caplog.messages
        assert not running.host.links


@on_loop
async def test_a_changed_file_is_applied_once_and_only_with_the_text_that_was_noticed(started: Begin) -> None:
    async with started() as running:
        reloads, in_force = running.daemon.reloads, running.daemon._in_force

        def done() -> int:
            return in_force.reading().successes

        await reloads.file_changed(in_force.digest)
        assert done() == 0
        running.write(daemon={"queue_limit": 99})
        noticed = digest(running.path.read_bytes())
        await reloads.reload(dry_run=True)
        await asyncio.gather(reloads.file_changed(noticed), reloads.file_changed(noticed))
        assert (done(), in_force.daemon.queue_limit) == (1, 99)
        running.write(daemon={"queue_limit": 98})
        noticed = digest(running.path.read_bytes())
        running.path.write_text("")
        await reloads.file_changed(noticed)
        running.path.unlink()
        await reloads.file_changed(noticed)
        assert (done(), in_force.daemon.queue_limit) == (1, 99)
        running.path.write_text("[epair")
        await reloads.file_changed(digest(b"[epair"))
        await reloads.file_changed(digest(b"[epair"))
        assert (done(), in_force.reading().failures) == (1, 1)


@on_loop
async def test_a_plan_of_a_text_that_is_no_unicode_is_refused(started: Begin) -> None:
    async with started() as running:
        for surrogate in (0xD800, 0xDCFF):  # the second stands for a byte of a file
            with pytest.raises(Refused, match=r"^f\.toml, line 2: not UTF-8 text$"):
                await running.daemon.reloads.plan(f"lo = 1\n{chr(surrogate)}", "f.toml")
