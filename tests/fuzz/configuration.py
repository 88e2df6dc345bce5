"""The configuration file: any bytes are a configuration, or are refused with one line for each error."""

from __future__ import annotations

import contextlib
import re
import tracemalloc
from typing import Any, Final

import pytest
import tomli_w
from hypothesis import strategies as st

from epaird.config.reading import InvalidConfiguration, decode, remarks
from epaird.config.saving import text
from epaird.plan.diff import plan
from tests.fuzz.documents import documents
from tests.fuzz.mutations import mutated
from tests.fuzz.target import Target, nothing

LINE_MAX: Final = 1000
"""Most characters of a line that reports an error."""
BYTES_PER_BYTE: Final = 400
"""Most bytes of memory for each byte of the file."""
BYTES_BASE: Final = 8 << 20
"""Bytes of memory besides."""

_MORE: Final = re.compile(r"and [0-9,]+ more errors?")
"""The last line where there are too many errors to report each."""
_TOKENS: Final = (
    b"[", b"]", b"[[", b"]]", b"{", b"}", b"=", b".", b",", b"#", b"\n", b"\r\n", b"\r", b"\0", b"\t",
    b"\xff", b'"', b"'", b'"""', b"'''", b"\\u0000", b"\\ud800", b"\\U00110000", b"\\x", b"\xef\xbb\xbf",
    b"\xe2\x80\xa8", b"1e999", b"-nan", b"0x", b"0b2", b"1__0", b"9" * 5000, b"1979-05-27T07:32:00-00:00",
    b"25:00", b"true", b"[epair.epair0]\n", b"epair0.a.", b"a.a=1\n", b"\nepair = 1\n", b"[lo]\n",
)  # fmt: skip


def written(document: dict[str, Any]) -> bytes:
    """Return a document as TOML, lone surrogates included."""
    return tomli_w.dumps(document).encode("utf-8", "surrogatepass")


@st.composite
def _files(draw: st.DrawFn) -> bytes:
    data = written(draw(documents()))
    return draw(mutated(data, _TOKENS)) if draw(st.booleans()) else data


def _accepted(_scope: None, file: bytes) -> None:
    """Check that a file is read or refused, and that a configuration that is read is saved unchanged."""
    try:
        found = decode(file, "f.toml")
    except InvalidConfiguration as error:
        _explained(error, file)
        return
    again = decode(text(found).encode(), "saved.toml")
    assert again == found
    assert plan(found, again).empty
    for line in remarks(found):
        _one_line(line)


def _explained(error: InvalidConfiguration, file: bytes) -> None:
    """Check that each line names a place, and that the errors do not change."""
    assert error.problems
    *first, last = error.problems
    for line in first if _MORE.fullmatch(last) else error.problems:
        _one_line(line)
        place, separator, reason = line.partition(": ")
        assert separator, line
        assert place, line
        assert reason, line
    with pytest.raises(InvalidConfiguration) as again:
        decode(file, "f.toml")
    assert again.value.problems == error.problems


def _one_line(line: str) -> None:
    assert line.isprintable(), line
    assert len(line) <= LINE_MAX, f"{len(line)} characters: {line[:100]}"


def _deep(open_: bytes, close: bytes) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda head, count, closed: head + open_ * count + close * closed * count,
        st.sampled_from((b"", b"x = ", b"[epair]\nepair0.a.addresses = ")),
        _COUNTS,
        st.booleans(),
    )


def _many(line: str, end: str = "\n") -> st.SearchStrategy[bytes]:
    return _COUNTS.map(lambda count: "".join(line.format(n=n) + end for n in range(count)).encode())


_COUNTS: Final = st.sampled_from((1, 20, 500, 3000))
_BOMBS: Final = st.one_of(
    _deep(b"[", b"]"),
    _deep(b"{a=", b"}"),
    _deep(b"a.", b"a=1\n"),
    _deep(b'"a".', b"a={}\n"),
    _COUNTS.map(lambda count: b"[" + b"a." * count + b"a]\n"),
    _COUNTS.map(lambda count: b"[[" + b"a." * count + b"a]]\n"),
    _COUNTS.map(lambda count: b"a." * count + b"a=1\n" + b"a." * count + b"b=1\n"),
    _many("k{n} = 1"),
    _many("[epair.epair{n}]"),
    _many("[epair.epair{n}.c]\nmtu = 1"),
    _many("[[x]]"),
    _many("[x{n}]"),
    _many("[lo.lo{n}]"),
    _many('[epair.epair{n}.a]\naddresses = ["10.0.0.1/24"]'),
    _many('"10.{n}.0.1/24",', "").map(lambda items: b"[epair.epair0.a]\naddresses = [" + items + b"]"),
    _many('"10.0.0.1/24",', "").map(lambda items: b"[epair.epair0.a]\naddresses = [" + items + b"]"),
    _many("1,", "").map(lambda items: b"[epair.epair0.a]\nroutes = [" + items + b"]"),
    st.builds(
        lambda addresses, routes: b"[epair.epair0.a]\naddresses = [%s]\nroutes = [%s]" % (addresses, routes),
        _many('"fd00:{n:x}::1/64",', ""),
        _many('{{ to = "fd01:{n:x}::/64", via = "fd02::1" }},', ""),
    ),
    _COUNTS.map(lambda count: b"[epair.epair0.a]\nmtu = " + b"9" * count),
    _COUNTS.map(lambda count: b"[epair.epair0.a]\nmtu = 0x" + b"f" * count),
    _COUNTS.map(lambda count: b'"' + b"k" * count + b'" = 1'),
    _COUNTS.map(lambda count: b'[epair.epair0.a]\nnetns = "/' + b"k" * count + b'"'),
)
"""Files whose nesting or number of parts is far above what a configuration has."""


def _bounded(_scope: None, file: bytes) -> None:
    """Check the same, and that the memory is bounded by the size of the file.

    Only the first reading is traced, which is several times slower than the others.
    """
    tracemalloc.start()
    try:
        with contextlib.suppress(InvalidConfiguration):
            decode(file, "f.toml")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= BYTES_BASE + BYTES_PER_BYTE * len(file), f"{peak} bytes for a file of {len(file)}"
    _accepted(None, file)


SUBJECTS: Final = ("epaird.config",)

TOML: Final = Target(
    name="toml",
    inputs=_files() | st.binary(max_size=200),
    holds=_accepted,
    opened=nothing,
    examples=400,
    subjects=SUBJECTS,
)
TOML_BOMBS: Final = Target(
    name="toml-bombs", inputs=_BOMBS, holds=_bounded, opened=nothing, examples=20, subjects=SUBJECTS
)
