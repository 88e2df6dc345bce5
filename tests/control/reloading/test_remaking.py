"""Missing interfaces, without a kernel: reasons, failures, and interfaces that are left alone."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from typing import Any

import pytest

from epaird.control.operations import Refused
from epaird.control.reloading import attempts, remaking
from epaird.kernel.watch import LinkEventKind
from tests.control.fake import FakeHost
from tests.control.reloading.running import BLUE, RED, Begin, Running, pair
from tests.loop import on_loop
from tests.waiting import eventually

ELSEWHERE: dict[str, Any] = {"a": {"netns": "green"}, "b": {"netns": "grey"}}


@pytest.fixture(autouse=True)
def fast(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remaking, "LOOK_S", 0.02)
    monkeypatch.setattr(attempts._Attempt, "__init__", lambda self: _initialise(self))


def _initialise(attempt: attempts._Attempt) -> None:
    attempt.pause, attempt.last, attempt.due, attempt.waited = 0.01, -1e9, None, False


def missing(running: Running) -> tuple[str, ...]:
    return running.daemon._absent()


async def lose(running: Running, device: str) -> None:
    """Delete a device and wait until its interface is gone."""
    name = running.daemon._registry.find(device)
    assert name is not None
    running.host.report(running.host.delete(device))
    await name.clone.gone.wait()


def plugs(running: Running) -> dict[str, str | None]:
    """Return the peer of each half that exists."""
    peers = running.state()["peers"]
    assert isinstance(peers, dict)
    return peers


@on_loop
async def test_a_pair_and_a_loopback_are_created_again_as_they_were(
    started: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    tables = {"lo": {"lo1": {"addresses": ["10.88.7.1/24"]}}, "epair": {"epair0": pair(), "epair1": {}}}
    async with started(**tables) as running:
        before = running.state()
        for device in ("epair0b", "lo0", "lo1"):
            await lose(running, device)
        await eventually(lambda: not missing(running))
        await eventually(lambda: "lo1: others have deleted it" in caplog.text)
        after = running.state()
        assert after["settings"] == before["settings"]
        assert after["peers"] == before["peers"]
        assert await running.reload(dry_run=True, **tables) == {}


@on_loop
async def test_halves_are_plugged_in_again_and_a_plug_that_is_used_is_left_alone(started: Begin) -> None:
    epair: dict[str, Any] = {
        "epair0": {"a": {"peer": "epair1a"}}, "epair1": {}, "epair2": {"a": {"peer": "epair3a"}},
        "epair3": {}, "epair4": {},
    }  # fmt: skip
    async with started(epair=epair) as running:
        front_end = running.daemon._front_end
        await lose(running, "epair0a")
        await eventually(lambda: plugs(running).get("epair0a") == "epair1a")
        assert plugs(running)["epair1a"] == "epair0a"
        held = running.host.hold("open_tap")
        await lose(running, "epair2a")
        await eventually(held.reached.is_set)
        await front_end.patch("epair3a", "epair4a", force=True)
        held.released.set()
        await eventually(lambda: not missing(running))
        await running.daemon.reloads.stop()
        assert (plugs(running)["epair2a"], plugs(running)["epair3a"]) == (None, "epair4a")


@on_loop
async def test_a_failure_leaves_it_missing_and_it_is_tried_again(
    started: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    async with started(epair={"epair0": pair(), "epair1": {}}) as running:
        running.host.fail("open_tap", errno.EEXIST, times=2)
        await lose(running, "epair0a")
        await lose(running, "epair1a")
        await eventually(lambda: not missing(running))
        failed = [line for line in caplog.messages if "cannot be created again" in line]
        assert {line.split(":")[0] for line in failed} <= {"epair0", "epair1"}
        assert "File exists" in failed[0]
        assert "the next attempt is in 0." in failed[0]


@on_loop
async def test_it_waits_for_a_namespace_and_for_a_reload(
    started: Begin, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def make(running: Running, name: str) -> None:
        running.host.add_namespace(name)

    async with started(epair={"epair0": pair()}) as running:
        await make(running, "green")
        await make(running, "grey")
        await running.reload(epair={"epair0": pair(), "epair1": ELSEWHERE})
        gone = running.host.namespaces.pop("green")
        assert gone
        await lose(running, "epair1a")
        await eventually(lambda: "epair1: missing, and created again when it can be" in caplog.text)
        assert caplog.text.count("epair1: missing") == 1
        assert running.daemon.health().status.endswith("1 of the configuration is missing")
        one, other = running.daemon._front_end.missing()
        assert (one.device, one.kind, one.pair, one.netns) == ("epair1a", "epair", "epair1", "green")
        assert one.reason == other.reason
        assert one.reason.startswith("namespace green: does not exist")
        async with running.daemon.reloads.one_at_a_time:
            await make(running, "green")
            await asyncio.sleep(5 * remaking.LOOK_S)
            assert missing(running) == ("epair1",)
        await eventually(lambda: not missing(running))
        assert "others have deleted it" in caplog.text


@on_loop
async def test_a_reload_applies_the_rest_and_says_what_waits(started: Begin) -> None:
    async with started() as running:
        running.host.add_namespace("green")
        running.host.add_namespace("grey")
        tables: dict[str, Any] = {"epair": {"epair0": pair(), "epair1": ELSEWHERE}}
        await running.reload(**tables)
        del running.host.namespaces["grey"]
        await lose(running, "epair1b")
        tables["epair"]["epair0"] = pair(a=RED | {"mtu": 1400})
        running.write(**tables)
        first, second = await running.daemon.reloads.reload()
        assert (first.name, first.verb, second.name, second.verb) == ("epair0", "change", "epair1", "create")
        assert second.note.startswith("no longer exists; it stays missing until it can be created: namespace")
        assert missing(running) == ("epair1",)
        refusal = await running.refused(epair={"epair0": pair(), "epair1": ELSEWHERE | {"coalesce": False}})
        assert "epair.epair1.b.netns" in str(refusal)
        await running.reload()  # without it
        assert missing(running) == ()


@on_loop
async def test_a_path_by_the_number_of_a_process_is_used_again_only_by_a_reload(
    started: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    path = "/proc/4711/ns/net"
    async with started() as running:
        running.host.add_namespace(path)
        tables: dict[str, Any] = {"epair": {"epair0": pair(), "epair1": {"a": {"netns": path}}}}
        await running.reload(**tables)
        await lose(running, "epair1a")
        await eventually(lambda: f"{path} may belong to another process by now" in caplog.text)
        assert missing(running) == ("epair1",)
        assert await running.reload(**tables) == {"epair1": "create"}


@on_loop
async def test_what_was_destroyed_on_request_stays_so_until_a_reload(started: Begin) -> None:
    async with started(epair={"epair0": pair(), "epair1": {}}) as running:
        await running.daemon._front_end.destroy("epair1")
        await running.daemon._front_end.create("epair2", {})
        await lose(running, "epair2a")
        await lose(running, "epair0a")
        await eventually(lambda: missing(running) == ("epair1",))
        assert "epair2a" not in running.host.links
        assert running.daemon._front_end.missing() == ()
        with pytest.raises(Refused, match=r"destroyed on request: epairctl reload creates it again$"):
            running.daemon._front_end.interface("epair1b")
        await running.reload()
        assert missing(running) == ()
        await lose(running, "epair1a")
        await eventually(lambda: not missing(running))


@on_loop
async def test_a_namespace_of_the_daemon_is_created_again_before_what_was_in_it(
    started: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    async with started() as running:
        place = running.host.links["epair0a"].place
        del running.host.namespaces["red"]
        event = replace(running.host.event("epair0a"), kind=LinkEventKind.NAME_GONE, identity=place.identity)
        running.host.links["epair0a"].exists = False
        running.host.report(event)
        running.host.fail("make_namespace", errno.ENOSPC)
        await eventually(lambda: missing(running) == ("epair0",))
        await eventually(lambda: not missing(running))
        assert "namespace red: missing, and cannot be created again: make_namespace" in caplog.text
        assert "namespace red: others have removed it: created again" in caplog.text
        assert running.host.links["epair0a"].place.netns == "red"
        assert BLUE["netns"] in running.host.namespaces


@on_loop
async def test_nothing_is_created_once_it_is_stopped(started: Begin) -> None:
    async with started(epair={"epair0": pair(), "epair1": {}}) as running:
        held = running.host.hold("open_tap")
        await lose(running, "epair0a")
        await eventually(held.reached.is_set)
        stopping = asyncio.create_task(running.daemon._stop_changes())
        running.host.report(running.host.delete("epair1a"))
        held.released.set()
        await stopping
        assert missing(running) == ("epair1",)
        refusal = await running.refused()
        assert refusal.errno == errno.ESHUTDOWN
