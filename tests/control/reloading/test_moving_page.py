"""Reloads that move the metrics page."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import pytest

from tests.control.reloading.running import Begin, pair
from tests.loop import on_loop
from tests.waiting import eventually


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
async def test_the_metrics_page_moves_and_is_closed_and_opened(started: Begin) -> None:
    here, there = free_port(), free_port()
    async with started(metrics={"listen": f"127.0.0.1:{here}"}) as it:

        async def listens(*wanted: tuple[str, int]) -> bool:
            places = [("127.0.0.1", here), ("127.0.0.2", here), ("127.0.0.1", there), ("::1", there)]
            return [each for each in places if await asyncio.to_thread(serves, *each)] == list(wanted)

        assert await listens(("127.0.0.1", here))
        for listen, places in (
            (f"127.0.0.1:{there}", [("127.0.0.1", there)]),
            (f"127.0.0.1:{here}", [("127.0.0.1", here)]),
            (f"0.0.0.0:{here}", [("127.0.0.1", here), ("127.0.0.2", here)]),  # includes the old address
            (f"127.0.0.2:{here}", [("127.0.0.2", here)]),  # and is included in it
            ("", []),
            (f"[::1]:{there}", [("::1", there)]),
        ):
            (action,) = await it.reload_all(metrics={"listen": listen})
            assert (action.verb, action.name, action.details[0].note) == ("change", "metrics", "")
            await eventually(lambda: not it.daemon._page._retiring)
            assert await listens(*places), listen
            assert it.daemon._in_force.current.metrics.listen == listen
        assert await it.reload(metrics={"listen": f"[::1]:{there}"}) == {}
    assert not serves("::1", there)


@on_loop
async def test_a_page_that_cannot_move_fails_the_reload_before_anything(
    started: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    here = free_port()
    async with started(metrics={"listen": f"127.0.0.1:{here}"}) as it:
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
async def test_a_page_stays_where_it_was_when_something_else_of_the_reload_fails(started: Begin) -> None:
    here, there = free_port(), free_port()
    async with started(metrics={"listen": f"127.0.0.1:{here}"}) as it:
        it.host.fail("open_tap")
        wanted: dict[str, Any] = {
            "epair": {"epair0": pair(), "epair1": {}},
            "metrics": {"listen": f"127.0.0.1:{there}"},
        }
        await it.refused(**wanted)
        assert await asyncio.to_thread(serves, "127.0.0.1", here)
        assert not await asyncio.to_thread(serves, "127.0.0.1", there)
        assert await it.reload(**wanted) == {"epair1": "create", "metrics": "change"}
        assert await asyncio.to_thread(serves, "127.0.0.1", there)


@on_loop
async def test_who_has_connected_to_the_old_page_is_answered_to_the_end(started: Begin) -> None:
    here, there = free_port(), free_port()
    async with started(metrics={"listen": f"127.0.0.1:{here}"}) as it:
        silent, writer = await asyncio.open_connection("127.0.0.1", here)
        begun, also = await asyncio.open_connection("127.0.0.1", here)
        also.write(b"GET /healthz HTT")
        assert await asyncio.to_thread(serves, "127.0.0.1", here)  # both connections were accepted before
        await it.reload(metrics={"listen": f"127.0.0.1:{there}"})
        assert not await asyncio.to_thread(serves, "127.0.0.1", here)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        also.write(b"P/1.1\r\nhost: a\r\n\r\n")
        for reader in (silent, begun):  # each is answered once, then the connection is closed
            assert (await reader.read()).endswith(b"ok\n")
        writer.close()
        also.close()
        await eventually(lambda: not it.daemon._page._retiring)
