"""Lines written by a thread, to a pipe that is read, read late, or not read at all."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Iterator

import pytest

from epaird.control import logwriter
from epaird.control.logwriter import LineHandler, LineWriter
from tests.waiting import until


class Pipe:
    """A pipe whose capacity is one page."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 4096)

    def fill(self) -> None:
        """Fill the pipe, by an open file description of its own."""
        other = os.open(f"/proc/self/fd/{self.writer}", os.O_WRONLY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while os.write(other, b"\0" * 4096):
                pass
        os.close(other)

    def empty(self) -> None:
        """Read what :meth:`fill` has written."""
        assert os.read(self.reader, 4096) == b"\0" * 4096

    def lines(self, count: int) -> list[str]:
        """Read until there are ``count`` lines."""
        data = b""
        while data.count(b"\n") < count:
            data += os.read(self.reader, 1 << 16)
        return data.decode().splitlines()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    for fd in (made.reader, made.writer):
        with contextlib.suppress(OSError):
            os.close(fd)


def gap(lost: int) -> str:
    return f"{lost} lost"


def test_lines_arrive_in_order(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writer, gap)
    for number in range(500):
        writer.write(f"line {number} ä")
    assert pipe.lines(500) == [f"line {number} ä" for number in range(500)]
    assert writer.flush(10)
    assert writer.lost == 0


@pytest.fixture
def blocked(pipe: Pipe) -> LineWriter:
    """A writer whose thread waits for room in the pipe, with room for 10 lines to wait behind that one."""
    pipe.fill()
    writer = LineWriter(pipe.writer, gap, lines=10)
    writer.write("first")
    until(lambda: not writer._waiting)
    return writer


def test_a_pipe_that_is_not_read_stops_no_caller(pipe: Pipe, blocked: LineWriter) -> None:
    kept = [f"line {number}" for number in range(10)]
    for line in kept + ["lost"] * 5:
        blocked.write(line)
    assert blocked.lost == 5
    assert not blocked.flush(0.01)
    pipe.empty()
    assert pipe.lines(12) == ["first", *kept, "5 lost"]
    assert blocked.flush(10)
    blocked.write("after")
    assert pipe.lines(1) == ["after"]
    assert blocked.lost == 5


def test_the_report_of_a_loss_precedes_the_next_line(pipe: Pipe, blocked: LineWriter) -> None:
    for _ in range(11):
        blocked.write("x" * 3000)
    assert blocked.lost == 1
    pipe.empty()
    until(lambda: len(blocked._waiting) < 10)  # the pipe has room for one such line
    blocked.write("after")
    assert pipe.lines(13)[-2:] == ["1 lost", "after"]


def test_a_pipe_that_another_process_made_non_blocking(pipe: Pipe) -> None:
    os.set_blocking(pipe.writer, False)
    writer = LineWriter(pipe.writer, gap)
    for number in range(20):
        writer.write(f"{number:02d}" + "x" * 1000)
    assert [line[:2] for line in pipe.lines(20)] == [f"{number:02d}" for number in range(20)]


def test_a_line_that_cannot_be_written_is_counted(pipe: Pipe) -> None:
    os.close(pipe.reader)
    writer = LineWriter(pipe.writer, gap)
    writer.write("to nobody")
    until(lambda: writer.lost == 1)
    assert writer.flush(10)


def test_a_long_line_is_cut_and_every_text_can_be_written(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writer, gap)
    writer.write("\udcff" + "x" * (2 * logwriter.LINE_BYTES))
    (line,) = pipe.lines(1)
    assert line.startswith("\\udcffxxx")
    assert len(line) == logwriter.LINE_BYTES


def test_lines_of_many_threads_stay_whole(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writer, gap)

    def write(letter: str) -> None:
        for _ in range(100):
            writer.write(letter * 50)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abc"]
    for thread in threads:
        thread.start()
    found = pipe.lines(300)
    for thread in threads:
        thread.join()
    assert sorted(found) == [letter * 50 for letter in "abc" for _ in range(100)]


def test_a_handler_formats_records_and_the_report(pipe: Pipe) -> None:
    handler = LineHandler(pipe.writer, logging.Formatter("%(levelname)s %(message)s"))
    handler.emit(logging.LogRecord("epaird", logging.INFO, __file__, 1, "%s: gone", ("epair0a",), None))
    handler.emit(logging.LogRecord("epaird", logging.INFO, __file__, 1, "%d: wrong", ("epair0a",), None))
    assert pipe.lines(2) == [
        "INFO epair0a: gone",
        "internal error: a log message cannot be formatted: '%d: wrong'",
    ]
    assert handler.writer._gap(3).startswith("WARNING 3 lines of the log were lost here")
