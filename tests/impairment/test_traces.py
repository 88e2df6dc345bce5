from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.impairment import traces
from epaird.impairment.traces import TraceError, located, parse


def test_lines_are_opportunities_in_nanoseconds() -> None:
    assert list(parse(b"0\n5\r\n 5\n\n12\n")) == [0, 5_000_000, 5_000_000, 12_000_000]
    assert parse(b"1").typecode == "Q"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no line has a number above 0: the last number is the duration of the trace"),
        (b"0\n0\n", "no line has a number above 0: the last number is the duration of the trace"),
        (b"1\nroot:x\n", "line 2: not a whole number of milliseconds"),
        (b"1.5\n", "line 1: not a whole number of milliseconds"),
        (b"-1\n", "line 1: not a whole number of milliseconds"),
        (b"9" * 21, "line 1: not a whole number of milliseconds"),
        (b"\n7\n6\n", "line 3: less than the line before, the numbers must not decrease"),
        (b"86400001", "line 1: more than 86400000 milliseconds, the most allowed"),
    ],
)
def test_an_error_names_the_line_and_not_the_text(text: bytes, message: str) -> None:
    with pytest.raises(TraceError) as caught:
        parse(text)
    assert str(caught.value) == message


def test_a_trace_has_a_bounded_number_of_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "OPPORTUNITIES_MAX", 2)
    with pytest.raises(TraceError, match=r"^line 3: more than 2 lines, the most allowed$"):
        parse(b"1\n2\n3\n")
    with pytest.raises(TraceError, match=r"^line 3: more than 2 lines, the most allowed$"):
        parse(b"\n" * 1000)


@given(st.lists(st.integers(0, 10**6), min_size=1).filter(any))
def test_any_ascending_numbers_are_a_trace(numbers: list[int]) -> None:
    text = "\n".join(map(str, sorted(numbers))).encode()
    assert list(parse(text)) == [number * 10**6 for number in sorted(numbers)]


@given(st.binary())
def test_any_bytes_are_a_trace_or_refused(text: bytes) -> None:
    refusal = "a trace"
    try:
        parse(text)
    except TraceError as error:
        refusal = str(error)
    assert refusal.isprintable()


def test_a_relative_path_starts_at_the_directory_of_the_configuration() -> None:
    assert located("lte.up", Path("/etc/epaird/epaird.toml")) == Path("/etc/epaird/lte.up")
    assert located("/srv/lte.up", Path("/etc/epaird/epaird.toml")) == Path("/srv/lte.up")
