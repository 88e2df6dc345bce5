"""What Python writes to stderr becomes lines of the log."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from epaird.control.logroutes import logged_stderr


class _Failing:
    def __del__(self) -> None:
        raise ValueError("in a destructor")


def _drop() -> None:
    _Failing()


def _raise(error: BaseException) -> None:
    raise error


def test_an_exception_that_nothing_can_catch(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with logged_stderr():
        _drop()
    (record,) = caplog.records
    assert record.getMessage().startswith("internal error: exception ignored in function: ValueError(")
    assert record.exc_info is not None
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("error", "logged"), [(ValueError("no"), 1), (SystemExit(3), 0)])
def test_an_exception_in_a_thread(
    error: BaseException, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    with logged_stderr():
        thread = threading.Thread(target=_raise, args=(error,), name="kernel")
        thread.start()
        thread.join()
    assert caplog.messages == ["internal error: thread kernel failed: ValueError('no')"] * logged


def test_a_warning(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    # pytest records warnings, which would come before the route.
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with logged_stderr():
            warnings.showwarning("old", DeprecationWarning, "a.py", 3)
    assert ["DeprecationWarning: old" in each for each in caplog.messages] == [True]
    assert capfd.readouterr().err == ""


def test_whatever_is_printed(caplog: pytest.LogCaptureFixture) -> None:
    before = sys.stderr
    with logged_stderr():
        sys.stderr.write("one")
        assert not caplog.messages
        sys.stderr.write(" line\ntwo\n\n\n")
        sys.stderr.flush()
    assert caplog.messages == ["one line", "two"]
    assert sys.stderr is before


def test_the_descriptor_stays_that_of_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    with os.fdopen(read), os.fdopen(write, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with logged_stderr():
            assert sys.stderr.fileno() == write
            assert not sys.stderr.isatty()
            assert sys.stderr.writable()


def test_what_uvloop_reports_of_a_failed_start_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """The failure was raised, and is handled where the process was to be started."""
    text = "UVProcessTransport is open in __dealloc__ with loop set to NULL"
    with logged_stderr():
        sys.stderr.write(f"RuntimeError: {text}\nanother line\n")
        for error in (RuntimeError(text), RuntimeError("other")):
            found: Any = SimpleNamespace(
                exc_type=RuntimeError, exc_value=error, exc_traceback=None, err_msg=None, object=0
            )
            sys.unraisablehook(found)
    assert [line.partition(":")[0] for line in caplog.messages] == ["another line", "internal error"]
