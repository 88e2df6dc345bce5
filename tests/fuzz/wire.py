"""HTTP as bytes: any request in any parts is answered as if it came at once, and nothing else disturbs."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from hypothesis import strategies as st

from epaird.control.http.server import Connection, Server
from tests.fuzz.mutations import mutated
from tests.fuzz.requests import Request, ask
from tests.fuzz.served import Served, served
from tests.fuzz.target import Target
from tests.loop import turns
from tests.waiting import eventually

BUFFERED_MAX: Final = 1 << 18
"""Most bytes that a connection may keep of what it was sent and has not used."""
_STATUS: Final = re.compile(rb"^HTTP/1\.1 ([0-9]{3}) ", re.MULTILINE)
_CONTINUE: Final = b"HTTP/1.1 100 \r\n\r\n"

_TOKENS: Final = (
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b";", b"\xff", b"\r\n x", b"HTTP/1.0",
    b"HTTP/9.9", b"content-length: 5\r\n", b"content-length: 99999999999999999999\r\n",
    b"content-length: +1\r\n", b"content-length: 1, 1\r\n", b"transfer-encoding: chunked\r\n",
    b"transfer-encoding: gzip, chunked\r\n", b"expect: 100-continue\r\n", b"expect: 200\r\n",
    b"upgrade: websocket\r\nconnection: upgrade\r\n", b"host: b\r\n", b"connection: close\r\n",
    b"ffffffffffffffff\r\n", b"fffffffffffffffffffff\r\n", b"-1\r\n", b"0\r\n\r\n", b"1;a=b\r\nx",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET http://a/v1/cloners HTTP/1.1\r\n",
    b"GET /metrics HTTP/1.1\r\n\r\n",
    b"a" * 70000, b"CONNECT a:1 HTTP/1.1\r\n", b"OPTIONS * HTTP/1.1\r\n", b"a: b\r\n" * 300,
)  # fmt: skip
_REQUESTS: Final[tuple[tuple[bytes, bytes, bytes], ...]] = (
    (b"GET", b"/v1/cloners", b""),
    (b"GET", b"/v1/interfaces", b""),
    (b"GET", b"/v1/configuration", b""),
    (b"HEAD", b"/v1/openapi.json", b""),
    (b"POST", b"/v1/plan", b'{"text": "[epair.epair7]\\n"}'),
    (b"POST", b"/v1/reload", b'{"dry_run": true}'),
    (b"PATCH", b"/v1/interfaces/epair0a", b'{"mtu": 1}'),
    (b"POST", b"/v1/interfaces", b'{"name": "epair0"}'),
    (b"POST", b"/v1/upgrade", b""),
    (b"DELETE", b"/v1/interfaces/lo0", b""),
    (b"POST", b"/v1/plan", b'{"text": "' + b"#" * 5000),
    (b"PUT", b"/healthz", b"x" * 100),
    (b"GET", b"/healthz", b""),
)
"""Methods, paths and bodies of requests that change nothing and are always answered alike."""


@st.composite
def _chunked(draw: st.DrawFn, body: bytes) -> bytes:
    """Return a body in chunks, with extensions and trailers."""
    made = b""
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=4)))
    for start, end in pairwise((0, *cuts, len(body))):
        if start < end:
            extension = draw(st.sampled_from((b"", b";a", b";a=b", b';a="b;c"')))
            size = draw(st.sampled_from((b"%x", b"%X", b"000%x"))) % (end - start)
            made += size + extension + b"\r\n" + body[start:end] + b"\r\n"
    return (
        made + b"0\r\n" + draw(st.sampled_from((b"", b"a: b\r\n", b"x-a: " + b"b" * 300 + b"\r\n"))) + b"\r\n"
    )


@st.composite
def _valid(draw: st.DrawFn) -> bytes:
    """Return one request."""
    method, path, body = draw(st.sampled_from(_REQUESTS))
    more = [
        b"Host: a",
        b"x-folded: a\r\n  b",
        b"x-\xc3\xa9: \xc3\xa9",
        b"Accept:*/*",
        b"x-long: " + b"y" * 9000,
    ]
    headers = [more[0], *(each for each in (more[1], more[3], more[4]) if draw(st.integers(0, 4)) == 0)]
    if body and draw(st.booleans()):
        headers.append(b"Transfer-Encoding: chunked")
        body = draw(_chunked(body))
    elif body:
        headers.append(b"content-length: %d" % len(body))
    if body and draw(st.integers(0, 3)) == 0:
        headers.append(b"Expect: 100-continue")
    if draw(st.integers(0, 7)) == 0:
        headers.append(b"connection: close")
    return b"%s %s HTTP/1.1\r\n%s\r\n\r\n" % (method, path, b"\r\n".join(headers)) + body


@dataclass(frozen=True, slots=True)
class Sent:
    """Bytes and the places where they are split."""

    server: str
    """The server that they are sent to: ``api`` or ``page``."""
    data: bytes
    cuts: tuple[int, ...]

    @property
    def parts(self) -> list[bytes]:
        """The parts, in order."""
        found = (self.data[start:end] for start, end in pairwise((0, *self.cuts, len(self.data))))
        return [part for part in found if part]


@st.composite
def _sent(draw: st.DrawFn, *, valid: bool) -> Sent:
    data = b"".join(draw(st.lists(_valid(), min_size=1, max_size=3)))
    if not valid:
        data = draw(mutated(data, _TOKENS) | st.binary(max_size=40))
    if draw(st.integers(0, 9)) == 0:
        cuts = tuple(range(1, min(len(data), 600)))
    else:
        cuts = tuple(sorted(draw(st.lists(st.integers(0, len(data)), max_size=8))))
    return Sent(draw(st.sampled_from(("api", "page"))), data, cuts)


class Wire(asyncio.Transport):
    """The transport of a connection, which keeps what is written."""

    def __init__(self, end: socket.socket) -> None:
        super().__init__({"socket": end})
        self.written = b""
        self.closed = False
        self.paused = False

    def write(self, data: Any) -> None:  # noqa: ANN401
        if not self.closed:
            self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


async def exchange(server: Server, parts: Sequence[bytes]) -> bytes:
    """Send parts to a server, each once it reads again; return what it writes until it waits."""
    near, far = socket.socketpair()
    with near, far:
        wire = Wire(near)
        connection = server._connection(server._config, server._state, server._limits)
        connection.connection_made(wire)
        for part in parts:
            await _rest(connection, wire, until_read=True)
            if wire.closed:
                break
            connection.data_received(part)
            trailing, _ = connection.conn.trailing_data
            assert len(trailing) <= BUFFERED_MAX, f"{len(trailing)} bytes are kept"
        await _rest(connection, wire, until_read=False)
        wire.abort()
        connection.connection_lost(None)
    return wire.written


async def _rest(connection: Connection, wire: Wire, *, until_read: bool) -> None:
    """Wait until the connection reads again, or until it waits for its client."""
    await asyncio.sleep(0)
    await eventually(lambda: wire.closed or (not wire.paused if until_read else connection.waits_for_client))
    await turns()


def _server(scope: Served, name: str) -> Server:
    page = scope.daemon._page._server
    assert page is not None
    return scope.daemon._control if name == "api" else page


def _same(scope: Served, sent: Sent) -> None:
    """Check that requests in parts are answered as they are in one part."""

    async def trial() -> None:
        server = _server(scope, sent.server)
        whole = await exchange(server, [sent.data])
        parts = await exchange(server, sent.parts)
        if b"Expect" in sent.data:
            # A request that is answered before its body was asked for ends the connection.
            statuses = _statuses(parts)
            assert statuses
            assert statuses == _statuses(whole)[: len(statuses)]
        else:
            assert _comparable(parts) == _comparable(whole), f"{parts!r}, and in one part {whole!r}"
        _check_statuses(whole)

    scope.run(trial())


def _comparable(answers: bytes) -> bytes:
    """Return answers without those that depend on when the body of a request came."""
    return answers.replace(_CONTINUE, b"")


def _statuses(answers: bytes) -> list[int]:
    """Return the statuses of answers, except 100."""
    return [status for each in _STATUS.findall(answers) if (status := int(each)) != 100]


def _check_statuses(answers: bytes) -> None:
    statuses = _statuses(answers)
    assert all(100 <= status < 500 or status == 501 for status in statuses), statuses


def _endured(scope: Served, sent: Sent) -> None:
    """Check that any bytes are answered, or wait for more, and that the next client is served."""

    async def trial() -> None:
        before = scope.state()
        answers = await exchange(_server(scope, sent.server), sent.parts)
        assert not answers or answers.startswith(b"HTTP/1.1 ")
        _check_statuses(answers)
        assert (await ask(scope, Request("GET", b"/v1/cloners", b""))).status == 200
        if scope.state() != before:
            await scope.reset()

    scope.run(trial())


_LAST: Final = (
    b"POST /v1/plan HTTP/1.1\r\nHost: a\r\nconnection: close\r\ncontent-length: 28\r\n\r\n"
    b'{"text": "[epair.epair7]\\n"}GET /v1/cloners HTTP/1.1\r\nHost: a\r\n\r\n'
)
"""A client's last request, and bytes after it."""

SUBJECTS: Final = ("epaird.control.http", "epaird.control.api.server", "epaird.control.api.guard")

HTTP_SPLIT: Final = Target(
    name="http-split",
    inputs=_sent(valid=True),
    holds=_same,
    opened=served,
    examples=100,
    found=(Sent("api", _LAST, tuple(range(1, len(_LAST)))),),
    subjects=SUBJECTS,
)
HTTP_BYTES: Final = Target(
    name="http-bytes",
    inputs=_sent(valid=False),
    holds=_endured,
    opened=served,
    examples=300,
    subjects=SUBJECTS,
)
