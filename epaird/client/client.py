"""A client of the daemon's API, which opens one connection to the control socket for each request.

It uses h11, as the daemon does: h11 is imported in half the time of http.client (which imports ssl and
email) and a tenth of httpx's, and a command takes less time than those imports.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import h11

from epaird.client.base import Model
from epaird.client.models import CreatedInterface, Interface, InterfaceDetails, MissingInterface

if TYPE_CHECKING:
    from epaird.client.events import Event
    from epaird.client.impairment import PairImpairment
    from epaird.client.plans import PlanReport
    from epaird.client.statistics import Statistics
    from epaird.client.workers import WorkerInfo

M = TypeVar("M", bound=Model)

SLOW_S: Final = 2.0
"""Seconds without an answer after which ``waiting`` is called."""

_RECEIVE: Final = 1 << 16
_OK: Final = range(200, 300)
_FOREIGN: Final = "the program at the control socket is not epaird"

_CONNECT: Final[Mapping[int, str]] = {
    errno.ENOENT: "the daemon is not running: there is no {}",
    errno.ENOTDIR: "the daemon is not running: there is no {}",
    errno.ECONNREFUSED: "the daemon is not running: no process listens at {}",
    errno.EACCES: "{}: permission denied: only root and members of the group epaird may",
    errno.EPROTOTYPE: "{}: not the control socket of a daemon",
    errno.ENOTSOCK: "{}: not a socket",
}


class DaemonError(Exception):
    """The daemon cannot be reached, or it refused a request. ``str()`` is one line for the user."""

    def __init__(self, line: str, problems: Sequence[str] = ()) -> None:
        super().__init__(line)
        self.problems = tuple(problems)
        """One line for each error, if there are several; otherwise empty."""


class Client:
    """A daemon, by its control socket. Every method raises DaemonError."""

    def __init__(self, path: str, waiting: Callable[[], None] = lambda: None) -> None:
        """Set the socket's path; nothing is connected. ``waiting`` is called when an answer takes long."""
        self._path = path
        self._waiting = waiting

    def cloners(self) -> list[str]:
        """Return the kinds of interfaces that can be created."""
        found: list[str] = self.ask("GET", "cloners")
        return found

    def interfaces(
        self, kind: str | None = None, *, netns: str | None = None, drops: bool = False
    ) -> list[Interface]:
        """Return the interfaces that :func:`selecting` selects."""
        query = selecting(kind, netns, drops=drops)
        return [_model(Interface, each) for each in self.ask("GET", "interfaces", query=query)]

    def interface(self, name: str) -> list[InterfaceDetails]:
        """Return an interface with its counters, or both halves of a pair."""
        return [_model(InterfaceDetails, each) for each in self.ask("GET", "interfaces", name)]

    def missing(self, kind: str | None = None, *, netns: str | None = None) -> list[MissingInterface]:
        """Return the interfaces of the configuration that do not exist."""
        query = selecting(kind, netns, missing=True)
        return [_model(MissingInterface, each) for each in self.ask("GET", "interfaces", query=query)]

    def statistics(self, *, netns: str | None = None, drops: bool = False) -> Statistics:
        """Return the counters of the interfaces that :func:`selecting` selects, at one moment."""
        from epaird.client.statistics import Statistics

        return _model(Statistics, self.ask("GET", "stats", query=selecting(netns=netns, drops=drops)))

    def workers(self) -> list[WorkerInfo]:
        """Return the worker processes."""
        from epaird.client.workers import WorkerInfo

        return [_model(WorkerInfo, each) for each in self.ask("GET", "workers")]

    def events(self) -> Iterator[Event]:
        """Yield events as they happen; raises DaemonError when the daemon ends."""
        from epaird.client.events import Event

        return (_model(Event, each) for each in self.stream("events"))

    def create(self, name: str, settings: Mapping[str, object]) -> str:
        """Create an interface and return its name. ``name`` may be a kind, for the lowest free number."""
        return self.create_interface(name, settings).name

    def create_interface(self, name: str, settings: Mapping[str, object]) -> CreatedInterface:
        """Create an interface as :meth:`create`; return its name and those of its devices."""
        created = self.ask("POST", "interfaces", body={"name": name, "settings": settings})
        return _model(CreatedInterface, created)

    def change(self, name: str, settings: Mapping[str, object]) -> list[InterfaceDetails]:
        """Change an interface in place and return its new state."""
        found = self.ask("PATCH", "interfaces", name, body=settings)
        return [_model(InterfaceDetails, each) for each in found]

    def destroy(self, name: str) -> None:
        """Destroy a loopback, or a pair by its name or either half's."""
        self.ask("DELETE", "interfaces", name)

    def patch(self, name: str, peer: str, *, force: bool = False) -> None:
        """Patch a half to another one; with ``force`` also if that one is patched already."""
        self.ask("PUT", "interfaces", name, "peer", body={"peer": _canonical(peer), "force": force})

    def unpatch(self, name: str) -> None:
        """Separate a half from its peer; neither has a carrier afterwards."""
        self.ask("DELETE", "interfaces", name, "peer")

    def impairment(self, name: str) -> PairImpairment:
        """Return the impairment of what a half transmits, or of both directions of a pair."""
        from epaird.client.impairment import PairImpairment

        return _model(PairImpairment, self.ask("GET", "interfaces", name, "impairment"))

    def impair(
        self, name: str, keys: Mapping[str, object], *, whole: bool = False, duration: str | None = None
    ) -> PairImpairment:
        """Impair a half or a pair, and return the impairment. A key whose value is None is removed.

        Other keys stay, unless ``whole``. After ``duration``, ``30s``, the former impairment applies
        again."""
        from epaird.client.impairment import PairImpairment

        place, method = ("interfaces", name, "impairment"), "PUT" if whole else "PATCH"
        return _model(PairImpairment, self.ask(method, *place, body=keys, query=_for(duration)))

    def stop_impairing(self, name: str, *, duration: str | None = None) -> PairImpairment:
        """Impair a half or a pair no more; with ``duration``, not until that has passed."""
        from epaird.client.impairment import PairImpairment

        place = ("interfaces", name, "impairment")
        return _model(PairImpairment, self.ask("DELETE", *place, query=_for(duration)))

    def decisions(self, name: str, most: int) -> list[dict[str, Any]]:
        """Return the last decisions about what a half transmits, at most so many."""
        found: list[dict[str, Any]] = self.ask(
            "GET", "interfaces", name, "impairment", "log", query=f"most={most}"
        )
        return found

    def replay(self, name: str, decisions: Sequence[Mapping[str, object]]) -> None:
        """Repeat decisions about what a half transmits, as :meth:`decisions` returns them."""
        self.ask("PUT", "interfaces", name, "impairment", "replay", body=list(decisions))

    def upgrade(self) -> None:
        """Upgrade the running daemon in place."""
        self.ask("POST", "upgrade")

    def plan(self, text: str, name: str) -> PlanReport:
        """Return what a reload of a file with this text would do; messages call the file ``name``."""
        return self._report("plan", {"text": text, "name": name})

    def reload(self, *, dry_run: bool = False) -> PlanReport:
        """Reload the configuration and return what was done; with ``dry_run``, what would be done."""
        return self._report("reload", {"dry_run": dry_run})

    def configuration(self) -> str:
        """Return the running configuration, TOML."""
        return self.text("configuration")

    def ask(
        self,
        method: str,
        *place: str,
        body: object = None,
        query: str = "",
        timeout_s: float | None = None,
    ) -> Any:  # noqa: ANN401
        """Make a request and return the answer's JSON document; None if the answer is empty.

        ``place`` are the parts of the path below ``/v1``. Raises DaemonError, also after
        ``timeout_s`` without an answer; None waits for ever."""
        with self._connect() as connection:
            answer = _Exchange(self._path, connection, method, _target(place, query), body)
            text = b"".join(answer.parts(timeout_s, self._waiting))
        document = _parsed(text) if text else None
        if answer.status not in _OK:
            raise DaemonError(*_problems(answer.status, document))
        return document

    def text(self, *place: str) -> str:
        """Return the text that is at ``place``."""
        with self._connect() as connection:
            answer = _Exchange(self._path, connection, "GET", _target(place, ""), None)
            text = b"".join(answer.parts(None, self._waiting))
        if answer.status not in _OK:
            raise DaemonError(*_problems(answer.status, _parsed(text)))
        return text.decode()

    def stream(self, *place: str) -> Iterator[dict[str, Any]]:
        """Yield the JSON documents of an answer without an end; raises DaemonError when the daemon ends."""
        with self._connect() as connection:
            answer = _Exchange(self._path, connection, "GET", _target(place, ""), None)
            rest = b""
            for part in answer.parts(None, self._waiting):
                *lines, rest = (rest + part).split(b"\n")
                if answer.status not in _OK:
                    raise DaemonError(_detail(answer.status, _parsed(rest or lines[0])))
                for line in lines:
                    yield _parsed(line)
        raise DaemonError(_ending(self._path))

    def _report(self, place: str, body: object) -> PlanReport:
        from epaird.client.plans import PlanReport

        return _model(PlanReport, self.ask("POST", place, body=body))

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(self._path)
        except (OSError, ValueError) as error:
            connection.close()
            raise DaemonError(_connect_error(self._path, error)) from None
        return connection


class _Exchange:
    """The answer to one request."""

    def __init__(self, path: str, connection: socket.socket, method: str, target: str, body: object) -> None:
        """Send the request on a connection to the control socket at ``path``."""
        self._path = path
        self.status = 0
        """HTTP status; 0 until it is known."""
        self._socket = connection
        self._http = h11.Connection(h11.CLIENT)
        content = b"" if body is None else json.dumps(body).encode("ascii")
        headers = [("host", "epaird"), ("connection", "close"), ("accept", "*/*")]
        if body is not None:
            headers += [("content-type", "application/json"), ("content-length", str(len(content)))]
        request = h11.Request(method=method, target=target, headers=headers)
        parts = (request, h11.Data(data=content), h11.EndOfMessage())
        with contextlib.suppress(OSError):  # parts() raises what went wrong
            connection.sendall(b"".join(self._http.send(part) or b"" for part in parts))

    def parts(self, timeout_s: float | None, waiting: Callable[[], None]) -> Iterator[bytes]:
        """Yield the body as it arrives; raises DaemonError if it does not arrive whole."""
        self._socket.settimeout(SLOW_S if timeout_s is None else timeout_s)
        begun = False
        while True:
            try:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    received = self._socket.recv(_RECEIVE)
                    begun = begun or bool(received)
                    self._http.receive_data(received)
                elif isinstance(event, h11.Response):
                    self.status = event.status_code
                    self._socket.settimeout(None)
                elif isinstance(event, h11.Data):
                    yield bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    return
            except TimeoutError:
                if timeout_s is not None:
                    raise DaemonError("the daemon does not answer") from None
                waiting()
                self._socket.settimeout(None)
            except (OSError, h11.ProtocolError) as error:
                if begun and not self.status and not isinstance(error, OSError):
                    raise DaemonError(_FOREIGN) from None
                raise DaemonError(f"{_ending(self._path)} without an answer") from None


def _ending(path: str) -> str:
    """Return what has happened to a daemon whose connection has ended: it may still listen."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(SLOW_S)
        with contextlib.suppress(OSError):
            probe.connect(path)
            return "the daemon has closed the connection"
    return "the daemon has ended"


def selecting(
    kind: str | None = None, netns: str | None = None, *, drops: bool = False, missing: bool = False
) -> str:
    """Return the query for the interfaces of a kind, in a namespace, that have lost frames, or are missing.

    None selects any. An empty ``netns`` is the daemon's own namespace."""
    wanted = {"kind": kind, "netns": netns, "drops": "true" if drops else None}
    wanted["missing"] = "true" if missing else None
    return "&".join(f"{name}={_quoted(value)}" for name, value in wanted.items() if value is not None)


def _for(duration: str | None) -> str:
    return "" if duration is None else f"for={_quoted(duration)}"


def _target(place: tuple[str, ...], query: str) -> str:
    for part in place:
        if not part or "/" in part:  # a path cannot contain it
            raise DaemonError(f"there is no interface {json.dumps(part)} (ENXIO)")
    path = "/".join(map(_quoted, place))
    return f"/v1/{path}?{query}" if query else f"/v1/{path}"


def _canonical(text: str) -> str:
    """Return the printable form of a name; a text that is no name's stays as it is, without surrogates."""
    from epaird.kernel.printable import canonical

    try:
        return canonical(text)
    except UnicodeEncodeError:
        return text.encode("ascii", "backslashreplace").decode()


def _quoted(text: str) -> str:
    """Return a text as a part of a URL."""
    if not text or (
        text.isascii() and text.isalnum()
    ):  # as nearly every name is: urllib takes 2 ms to import
        return text
    from urllib.parse import quote

    return quote(_canonical(text), safe="")


def _model(model: type[M], document: Mapping[str, Any]) -> M:
    try:
        return model.parse(document)
    except ValueError:
        raise DaemonError(_FOREIGN) from None


def _parsed(text: bytes) -> Any:  # noqa: ANN401
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise DaemonError(_FOREIGN) from None


def _detail(status: int, problem: object) -> str:
    """Return the detail of a problem document as one line."""
    if isinstance(problem, dict) and "detail" in problem:
        name = f" ({problem['errno']})" if "errno" in problem else ""
        return " ".join(str(problem["detail"]).split()) + name
    return f"the daemon answered {status}"


def _problems(status: int, problem: object) -> tuple[str, tuple[str, ...]]:
    """Return the detail of a problem document, and a line for each of its errors."""
    errors = problem.get("errors", []) if isinstance(problem, dict) else []
    return _detail(status, problem), tuple(map(_line, errors))


def _line(error: Mapping[str, Any]) -> str:
    key = " ".join(str(error["key"]).split())
    return f"{key}: {error['detail']}" if key else str(error["detail"])


def _connect_error(path: str, error: OSError | ValueError) -> str:
    shown = path if path.isprintable() and path else json.dumps(path)
    code = error.errno if isinstance(error, OSError) else None
    if code is None:  # raised by Python: the path is too long for a socket, or has a NUL in it
        return f"{shown}: {error}"
    return _CONNECT.get(code, "{}: " + os.strerror(code)).format(shown)
