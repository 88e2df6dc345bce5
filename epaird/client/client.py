"""The daemon's API, as a command asks it: one connection to the control socket for each question.

By h11, which the daemon's own end is made of: it starts in half the time of http.client (which brings
ssl and email along) and a tenth of httpx's, and a command is over in less than those take to start.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import h11

PATIENCE_S: Final = 2.0
"""After so long without an answer the person who waits is told that it is the daemon."""

_RECEIVE: Final = 1 << 16
_OK: Final = range(200, 300)

_CONNECT: Final[Mapping[int, str]] = {
    errno.ENOENT: "the daemon is not running: there is no {}",
    errno.ENOTDIR: "the daemon is not running: there is no {}",
    errno.ECONNREFUSED: "the daemon is not running: nobody listens at {}",
    errno.EACCES: "{}: permission denied: only root and members of the group epaird may",
    errno.EPROTOTYPE: "{}: not the control socket of a daemon",
    errno.ENOTSOCK: "{}: not a socket",
}


class Failed(Exception):
    """The daemon cannot be asked, or has refused.  ``str()`` is one line for the person who asked."""

    def __init__(self, line: str, problems: Sequence[str] = ()) -> None:
        super().__init__(line)
        self.problems = tuple(problems)
        """Each thing that is wrong, a line each; empty when ``str()`` says all."""


class Client:
    """A daemon, by its control socket."""

    def __init__(self, path: str, waiting: Callable[[], None] = lambda: None) -> None:
        """``waiting`` is called when an answer takes long."""
        self._path = path
        self._waiting = waiting

    def ask(
        self,
        method: str,
        *place: str,
        body: object = None,
        query: str = "",
        patience: float | None = None,
    ) -> Any:  # noqa: ANN401
        """What the daemon answers, from JSON; None where there is nothing to say.

        ``place`` are the parts of the path below ``/v1``.  After ``patience`` seconds without an answer it
        gives up; None is never.  Raises Failed."""
        with self._connect() as connection:
            answer = _Answer(connection, method, _target(place, query), body)
            text = b"".join(answer.parts(patience, self._waiting))
        document = _parsed(text) if text else None
        if answer.status not in _OK:
            raise Failed(*_whys(answer.status, document))
        return document

    def text(self, *place: str) -> str:
        """What the daemon answers, as it is.  Raises Failed."""
        with self._connect() as connection:
            answer = _Answer(connection, "GET", _target(place, ""), None)
            text = b"".join(answer.parts(None, self._waiting))
        if answer.status not in _OK:
            raise Failed(*_whys(answer.status, _parsed(text)))
        return text.decode()

    def events(self) -> Iterator[dict[str, Any]]:
        """Events as they happen; raises Failed when the daemon ends."""
        with self._connect() as connection:
            answer = _Answer(connection, "GET", _target(("events",), ""), None)
            rest = b""
            for part in answer.parts(None, self._waiting):
                *lines, rest = (rest + part).split(b"\n")
                if answer.status not in _OK:
                    raise Failed(_why(answer.status, _parsed(rest or lines[0])))
                for line in lines:
                    yield _parsed(line)
        raise Failed("the daemon has ended")

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(self._path)
        except (OSError, ValueError) as error:
            connection.close()
            raise Failed(_why_not_connected(self._path, error)) from None
        return connection


class _Answer:
    """The answer to one request."""

    def __init__(self, connection: socket.socket, method: str, target: str, body: object) -> None:
        self.status = 0
        """Of HTTP; 0 until it is known."""
        self._socket = connection
        self._http = h11.Connection(h11.CLIENT)
        content = b"" if body is None else json.dumps(body).encode("ascii")
        headers = [("host", "epaird"), ("connection", "close"), ("accept", "*/*")]
        if body is not None:
            headers += [("content-type", "application/json"), ("content-length", str(len(content)))]
        request = h11.Request(method=method, target=target, headers=headers)
        parts = (request, h11.Data(data=content), h11.EndOfMessage())
        with contextlib.suppress(OSError):  # the answer says why, or that there is none
            connection.sendall(b"".join(self._http.send(part) or b"" for part in parts))

    def parts(self, patience: float | None, waiting: Callable[[], None]) -> Iterator[bytes]:
        """The body as it arrives; raises Failed when it does not arrive whole."""
        self._socket.settimeout(PATIENCE_S if patience is None else patience)
        while True:
            try:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    self._http.receive_data(self._socket.recv(_RECEIVE))
                elif isinstance(event, h11.Response):
                    self.status = event.status_code
                    self._socket.settimeout(None)
                elif isinstance(event, h11.Data):
                    yield bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    return
            except TimeoutError:
                if patience is not None:
                    raise Failed("the daemon does not answer") from None
                waiting()
                self._socket.settimeout(None)
            except (OSError, h11.ProtocolError):
                raise Failed("the daemon has ended without an answer") from None


def _target(place: tuple[str, ...], query: str) -> str:
    for part in place:
        if not part or "/" in part:  # no way to say it in a path
            raise Failed(f"{json.dumps(part)}: there is no such interface (ENXIO)")
    path = "/".join(quote(part, safe="", errors="surrogateescape") for part in place)
    return f"/v1/{path}?{query}" if query else f"/v1/{path}"


def _parsed(text: bytes) -> Any:  # noqa: ANN401
    try:
        return json.loads(text)
    except ValueError:
        raise Failed("what answers at the control socket is not epaird") from None


def _why(status: int, problem: object) -> str:
    """What a problem document says, in one line."""
    if isinstance(problem, dict) and "detail" in problem:
        name = f" ({problem['errno']})" if "errno" in problem else ""
        return " ".join(str(problem["detail"]).split()) + name
    return f"the daemon answered {status}"


def _whys(status: int, problem: object) -> tuple[str, tuple[str, ...]]:
    """What a problem document says, in one line, and each thing that is wrong."""
    errors = problem.get("errors", []) if isinstance(problem, dict) else []
    each = tuple(f"{' '.join(str(error['key']).split())}: {error['detail']}" for error in errors)
    return _why(status, problem), each


def _why_not_connected(path: str, error: OSError | ValueError) -> str:
    shown = path if path.isprintable() and path else json.dumps(path)
    code = error.errno if isinstance(error, OSError) else None
    if code is None:  # Python's own: the path is too long for a socket, or has a NUL in it
        return f"{shown}: {error}"
    return _CONNECT.get(code, "{}: " + os.strerror(code)).format(shown)
