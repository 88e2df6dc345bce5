"""The daemon's log on stderr: one line per message, for a person, a journal or a program.

On a terminal a line is the message alone. Elsewhere the interface and the pair that it concerns follow as
``device=`` and ``pair=``, and under systemd its severity precedes it as ``<4>``, which the journal strips
(sd-daemon(3)). ``log_format = "json"`` makes each line a JSON object of these.

A message concerns the interface or pair that it begins with, ``epair0a: renamed from eth0 to eth1``, unless
its record names them (``extra={"device": ..., "pair": ...}``).

No line holds a control character, whoever the text is from: a message is shown as
:func:`epaird.kernel.printable.one_line` returns it. Only a traceback has several lines, on a terminal.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal, TextIO

from epaird.control.logwriter import LineHandler
from epaird.kernel.printable import one_line
from epaird.names.cloners import interface_of

Format = Literal["text", "json"]
_ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
FLUSH_S: Final = 1.0
"""Time that the last lines of a process may take to be written."""

_PRIORITIES: Final = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (logging.NOTSET, 7),
)
"""Least level and its syslog number: LOG_CRIT, LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG."""


def set_up(level: str, form: Format) -> None:
    """Log messages of this level and above to stderr. A second call changes level and format."""
    root = logging.getLogger()
    lines = formatter(form, sys.stderr, os.environ, os.getpid())
    root.setLevel(level.upper())
    handlers = _line_handlers()
    for handler in handlers:
        handler.setFormatter(lines)
    if not handlers:
        root.addHandler(LineHandler(sys.stderr.fileno(), lines))


def flush(patience_s: float = FLUSH_S) -> None:
    """Wait until every line is written, for at most ``patience_s`` seconds."""
    for handler in _line_handlers():
        handler.writer.flush(patience_s)


def lost() -> int:
    """Return how many lines were lost, because they were not read fast enough."""
    return sum(handler.writer.lost for handler in _line_handlers())


def _line_handlers() -> list[LineHandler]:
    return [each for each in logging.getLogger().handlers if isinstance(each, LineHandler)]


def error_prefix() -> str:
    """Return the prefix of an error that is printed to stderr before :func:`set_up`: ``<3>`` or nothing."""
    return "<3>" if is_journal(sys.stderr, os.environ, os.getpid()) else ""


def formatter(form: Format, stream: TextIO, environment: Mapping[str, str], pid: int) -> logging.Formatter:
    """Return the formatter for lines written to ``stream``."""
    terminal = stream.isatty()
    prefixed = is_journal(stream, environment, pid)
    if form == "json":
        return JsonLines(prefixed=prefixed)
    return TextLines(prefixed=prefixed, fields=not terminal)


class TextLines(logging.Formatter):
    """Formats lines of text."""

    def __init__(self, *, prefixed: bool, fields: bool) -> None:
        """``prefixed`` adds syslog's severity before, ``fields`` device= and pair= behind the message."""
        super().__init__("%(message)s")
        self._prefixed = prefixed
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if self._fields:
            text = text.replace("\n", "\\n")  # a traceback, too, has to be one line of a journal
            text += "".join(f" {name}={one_line(value)}" for name, value in subject(record).items())
        return priority(record) + text if self._prefixed else text

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return one_line(super().formatMessage(record))

    def formatException(self, ei: _ExceptionInfo) -> str:  # noqa: N802
        return _lines(super().formatException(ei))


class JsonLines(logging.Formatter):
    """Formats lines of JSON."""

    def __init__(self, *, prefixed: bool) -> None:
        """``prefixed`` adds syslog's severity before the object."""
        super().__init__("%(message)s")
        self._prefixed = prefixed

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, str] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "message": one_line(record.getMessage()),
            **{name: one_line(value) for name, value in subject(record).items()},
        }
        if record.exc_info:
            line["exception"] = _lines(self.formatException(record.exc_info))
        text = json.dumps(line, ensure_ascii=False)
        return priority(record) + text if self._prefixed else text


def _lines(text: str) -> str:
    """Return a text whose lines are as :func:`epaird.kernel.printable.one_line` returns them."""
    return "\n".join(map(one_line, text.split("\n")))


def priority(record: logging.LogRecord) -> str:
    """Return the severity of a record in syslog's notation, ``<4>``."""
    return next(f"<{number}>" for least, number in _PRIORITIES if record.levelno >= least)


def subject(record: logging.LogRecord) -> dict[str, str]:
    """Return the interface and the pair that a record concerns as ``device`` and ``pair``, where known."""
    named = {name: str(value) for name in ("device", "pair") if (value := getattr(record, name, None))}
    name, colon, _ = record.getMessage().partition(": ")
    if named or not colon or (found := interface_of(name)) is None:
        return named
    cloner, interface = found
    device = {"device": name} if name in cloner.devices_of(interface) else {}
    return device if device.get("device") == interface else device | {cloner.noun: interface}


def is_journal(stream: TextIO, environment: Mapping[str, str], pid: int) -> bool:
    """Return whether the service manager reads this stream.

    Every program that a service starts inherits $JOURNAL_STREAM and $INVOCATION_ID, even a shell in a
    terminal. So $JOURNAL_STREAM must name this stream, or $SYSTEMD_EXEC_PID this process."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    if stream.isatty():
        return False
    if environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}":
        return True
    return "INVOCATION_ID" in environment and environment.get("SYSTEMD_EXEC_PID") == str(pid)
