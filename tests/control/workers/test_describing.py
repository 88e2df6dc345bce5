"""The examination of a process that a predecessor started, over a link whose other end the test has."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from epaird import __version__
from epaird.control.workers import describing
from epaird.control.workers.link import Link
from epaird.control.workers.processes import Launched
from epaird.ipc.channel import receive
from epaird.ipc.encoding import decode, encode
from epaird.ipc.messages import Describe, Description, Done, Message
from tests.control.workers.test_link import FakeProcess
from tests.loop import on_loop, turns
from tests.waiting import eventually


@dataclass
class Scene:
    """An adopted link and the process's end of it."""

    link: Link
    end: socket.socket

    def asked(self) -> int:
        """Receive the request; return its id."""
        packet, fds = receive(self.end)
        for fd in fds:
            os.close(fd)
        request = decode(packet)
        assert isinstance(request, Describe)
        assert len(fds) == 1
        return request.id

    def send(self, *messages: Message) -> None:
        for message in messages:
            self.end.send(encode(message))


@asynccontextmanager
async def adopted() -> AsyncIterator[Scene]:
    own, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    end.setblocking(False)
    link = Link("worker 3", Launched(FakeProcess(), own), lambda _: None, Link.abandon)
    with end:
        link.adopt(None)
        yield Scene(link, end)
        await link.terminate()


@on_loop
async def test_a_process_of_this_version_is_none_of_another() -> None:
    async with adopted() as scene:
        number = scene.asked()
        scene.send(Description(__version__), Done(number))
        assert await scene.link.other_version() == ""
        assert await scene.link.other_version() == ""


@pytest.mark.parametrize("version", ["0.3.9", "99.0"])
@on_loop
async def test_an_older_and_a_newer_version_are_others(version: str) -> None:
    async with adopted() as scene:
        number = scene.asked()
        scene.send(Description(version), Done(number))
        assert await scene.link.other_version() == version


@pytest.mark.parametrize("error", ["", "unknown request Describe"])
@on_loop
async def test_a_process_that_does_not_describe_itself_is_older(error: str) -> None:
    async with adopted() as scene:
        number = scene.asked()
        scene.send(Done(number, error))
        assert await scene.link.other_version() == "0.3.0 or older"


@on_loop
async def test_it_waits_for_the_answer() -> None:
    async with adopted() as scene:
        number = scene.asked()
        asking = asyncio.ensure_future(scene.link.other_version())
        scene.send(Description("0.3.9"))
        await eventually(lambda: scene.link.description is not None)
        assert not asking.done()
        scene.send(Done(number))
        assert await asking == "0.3.9"


@on_loop
async def test_one_that_does_not_answer_can_be_asked_for_its_answer_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(describing, "ANSWER_S", 0.01)
    async with adopted() as scene:
        number = scene.asked()
        for _ in range(2):
            with pytest.raises(TimeoutError, match="its process does not report its version"):
                await scene.link.other_version()
        scene.send(Description("0.3.9"), Done(number))
        await eventually(lambda: scene.link.description is not None)
        assert await scene.link.other_version() == "0.3.9"


@on_loop
async def test_one_that_ends_is_not_renewed() -> None:
    async with adopted() as scene:
        scene.end.close()
        assert await scene.link.other_version() == ""


@on_loop
async def test_without_a_descriptor_it_is_asked_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process of this version is not renewed because the limit of descriptors was reached once."""

    def none_left() -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as shortage:
        shortage.setattr(describing, "Output", none_left)
        async with adopted() as scene:
            with pytest.raises(OSError, match="Too many open files"):
                await scene.link.other_version()
            assert caplog.messages == [
                "worker 3 (pid 4711): its error messages are lost: Too many open files"
            ]
            shortage.undo()
            asking = asyncio.ensure_future(scene.link.other_version())
            await turns()
            scene.send(Description(__version__), Done(scene.asked()))
            assert await asking == ""


@on_loop
async def test_a_process_that_this_one_started_is_of_this_version() -> None:
    own, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link = Link("worker 3", Launched(FakeProcess(), own), lambda _: None, Link.abandon)
    with end:
        assert link.examination is None
        assert await link.other_version() == ""
        await link.terminate()
