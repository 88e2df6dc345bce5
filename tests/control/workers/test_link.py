"""The link to a worker process whose messages the test writes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from epaird.control.workers.attachment import Attachment, WorkerLost, WorkerRefused
from epaird.control.workers.link import Link
from epaird.control.workers.processes import Launched
from epaird.control.workers.readers import Readers
from epaird.control.workers.socketfile import socket_name
from epaird.ipc.channel import receive
from epaird.ipc.encoding import decode, encode
from epaird.ipc.ledger import Table
from epaird.ipc.messages import (
    Adopted,
    Attach,
    Attached,
    CableSpec,
    Description,
    Detach,
    Done,
    End,
    Gone,
    Keep,
    Listen,
    Message,
    More,
    Overflow,
    Ping,
    PortSpec,
    Ready,
    Resize,
    Start,
    Tune,
    UnknownFamily,
)
from tests.loop import on_loop, turns
from tests.waiting import eventually


def attachment(cable: str) -> Attachment:
    """Return a cable without descriptors of devices."""
    ports = PortSpec(f"{cable}a", 1, 1500), PortSpec(f"{cable}b", 2, 1500)
    return Attachment(CableSpec(cable, ports), (0, 0))


class FakeProcess:
    """A process that ends when it is killed."""

    pid = 4711

    def __init__(self) -> None:
        self._ended = asyncio.Event()

    async def wait(self) -> int:
        await self._ended.wait()
        return -9

    def kill(self) -> None:
        self._ended.set()


@dataclass
class Scene:
    """A link, the process's end of its socketpair, and what the link reported."""

    link: Link
    end: socket.socket
    messages: list[Message]
    ended: list[Link]
    readers: Readers
    fds: list[int] = field(default_factory=list)

    def nothing_sent(self) -> bool:
        """Return whether the link has sent nothing that was not read."""
        try:
            return not self.end.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True

    def send(self, *messages: Message) -> None:
        for message in messages:
            self.end.send(encode(message))

    def sent(self) -> Message:
        """The next message that the link has sent."""
        packet, fds = receive(self.end)
        self.fds = fds
        for fd in fds:
            os.close(fd)
        return decode(packet)

    async def begin(self, directory: Path | None = None) -> None:
        """Have the process become ready."""
        table = Table.create(4)
        beginning = asyncio.ensure_future(self.link.begin(Start(3), table.fd, directory))
        await turns()
        assert self.sent() == Start(3)
        self.send(Ready(4711))
        await beginning
        os.close(table.fd)


@asynccontextmanager
async def make_scene(readers: Readers | None = None) -> AsyncIterator[Scene]:
    """Provide a link; ``readers`` are those that it shares with another one."""
    readers = readers or Readers()
    own, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    end.setblocking(False)
    messages: list[Message] = []
    ended: list[Link] = []
    link = Link("worker 3", Launched(FakeProcess(), own), messages.append, ended.append, readers)
    with end:
        yield Scene(link, end, messages, ended, readers)
        await link.terminate()


@on_loop
async def test_requests_are_answered_in_any_order() -> None:
    async with make_scene() as scene:
        await scene.begin()
        keep, resize = scene.link.keep("epair0", 1.5), scene.link.resize("epair1", (9000, 9000))
        assert scene.sent() == Keep(1, "epair0", 1.5)
        assert scene.sent() == Resize(2, "epair1", (9000, 9000))
        scene.send(Done(2), Done(1, "epair0 is not attached"))
        await resize
        with pytest.raises(WorkerRefused, match=r"^epair0 is not attached$"):
            await keep


@on_loop
async def test_descriptors_travel_with_a_cable() -> None:
    async with make_scene() as scene:
        await scene.begin()
        spec = CableSpec("epair0", (PortSpec("a", 1, 1500), PortSpec("b", 2, 1500)))
        answer = scene.link.attach(Attachment(spec, (0, 1)))
        scene.sent()
        assert len(scene.fds) == 2
        scene.send(Done(1))
        await answer


@on_loop
async def test_descriptors_that_a_process_sends_are_closed_and_it_is_killed() -> None:
    async with make_scene() as scene:
        await scene.begin()
        read, write = os.pipe()
        os.set_blocking(read, False)
        socket.send_fds(scene.end, [encode(Done(1))], [write])
        os.close(write)
        await eventually(lambda: scene.ended)
        assert os.read(read, 1) == b"", "nothing has the other end any more"
        os.close(read)
        assert await scene.link.process.wait() == -9


@on_loop
async def test_other_messages_are_reported() -> None:
    async with make_scene() as scene:
        await scene.begin()
        scene.link.attach(attachment("epair0"))
        scene.send(Gone("epair0", "epair0b"))
        scene.end.send(b'{"type": "Later", "id": 5}')
        await turns()
        assert scene.messages == [Gone("epair0", "epair0b")]


WRONG = {
    "no JSON": b"\0",
    "deep": b"[" * 60_000,
    "wrong type": b'{"type": "Done", "id": "one"}',
    "request": encode(Ping()),
    "report of an orphan": encode(Adopted(1, 0, 1)),
    "cable": encode(Attached(CableSpec("epair0", (PortSpec("epair0a", 1, 1500),), "unplugged"))),
    "descriptors announced": encode(More()),
    "foreign interface": encode(Gone("epair0", "epair7b")),
    "foreign cable": encode(Gone("epair7", "epair0b")),
    "foreign name": encode(Overflow(True, "epair7b")),
    "no name": encode(Overflow(True, "")),
    "escape": encode(UnknownFamily("lo\x1b[2J", 1)),
    "version": encode(UnknownFamily("epair0a", 16)),
}


@pytest.mark.parametrize("packet", WRONG.values(), ids=WRONG)
def test_a_process_that_sends_anything_else_is_killed(
    packet: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def send() -> None:
        async with make_scene() as scene:
            await scene.begin()
            answer = scene.link.attach(attachment("epair0"))
            scene.end.send(packet)
            await eventually(lambda: scene.ended)
            assert scene.ended == [scene.link]
            assert scene.messages == []
            assert await scene.link.process.wait() == -9
            scene.link.abandon()
            with pytest.raises(WorkerLost):
                await answer

    on_loop(send)()
    (line,) = caplog.messages
    assert line.startswith("worker 3 (pid 4711) sent what no worker sends: ")
    assert line.endswith("; killing it")
    assert line.isprintable()


@pytest.mark.parametrize("message", [Done(99), Description("0.3.0", 4)], ids=lambda each: type(each).__name__)
@on_loop
async def test_a_process_that_floods_is_killed_and_delays_nothing_meanwhile(message: Message) -> None:
    async with make_scene() as scene:
        await scene.begin()
        scene.end.setblocking(False)
        passed = 0
        while not scene.ended:
            assert passed < 1000, "it is not killed"
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                for _ in range(1000):
                    scene.end.send(encode(message))
            await asyncio.sleep(0)
            passed += 1
        assert passed > 1, "the loop turned"


@on_loop
async def test_an_answer_after_its_caller_was_cancelled_is_no_fault() -> None:
    async with make_scene() as scene:
        await scene.begin()
        for number in range(1, 2000):
            answer = scene.link.resize("epair0", (1500, 1500))
            answer.cancel()
            scene.sent()
            scene.send(Done(number))
            await asyncio.sleep(0)
        await turns()
        assert not scene.ended


@on_loop
async def test_a_cable_waits_until_no_other_process_reads_it() -> None:
    async with make_scene() as first, make_scene(first.readers) as second:
        await first.begin()
        await second.begin()
        first.link.attach(attachment("epair0"))
        first.sent()
        attached = second.link.attach(attachment("epair0"))
        await turns()
        assert second.nothing_sent()
        kept = first.link.keep("epair0", 1)
        kept.cancel()  # the process carries it out all the same
        first.sent()
        first.send(Done(2))
        await eventually(lambda: not second.nothing_sent())
        assert isinstance(second.sent(), Attach)
        second.send(Done(1))
        await attached


@on_loop
async def test_a_cable_waits_until_the_process_has_ended_even_when_it_hangs_up() -> None:
    async with make_scene() as first, make_scene(first.readers) as second:
        await first.begin()
        await second.begin()
        lost = first.link.attach(attachment("epair0"))
        first.end.close()
        await eventually(lambda: first.ended)
        first.link.abandon()
        assert isinstance(lost.exception(), WorkerLost)
        attached = second.link.attach(attachment("epair0"))
        await turns()
        assert second.nothing_sent()
        await first.link.terminate()
        assert isinstance(second.sent(), Attach)
        second.send(Done(1))
        await attached


@on_loop
async def test_a_cable_that_is_detached_while_it_waits_is_never_attached() -> None:
    async with make_scene() as first, make_scene(first.readers) as second:
        await first.begin()
        await second.begin()
        first.link.attach(attachment("epair0"))
        attached = second.link.attach(attachment("epair0"))
        await second.link.detach("epair0", 1)
        with pytest.raises(WorkerRefused, match=r"^epair0 is detached already$"):
            await attached
        await first.link.terminate()
        await turns()
        assert second.nothing_sent()


@on_loop
async def test_a_process_that_ends_is_reported_and_answers_nothing_more() -> None:
    async with make_scene() as scene:
        await scene.begin()
        answer = scene.link.detach("epair0", 1)
        scene.end.close()
        await turns()
        assert scene.ended == [scene.link]
        scene.link.abandon()
        for lost in (answer, scene.link.detach("epair0", 1)):
            with pytest.raises(WorkerLost):
                await lost


@on_loop
async def test_a_process_that_ends_in_the_moment_it_is_ready_was_never_ready() -> None:
    """Both are read at once, before the task that waits for the first runs again."""
    async with make_scene() as scene:
        table = Table.create(4)
        beginning = asyncio.ensure_future(scene.link.begin(Start(3), table.fd, None))
        await turns()
        scene.sent()
        scene.send(Ready(4711))
        scene.end.close()
        with pytest.raises(WorkerLost, match=r"^worker 3 has ended$"):
            await beginning
        assert not scene.link.running
        assert scene.ended == [scene.link]
        os.close(table.fd)


@on_loop
async def test_it_listens_for_the_next_control_plane_and_the_file_is_removed_with_it(tmp_path: Path) -> None:
    async with make_scene() as scene:
        await scene.begin(tmp_path)
        assert len(scene.fds) == 2
        path = tmp_path / socket_name(4711)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await scene.link.terminate()
        assert not path.exists()


@on_loop
async def test_a_process_that_cannot_listen_still_forwards(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with make_scene() as scene:
        await scene.begin(tmp_path / "none")
        assert scene.link.running
        assert caplog.messages == [
            f"{tmp_path}/none/worker-4711.sock: No such file or directory: "
            "the worker will not outlive the control plane"
        ]


@on_loop
async def test_a_process_of_another_protocol_is_sent_what_it_understands() -> None:
    async with make_scene() as scene:
        scene.link.adopt(None, understands=False)
        answer = scene.link.keep("epair0", 1)
        assert scene.sent() == Detach(1, "epair0", 1)
        scene.send(Done(1))
        await answer
        scene.link.request_end()
        assert scene.sent() == End()


@on_loop
async def test_cancelled_and_pending_requests_are_waited_for() -> None:
    async with make_scene() as scene:
        await scene.begin()
        scene.link.ping()
        assert scene.sent() == Ping()
        tuned = scene.link.tune(Start(3, 0, 7, 0, 1.5))
        assert scene.sent() == Tune(1, 7, 0, 1.5)
        cancelled = scene.link.detach("epair0", 1)
        cancelled.cancel()
        draining = asyncio.ensure_future(scene.link.drained())
        await turns()
        assert not draining.done()
        scene.send(Done(1))
        await draining
        await tuned


@on_loop
async def test_an_orphan_is_left_with_its_connection_closed() -> None:
    async with make_scene() as scene:
        await scene.begin()
        scene.link.leave()
        assert scene.end.recv(1) == b""
        with pytest.raises(WorkerLost):
            await scene.link.detach("epair0", 1)


@on_loop
async def test_a_process_whose_socket_is_removed_gets_another_one(tmp_path: Path) -> None:
    async with make_scene() as scene:
        await scene.begin(tmp_path)
        path = tmp_path / socket_name(FakeProcess.pid)
        assert scene.link.can_be_found
        for harm in (path.unlink, lambda: path.rename(tmp_path / "elsewhere")):
            harm()
            assert not scene.link.can_be_found
            again = asyncio.ensure_future(scene.link.listen_again())
            await turns()
            request = scene.sent()
            assert isinstance(request, Listen)
            assert len(scene.fds) == 1
            scene.send(Done(request.id))
            await again
            assert scene.link.can_be_found
            assert stat.S_IMODE(path.lstat().st_mode) == 0o600


@on_loop
async def test_a_process_of_an_older_version_is_asked_once(tmp_path: Path) -> None:
    async with make_scene() as scene:
        await scene.begin(tmp_path)
        (tmp_path / socket_name(FakeProcess.pid)).unlink()
        again = asyncio.ensure_future(scene.link.listen_again())
        await turns()
        request = scene.sent()
        assert isinstance(request, Listen)
        scene.send(Done(request.id, "unknown request Listen"))
        with pytest.raises(WorkerRefused, match=r"^worker 3 \(pid 4711\) is of an older version"):
            await again
        assert scene.link.can_be_found
