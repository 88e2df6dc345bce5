"""Requests to the API: every route with any body is answered, and what is refused changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote_from_bytes

import h11
from hypothesis import strategies as st

from epaird.config.settings import HalfSettings, LoopbackSettings, PairSettings
from tests.fuzz.configuration import written
from tests.fuzz.documents import documents, table_of
from tests.fuzz.mutations import JSON, document_mutated, mutated
from tests.fuzz.served import Served, served
from tests.fuzz.target import Target

DETAIL_MAX: Final = 100_000
"""Most characters of a problem document's detail: that of every key of a body."""

_TOKENS: Final = (
    b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\ud800", b"\\u0000", b"\\", b"null", b"NaN", b"Infinity",
    b"1e999", b"9" * 5000, b"\xff", b"\xef\xbb\xbf", b"\0", b'{"a":' * 3000, b"[" * 3000, b'"a":1,"a":2,',
    b"\xed\xa0\x80",
)  # fmt: skip
_METHODS: Final = ("GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW")
_NAMES: Final = (
    b"epair0", b"epair0a", b"epair0b", b"epair1a", b"lo0", b"lo1", b"epair", b"epair7", b"eth0", b"lo",
    b"", b"..", b"%", b"epair0a/peer", b"\xff\xfe", b"\0", b"\x1b[31m", b"epair" + b"9" * 5000,
    "épair0".encode(), b"a/b", b"epair99999",
)  # fmt: skip
_QUERIES: Final = (
    b"", b"?kind=epair", b"?kind=x%ff", b"?netns=red", b"?netns=", b"?netns=%00", b"?drops=true",
    b"?drops=%ff", b"?missing=1", b"?missing=true&missing=false", b"?netns=" + b"a/" * 400,
    b"?" + b"&" * 300, b"?x=1",
)  # fmt: skip
_TYPES: Final = (
    b"application/json", b"application/json; charset=utf-16", b"", b"text/plain",
    b"application/x-www-form-urlencoded", b"APPLICATION/JSON ; x", b"multipart/form-data; boundary=a",
    b"application/problem+json", b"\xe9/json", b"a" * 300,
)  # fmt: skip
_ACCEPTS: Final = (
    b"*/*", b"application/json", b"text/html", b"application/json;q=0", b'a/b;q="', b"," * 200,
    b"text/event-stream", b"*/*;q=nan", b"\xff",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """A request with its body as it is sent."""

    method: str
    path: bytes
    body: bytes
    content_type: bytes = b"application/json"
    accept: bytes = b"*/*"

    def __bytes__(self) -> bytes:
        head = b"%s %s HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\naccept: %s\r\n" % (
            self.method.encode(), self.path, len(self.body), self.accept,
        )  # fmt: skip
        if self.content_type:
            head += b"content-type: %s\r\n" % self.content_type
        return head + b"connection: close\r\n\r\n" + self.body


_SETTINGS: Final = st.one_of(
    [
        table_of(model, absent)
        for model in (HalfSettings, PairSettings, LoopbackSettings)
        for absent in (12, 3)
    ]
)
_ANY_NAME: Final = st.sampled_from([name.decode("latin-1") for name in _NAMES])
_TEXTS: Final = documents().map(written).map(lambda text: text.decode("utf-8", "surrogatepass"))
_CREATE: Final = st.builds(
    lambda name, table: {"name": name, "settings": table},
    st.sampled_from(("epair", "epair7", "lo", "lo7")) | _ANY_NAME,
    st.just({}) | _SETTINGS,
)
_PATCH: Final = st.builds(lambda to, by: {"peer": to, "force": by}, _ANY_NAME, st.booleans())
_ROUTES: Final[tuple[tuple[str, bytes, st.SearchStrategy[Any]], ...]] = (
    ("GET", b"/v1/interfaces", JSON), ("POST", b"/v1/interfaces", _CREATE),
    ("POST", b"/v1/interfaces", _CREATE), ("GET", b"/v1/interfaces/%s", JSON),
    ("PATCH", b"/v1/interfaces/%s", _SETTINGS), ("PATCH", b"/v1/interfaces/%s", _SETTINGS),
    ("DELETE", b"/v1/interfaces/%s", JSON),
    ("PUT", b"/v1/interfaces/%s/peer", _PATCH),
    ("DELETE", b"/v1/interfaces/%s/peer", JSON),
    ("POST", b"/v1/reload", st.builds(lambda dry: {"dry_run": dry}, st.booleans())),
    ("POST", b"/v1/plan", st.builds(lambda text, name: {"text": text, "name": name}, _TEXTS, _ANY_NAME)),
    ("POST", b"/v1/upgrade", JSON), ("GET", b"/v1/stats", JSON), ("GET", b"/v1/events", JSON),
    ("GET", b"/v1/configuration", JSON), ("GET", b"/v1/openapi.json", JSON), ("GET", b"/%s", JSON),
)  # fmt: skip
"""Methods, paths with a place for a name, and bodies of the right form."""


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Return a request to any path, with any body and headers; most of them nearly right."""
    method, path, bodies = draw(st.sampled_from(_ROUTES))
    name = draw(st.sampled_from(_NAMES[:6]) | st.sampled_from(_NAMES))
    path = path.replace(b"%s", quote_from_bytes(name).encode())
    if draw(st.integers(0, 3)) == 0:
        path += draw(st.sampled_from(_QUERIES))
    document = draw(bodies if draw(st.integers(0, 7)) else JSON)
    if draw(st.integers(0, 2)) == 0:
        document = draw(document_mutated(json.loads(json.dumps(document, default=str))))
    body = json.dumps(document, default=str, ensure_ascii=draw(st.booleans())).encode(
        "utf-8", "surrogatepass"
    )
    if draw(st.integers(0, 5)) == 0:
        body = draw(mutated(body, _TOKENS))
    unusual = draw(st.integers(0, 5)) == 0
    return Request(
        draw(st.sampled_from(_METHODS)) if unusual else method,
        path,
        body,
        draw(st.sampled_from(_TYPES)) if unusual else _TYPES[0],
        draw(st.sampled_from(_ACCEPTS)) if unusual else _ACCEPTS[0],
    )


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


async def ask(scope: Served, request: Request) -> Reply:
    """Send a request and return its answer; of an answer without an end only the headers."""
    reader, writer = await asyncio.open_unix_connection(str(scope.path), limit=1 << 24)
    with contextlib.closing(writer):
        writer.write(bytes(request))
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=request.method, target="/", headers=[("host", "a")]))
        client.send(h11.EndOfMessage())
        head: h11.Response | None = None
        body = b""
        while True:
            event = client.next_event()
            if event is h11.NEED_DATA:
                client.receive_data(await reader.read(1 << 16))
            elif isinstance(event, h11.Response):
                head = event
                if b"/v1/events" in request.path and event.status_code == 200:
                    break
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                raise AssertionError(f"not an answer: {event!r}")
    assert head is not None
    return Reply(head.status_code, dict(head.headers), body)


def check_problem(reply: Reply) -> None:
    """Check that an answer is a problem document with the name of an errno."""
    assert reply.headers[b"content-type"] == b"application/problem+json"
    document = json.loads(reply.body)
    assert document["status"] == reply.status
    assert document["errno"] in errno.errorcode.values()
    assert 0 < len(document["detail"]) <= DETAIL_MAX
    for each in (document, *document.get("errors", ())):
        assert each["detail"].isprintable(), each
    assert document.keys() <= {"type", "title", "status", "detail", "errno", "errors"}


def _answered(scope: Served, request: Request) -> None:
    """Check the answer to a request, and that one that is refused has changed nothing."""

    async def trial() -> None:
        before = scope.state()
        reply = await ask(scope, request)
        assert 200 <= reply.status < 500, reply
        if reply.status >= 400:
            if request.method != "HEAD":
                check_problem(reply)
            assert scope.state() == before
        else:
            assert (await ask(scope, Request("GET", b"/v1/stats", b""))).status == 200
            if request.method != "GET":
                await scope.reset()
                assert scope.state().keys() == before.keys()

    scope.run(trial())


API: Final = Target(
    name="api",
    inputs=requests(),
    holds=_answered,
    opened=served,
    examples=300,
    found=(Request("POST", b"/v1/plan", b'{"text": "lo = 1\\ud800"}'),),
    subjects=("epaird.control.api", "epaird.control.interfaces.frontend", "epaird.config.refusals"),
)
