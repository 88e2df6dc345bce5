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
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
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
    old_port, new_port = free_port(), free_port()
    async with started(metrics={"listen": f"127.0.0.1:{old_port}"}) as running:

        async def listens(*wanted: tuple[str, int]) -> bool:
            places = [
                ("127.0.0.1", old_port),
                ("127.0.0.2", old_port),
                ("127.0.0.1", new_port),
                ("::1", new_port),
            ]
            return [each for each in places if await asyncio.to_thread(serves, *each)] == list(wanted)

        assert await listens(("127.0.0.1", old_port))
        for listen, places in (
            (f"127.0.0.1:{new_port}", [("127.0.0.1", new_port)]),
            (f"127.0.0.1:{old_port}", [("127.0.0.1", old_port)]),
            (
                f"0.0.0.0:{old_port}",
                [("127.0.0.1", old_port), ("127.0.0.2", old_port)],
            ),  # includes the old address
            (f"127.0.0.2:{old_port}", [("127.0.0.2", old_port)]),  # and is included in it
            ("", []),
            (f"[::1]:{new_port}", [("::1", new_port)]),
        ):
            (action,) = await running.reload_all(metrics={"listen": listen})
            assert (action.verb, action.name, action.details[0].note) == ("change", "metrics", "")
            await eventually(lambda: not running.daemon._page._retiring)
            assert await listens(*places), listen
            assert running.daemon._in_force.current.metrics.listen == listen
        assert await running.reload(metrics={"listen": f"[::1]:{new_port}"}) == {}
    assert not serves("::1", new_port)


@on_loop
async def test_a_page_that_cannot_move_fails_the_reload_before_anything(
    started: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    old_port = free_port()
    async with started(metrics={"listen": f"127.0.0.1:{old_port}"}) as running:
        before = running.state()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = "{}:{}".format(*taken.getsockname())
            running.host.steps.clear()
            refusal = await running.refused(
                metrics={"listen": address}, daemon={"queue_limit": 9}, epair={"epair0": pair(), "epair1": {}}
            )
        line = f"metrics.listen: {address} is in use by another program"
        assert str(refusal) == line
        errors = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
        assert errors == [f"not reloaded: {line}"]
        assert set(running.host.steps) <= {"present", "namespace_identity"}
        assert running.state() == before
        assert await asyncio.to_thread(serves, "127.0.0.1", old_port)


@on_loop
async def test_a_page_stays_where_it_was_when_something_else_of_the_reload_fails(started: Begin) -> None:
    old_port, new_port = free_port(), free_port()
    async with started(metrics={"listen": f"127.0.0.1:{old_port}"}) as running:
        running.host.fail("open_tap")
        wanted: dict[str, Any] = {
            "epair": {"epair0": pair(), "epair1": {}},
            "metrics": {"listen": f"127.0.0.1:{new_port}"},
        }
        await running.refused(**wanted)
        assert await asyncio.to_thread(serves, "127.0.0.1", old_port)
        assert not await asyncio.to_thread(serves, "127.0.0.1", new_port)
        assert await running.reload(**wanted) == {"epair1": "create", "metrics": "change"}
        assert await asyncio.to_thread(serves, "127.0.0.1", new_port)


@on_loop
async def test_clients_of_the_old_page_are_answered_to_the_end(started: Begin) -> None:
    old_port, new_port = free_port(), free_port()
    async with started(metrics={"listen": f"127.0.0.1:{old_port}"}) as running:
        silent, writer = await asyncio.open_connection("127.0.0.1", old_port)
        begun, also = await asyncio.open_connection("127.0.0.1", old_port)
        also.write(b"GET /healthz HTT")
        assert await asyncio.to_thread(serves, "127.0.0.1", old_port)  # both connections were accepted before
        await running.reload(metrics={"listen": f"127.0.0.1:{new_port}"})
        assert not await asyncio.to_thread(serves, "127.0.0.1", old_port)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        also.write(b"P/1.1\r\nhost: a\r\n\r\n")
        for reader in (silent, begun):  # each is answered once, then the connection is closed
            assert (await reader.read()).endswith(b"ok\n")
        writer.close()
        also.close()
        await eventually(lambda: not running.daemon._page._retiring)
