from __future__ import annotations

import io
import json
import logging
import os
import pty
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TextIO

import pytest

from epaird.control import logs
from epaird.control.logs import JsonLines, TextLines, formatter, subject
from epaird.control.logwriter import LineHandler


def record(message: str, level: int = logging.INFO, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("epaird", level, __file__, 1, message, None, None)
    made.__dict__.update(fields)
    return made


def failure() -> logging.LogRecord:
    made = record("epair0a: failed", logging.ERROR)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


@pytest.fixture
def file(tmp_path: Path) -> Iterator[TextIO]:
    with (tmp_path / "stderr").open("w") as stream:
        yield stream


@pytest.fixture
def terminal() -> Iterator[TextIO]:
    own, other = pty.openpty()
    with os.fdopen(other, "w") as stream:
        yield stream
    os.close(own)


def identity(stream: TextIO) -> str:
    status = os.fstat(stream.fileno())
    return f"{status.st_dev}:{status.st_ino}"


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        ("epair0a: renamed from eth0 to eth1", {"device": "epair0a", "pair": "epair0"}),
        ("epair12b: mtu is 9000 now", {"device": "epair12b", "pair": "epair12"}),
        ("epair3: made", {"pair": "epair3"}),
        ("lo1: waiting", {"device": "lo1"}),
        ("epair0c: no such half", {}),
        ("epair0a", {}),
        ("epair0.a.mtu: too large", {}),
        ("  epair0: epair0a <-> epair0b", {}),
        ("worker 0 ended", {}),
    ],
)
def test_a_message_concerns_what_it_begins_with(message: str, fields: dict[str, str]) -> None:
    assert subject(record(message)) == fields


def test_a_record_may_name_what_it_concerns() -> None:
    assert subject(record("epair0a: patched", device="epair0a", pair="epair5")) == {
        "device": "epair0a",
        "pair": "epair5",
    }
    assert subject(record("waiting", device="lo1")) == {"device": "lo1"}


@pytest.mark.parametrize(
    ("level", "prefix"),
    [
        (logging.CRITICAL, "<2>"),
        (logging.ERROR, "<3>"),
        (logging.WARNING, "<4>"),
        (logging.INFO, "<6>"),
        (logging.DEBUG, "<7>"),
    ],
)
def test_severities_are_syslogs(level: int, prefix: str) -> None:
    line = TextLines(prefixed=True, fields=True).format(record("epair0a: gone", level))
    assert line == f"{prefix}epair0a: gone device=epair0a pair=epair0"


def test_a_line_is_one_line() -> None:
    line = TextLines(prefixed=True, fields=True).format(failure())
    assert "\n" not in line
    assert line.startswith("<3>epair0a: failed\\nTraceback")
    assert "ValueError: two\\nlines" in line
    assert line.endswith(" device=epair0a pair=epair0")


def test_a_person_at_a_terminal_sees_lines_as_they_are() -> None:
    text = TextLines(prefixed=False, fields=False).format(failure())
    assert text.startswith("epair0a: failed\nTraceback")
    assert "device=" not in text


@pytest.mark.parametrize("fields", [False, True])
def test_no_line_holds_a_control_character(fields: bool) -> None:
    evil = "\x1b[31m\x85\u2028\u202e\x7f\udcff\ud800\r\n"
    shown = "\\x1b[31m\\xc2\\x85\\xe2\\x80\\xa8\\xe2\\x80\\xae\\x7f\\xff\\xed\\xa0\\x80\\x0d\\x0a"
    lines = TextLines(prefixed=True, fields=fields)
    assert lines.format(record(f"{evil}: gone")) == f"<6>{shown}: gone"
    documents = JsonLines(prefixed=False)
    assert json.loads(documents.format(record(f"{evil}: gone")))["message"] == f"{shown}: gone"
    try:
        raise ValueError(evil)
    except ValueError:
        failed = logging.LogRecord("x", logging.ERROR, "x.py", 1, evil, None, sys.exc_info())
    text = lines.format(failed)
    assert text.replace("\n", "").isprintable()
    assert "\x1b" not in documents.format(failed)
    assert documents.format(failed).isprintable()
    one = lines.format(record("gone", device=evil, pair="a\nb"))
    assert one == ("<6>gone" + (f" device={shown} pair=a\\x0ab" if fields else ""))


def test_json_lines() -> None:
    line = json.loads(JsonLines(prefixed=False).format(record("epair0a: gone", logging.WARNING)))
    assert datetime.fromisoformat(line.pop("time")).utcoffset() is not None
    assert line == {
        "level": "warning", "message": "epair0a: gone", "device": "epair0a", "pair": "epair0",
    }  # fmt: skip
    text = JsonLines(prefixed=True).format(failure())
    assert text.startswith("<3>{")
    assert "\n" not in text
    assert "two\nlines" in json.loads(text[3:])["exception"]


def test_on_a_terminal_nothing_but_the_message(terminal: TextIO) -> None:
    environment = {"JOURNAL_STREAM": identity(terminal), "INVOCATION_ID": "1", "SYSTEMD_EXEC_PID": "7"}
    made = formatter("text", terminal, environment, pid=7)
    assert made.format(record("epair0a: gone")) == "epair0a: gone"


def test_in_a_file_fields_and_no_severity(file: TextIO) -> None:
    made = formatter("text", file, {}, pid=7)
    assert made.format(record("epair0a: gone")) == "epair0a: gone device=epair0a pair=epair0"


def test_under_systemd_a_severity(file: TextIO) -> None:
    for environment in (
        {"JOURNAL_STREAM": identity(file)},
        {"INVOCATION_ID": "1", "SYSTEMD_EXEC_PID": "7"},
    ):
        assert formatter("text", file, environment, pid=7).format(record("hello")) == "<6>hello"
        assert formatter("json", file, environment, pid=7).format(record("hello")).startswith("<6>{")


def test_inherited_variables_of_a_service_are_ignored(file: TextIO) -> None:
    environment = {"JOURNAL_STREAM": "1:2", "INVOCATION_ID": "1", "SYSTEMD_EXEC_PID": "6"}
    assert formatter("text", file, environment, pid=7).format(record("hello")) == "hello"


def test_a_stream_without_a_descriptor() -> None:
    assert formatter("text", io.StringIO(), {"JOURNAL_STREAM": "1:2"}, 7).format(record("hello")) == "hello"


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, restored afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_second_set_up_changes_level_and_format(
    root_logger: logging.Logger, file: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", file)
    log = logging.getLogger("epaird.test")
    logs.set_up("error", "text")
    log.warning("epair0a: not logged")
    log.error("epair0a: first")
    logs.set_up("warning", "json")
    log.info("epair0b: not logged")
    log.warning("epair0b: second")
    logs.flush()
    assert [type(each) for each in root_logger.handlers].count(LineHandler) == 1
    assert logs.lost() == 0
    first, second = Path(file.name).read_text().splitlines()
    assert first == "epair0a: first device=epair0a pair=epair0"
    assert json.loads(second)["message"] == "epair0b: second"
