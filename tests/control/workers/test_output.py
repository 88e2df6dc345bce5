"""What worker processes write to their standard error."""

from __future__ import annotations

import os

import pytest

from epaird.control.workers.output import BYTES_MAX, LINE_MAX, Output
from tests.loop import on_loop
from tests.waiting import eventually


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.removeprefix("worker process 7: ") for each in caplog.messages]


@on_loop
async def test_each_line_is_logged_and_the_last_one_without_its_end(caplog: pytest.LogCaptureFixture) -> None:
    output = Output()
    output.follow(7)
    os.write(output.writing, b"one\ntwo \x1b[31m\xff\nthr")
    await eventually(lambda: len(caplog.messages) == 2)
    os.write(output.writing, b"ee")
    os.close(output.writing)
    await eventually(lambda: len(caplog.messages) == 3)
    assert caplog.messages == [
        "worker process 7: one", "worker process 7: two \\x1b[31m\\xff", "worker process 7: three",
    ]  # fmt: skip


@on_loop
async def test_a_long_line_is_broken(caplog: pytest.LogCaptureFixture) -> None:
    output = Output()
    output.follow(7)
    os.write(output.writing, b"x" * (LINE_MAX + 5) + b"\n")
    os.close(output.writing)
    await eventually(lambda: len(caplog.messages) == 1)
    assert messages(caplog) == ["x" * LINE_MAX]


@on_loop
async def test_a_process_that_writes_without_an_end_is_not_heard_and_cannot_write(
    caplog: pytest.LogCaptureFixture,
) -> None:
    output = Output()
    output.follow(7)
    written = 0

    def refused() -> bool:
        nonlocal written
        try:
            written += os.write(output.writing, b"y" * 99 + b"\n")
        except BlockingIOError:
            return False
        except BrokenPipeError:
            return True
        return False

    await eventually(refused)
    os.close(output.writing)
    lines = messages(caplog)
    assert lines.pop() == "it writes more; this is not logged any more"
    assert BYTES_MAX <= sum(len(each) + 1 for each in lines) <= BYTES_MAX + 4096
    assert set(lines) <= {"y" * 99}
