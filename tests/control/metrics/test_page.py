"""The metrics page opens, moves to another address and stops."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from epaird.config.settings import MetricsSettings
from epaird.control.http.listening import ListenError
from epaird.control.metrics.page import MetricsPage
from tests.control.samples import pair
from tests.loop import on_loop
from tests.waiting import eventually


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def at(port: int) -> MetricsSettings:
    return MetricsSettings(listen=f"127.0.0.1:{port}")


@asynccontextmanager
async def started(
    settings: MetricsSettings, passed: socket.socket | None = None
) -> AsyncIterator[MetricsPage]:
    """A page that answers until the end of the block."""
    page = MetricsPage(pair)
    page.open(settings, passed)
    await page.start()
    try:
        yield page
    finally:
        await page.stop()


async def answers(port: int) -> bool:
    """Return True if a page answers at the port."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    text = await reader.read()
    writer.close()
    await writer.wait_closed()
    return text.endswith(b"ok\n")


@on_loop
async def test_a_page_answers_until_it_stops() -> None:
    port = free_port()
    async with started(at(port)) as page:
        assert page.url == f"http://127.0.0.1:{port}/metrics"
        assert await answers(port)
    assert not await answers(port)


@on_loop
async def test_without_an_address_there_is_no_page() -> None:
    async with started(MetricsSettings(listen="")) as page:
        assert page.url is None
        assert page.copy() is None


@on_loop
async def test_a_passed_socket_is_used_at_its_address_and_closed_at_another() -> None:
    passed = socket.create_server(("127.0.0.1", 0))
    port = passed.getsockname()[1]
    async with started(at(port), passed):
        assert await answers(port)
    other = socket.create_server(("127.0.0.1", 0))
    async with started(at(free_port()), other):
        assert other.fileno() == -1


@on_loop
async def test_an_address_in_use_is_an_error_and_closes_the_passed_socket() -> None:
    passed = socket.create_server(("127.0.0.1", 0))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(ListenError, match="is in use by another program"):
            MetricsPage(pair).open(at(taken.getsockname()[1]), passed)
        assert passed.fileno() == -1


@on_loop
async def test_a_moved_page_answers_at_the_new_address_only() -> None:
    old, new = free_port(), free_port()
    async with started(at(old)) as page:
        async with page.moving(at(new)):
            assert await answers(old)
        assert await answers(new)
        await eventually(lambda: not page._retiring)
        assert not await answers(old)
        async with page.moving(at(new)):
            assert await answers(new)
        async with page.moving(MetricsSettings(listen="")):
            pass
        await eventually(lambda: not page._retiring)
        assert page.url is None
        assert not await answers(new)


@on_loop
async def test_a_page_stays_where_it_was_if_the_block_fails() -> None:
    old, new = free_port(), free_port()
    async with started(at(old)) as page:
        with pytest.raises(ZeroDivisionError):
            async with page.moving(at(new)):
                raise ZeroDivisionError
        assert await answers(old)
        assert not await answers(new)
        assert page.url == f"http://127.0.0.1:{old}/metrics"


@on_loop
async def test_a_copy_of_the_socket_outlives_the_page() -> None:
    port = free_port()
    async with started(at(port)) as page:
        descriptor = page.copy()
        assert descriptor is not None
    with socket.socket(fileno=descriptor) as copy:
        assert copy.getsockname() == ("127.0.0.1", port)
        assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
