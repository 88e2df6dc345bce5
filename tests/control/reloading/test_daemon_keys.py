"""Reloads of the daemon's own settings: the number of workers and others."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from epaird.config.immutable import NEEDS_RESTART
from epaird.config.settings import DaemonSettings
from tests.control.reloading.running import Begin, Running, log_formats
from tests.loop import on_loop
from tests.waiting import eventually


@on_loop
async def test_the_number_of_workers_changes_and_no_frame_is_lost(started: Begin) -> None:
    many: dict[str, Any] = {f"epair{number}": {} for number in range(6)}
    async with started(epair=many) as running:
        for count in (3, 2, 4, 1):
            asyncio.get_running_loop().call_soon(running.host.links["epair0a"].owner.sends, 20)
            await running.reload(epair=many, daemon={"workers": count})
            loads = [len(worker.attachments) for worker in running.daemon._workers]
            assert sum(loads) == 6
            assert max(loads) - min(loads) <= 1
            assert len(running.daemon.reading().workers) == count
            for name in many:
                await eventually(running.carries(f"{name}a", f"{name}b"))
        sent = running.host.links["epair0a"].owner.sent
        await eventually(lambda: len(running.host.links["epair0b"].owner.receives()) == sent)


@on_loop
async def test_workers_apply_other_settings_without_being_replaced(started: Begin) -> None:
    async with started() as running:
        (worker,) = running.daemon._workers
        pid = worker.pid
        assert await running.reload(daemon={"queue_limit": 7, "poll_spin_us": 0}) == {"daemon": "change"}
        assert worker.reading().queue_limit == 7
        receiver = running.host.links["epair0b"].owner
        sender = running.host.links["epair0a"].owner

        def full() -> bool:
            sender.sends_all_it_can()
            return worker.reading().oactive

        await eventually(full)
        assert worker.reading().queue_frames == 7
        await eventually(lambda: len(receiver.receives()) == running.host.links["epair0a"].owner.sent)
        assert worker.pid == pid


@on_loop
async def test_a_key_that_needs_a_restart_is_reported_and_stays(started: Begin) -> None:
    async with started() as running:
        running.write(daemon={"control_socket": "/run/elsewhere/control.sock"})
        (action,) = await running.daemon.reloads.reload()
        assert action.verb == "restart"
        assert action.details[0].note == "only a restart of the daemon applies it"
        assert await running.daemon.reloads.reload(dry_run=True) == (action,)


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


def in_force(running: Running) -> dict[str, object]:
    """Return the effect of each of these keys on the running daemon."""
    (settings,) = {
        (each._settings.queue_limit, each._settings.poll_spin_us, each._settings.orphan_timeout)
        for each in running.daemon._workers
    }
    return {
        "workers": len(running.daemon._workers),
        **dict(zip(("queue_limit", "poll_spin_us", "orphan_timeout"), settings, strict=True)),
        "worker_timeout": running.daemon._workers.watched,
        # These are applied when the daemon ends.
        "drain_timeout": running.daemon._in_force.daemon.drain_timeout,
        "keep_devices": running.daemon.keeps_devices,
        "watch": running.daemon._file_watch.active,
        "log_level": logging.getLogger().level,
        "log_format": log_formats[-1:] or ["text"],
    }


def test_every_key_of_the_daemon_is_applied_or_needs_a_restart() -> None:
    restart = {key.removeprefix("daemon.") for key in NEEDS_RESTART}
    assert OTHER.keys() | restart == DaemonSettings.model_fields.keys()
    assert not OTHER.keys() & restart


@pytest.mark.parametrize("key", OTHER)
def test_a_key_of_the_daemon_is_applied_in_place_and_alone(started: Begin, key: str) -> None:
    async def change() -> None:
        async with started() as running:
            before = in_force(running)
            (action,) = await running.reload_all(daemon={key: OTHER[key]})
            assert (action.verb, action.name, action.details[0].note) == ("change", "daemon", "")
            after = in_force(running)
            assert [each for each in after if after[each] != before[each]] == [key]
            await running.reload()
            assert in_force(running) == before

    on_loop(change)()
