"""What the daemon says on stderr: one line each, as a person, a journal or a program reads it.

On a terminal a line is the message alone.  Elsewhere the interface and the pair that it is about follow
as ``device=`` and ``pair=``, and under systemd its severity precedes it as ``<4>``, which the journal
takes off again (sd-daemon(3)).  ``log_format = "json"`` makes each line an object of these.

A message is about what it begins with, ``epair0a: renamed from eth0 to eth1``, unless its record says
otherwise (``extra={"device": ..., "pair": ...}``).
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal, TextIO

from epaird.names.cloners import interface_of

Format = Literal["text", "json"]

_PRIORITIES: Final = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (logging.NOTSET, 7),
)
"""The least severe of each, and syslog's number: LOG_CRIT, LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG."""


def set_up(level: str, form: Format, stream: TextIO | None = None) -> None:
    """Have everything of this level and above written to ``stream``, stderr by default."""
    stream = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(form, stream, os.environ, os.getpid()))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def error_prefix() -> str:
    """What precedes an error on stderr that is said before anything is set up: ``<3>`` or nothing."""
    return "<3>" if is_journals(sys.stderr, os.environ, os.getpid()) else ""


def formatter(form: Format, stream: TextIO, environment: Mapping[str, str], pid: int) -> logging.Formatter:
    """The one for lines that go there."""
    terminal = stream.isatty()
    prefixed = is_journals(stream, environment, pid)
    if form == "json":
        return JsonLines(prefixed=prefixed)
    return TextLines(prefixed=prefixed, fields=not terminal)


class TextLines(logging.Formatter):
    """Lines for people."""

    def __init__(self, *, prefixed: bool, fields: bool) -> None:
        """``prefixed`` by syslog's severity; ``fields``: followed by device= and pair=."""
        super().__init__("%(message)s")
        self._prefixed = prefixed
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if self._fields:
            text = "\\n".join(text.splitlines())  # a traceback, too, is one line to a journal
            text += "".join(f" {name}={value}" for name, value in subject(record).items())
        return priority(record) + text if self._prefixed else text


class JsonLines(logging.Formatter):
    """Lines for programs."""

    def __init__(self, *, prefixed: bool) -> None:
        super().__init__("%(message)s")
        self._prefixed = prefixed

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, str] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **subject(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        text = json.dumps(line, ensure_ascii=False)
        return priority(record) + text if self._prefixed else text


def priority(record: logging.LogRecord) -> str:
    """A record's severity as syslog has it, ``<4>``."""
    return next(f"<{number}>" for least, number in _PRIORITIES if record.levelno >= least)


def subject(record: logging.LogRecord) -> dict[str, str]:
    """The interface and the pair that a record is about: ``device`` and ``pair``, those there are."""
    said = {name: str(value) for name in ("device", "pair") if (value := getattr(record, name, None))}
    name, colon, _ = record.getMessage().partition(": ")
    if said or not colon or (found := interface_of(name)) is None:
        return said
    cloner, interface = found
    device = {"device": name} if name in cloner.devices_of(interface) else {}
    return device if device.get("device") == interface else device | {cloner.noun: interface}


def is_journals(stream: TextIO, environment: Mapping[str, str], pid: int) -> bool:
    """Whether the service manager reads what is written there.

    $JOURNAL_STREAM and $INVOCATION_ID are inherited by whatever a service starts, a shell in a terminal
    among them: so the one must name this stream, and the other be meant for this process."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    if stream.isatty():
        return False
    if environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}":
        return True
    return "INVOCATION_ID" in environment and environment.get("SYSTEMD_EXEC_PID") == str(pid)
