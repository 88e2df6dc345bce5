"""Packets of a worker that was taken over: whatever it sends, the control plane goes on."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Final, get_args

from hypothesis import strategies as st

from epaird.ipc.encoding import encode
from epaird.ipc.impairment import LineParameters, LineSpec, LossChain, Phase
from epaird.ipc.messages import CableSpec, Done, Message, PortSpec, Resize
from epaird.ipc.settlement import Correction
from tests.control.workers.test_link import Scene, make_scene
from tests.fuzz.mutations import JSON, document_mutated, mutated
from tests.fuzz.running import Run, running
from tests.fuzz.target import Target
from tests.loop import descriptors, turns

_TOKENS: Final = (
    b"{", b"}", b"[", b"]", b'"', b":", b",", b"null", b"NaN", b"-1", b"1e999", b"9" * 5000, b"\\ud800",
    b"\xff\xfe", b"\0", b"[" * 5000, b'{"a":' * 5000, b'"type": "More"', b"\\u001b[31m",
)  # fmt: skip
_NAMES: Final = ("epair0", "epair0a", "lo1", "", "\x1b[31m", "e" * 5000, "\ud800", "epair0\nepair1")
_NUMBERS: Final = (0, 1, 2, -1, 2**31, 2**63, 2**64, 10**30, 0.5, 1e308)


_RECORDS: Final[dict[str, type]] = {
    each.__name__: each
    for each in (CableSpec, PortSpec, Correction, LineSpec, Phase, LineParameters, LossChain)
}  # fmt: skip
"""The classes in messages, by their names."""


def _field(annotation: str) -> st.SearchStrategy[Any]:
    match annotation:
        case "int" | "float":
            return st.sampled_from(_NUMBERS)
        case "bool":
            return st.booleans()
        case "str":
            return st.sampled_from((*_NAMES, "cable", "unplugged", "reflect", "verbatim", "kept"))
        case _ if annotation in _RECORDS:
            return _record(_RECORDS[annotation])
        case _:
            member = annotation.removeprefix("tuple[").removesuffix(", ...]")
            return st.lists(_field(member), max_size=3)


def _record(kind: type) -> st.SearchStrategy[dict[str, Any]]:
    """Return the fields of a class, of which some may be missing."""
    return st.fixed_dictionaries({}, optional={each.name: _field(str(each.type)) for each in fields(kind)})


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    """Return a packet: a message of any type, or nearly one, or any bytes."""
    kind = draw(st.sampled_from(get_args(Message)))
    document = {"type": kind.__name__} | draw(_record(kind))
    if draw(st.integers(0, 2)) == 0:
        document = draw(document_mutated(document))
    packet = json.dumps(document if draw(st.integers(0, 9)) else draw(JSON)).encode()
    if draw(st.integers(0, 3)) == 0:
        packet = draw(mutated(packet, _TOKENS))
    return packet[:65536] or b"x"


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet and how many descriptors travel with it."""

    data: bytes
    fds: int = 0


_PACKETS: Final = st.lists(
    st.builds(Packet, packets() | st.binary(min_size=1, max_size=40), st.sampled_from((0, 0, 0, 1, 2, 253))),
    min_size=1,
    max_size=8,
)


@contextlib.contextmanager
def borrowed(count: int) -> Iterator[list[int]]:
    """Provide descriptors to send."""
    fds = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) for _ in range(count)]
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def send(end: socket.socket, packet: Packet) -> bool:
    """Send a packet; return False when the other side has closed the connection."""
    with borrowed(packet.fds) as fds:
        try:
            socket.send_fds(end, [packet.data], fds)
        except (BrokenPipeError, ConnectionResetError):
            return False
    return True


def _survived(scope: Run, sent: list[Packet]) -> None:
    """Check that packets are used or end the link, and that a link that goes on is of use."""

    async def trial() -> None:
        before = descriptors()
        async with make_scene() as scene:
            await scene.begin()
            for packet in sent:
                if not send(scene.end, packet):
                    break
                await turns()
            if not scene.ended:
                await _check_answered(scene)
        assert descriptors() == before

    scope.run(trial())


async def _check_answered(scene: Scene) -> None:
    """Check that a request is sent and its answer received."""
    answer = scene.link.resize("epair0", (1500, 1500))
    await turns()
    request = scene.sent()
    assert isinstance(request, Resize)
    scene.end.send(encode(Done(request.id)))
    await answer


WORKER_MESSAGES: Final = Target(
    name="worker-messages",
    inputs=_PACKETS,
    holds=_survived,
    opened=running,
    examples=300,
    subjects=("epaird.ipc.encoding", "epaird.ipc.channel", "epaird.control.workers.link"),
)
