"""Bounds on a text before it is parsed: whatever passes them is parsed in little time and memory."""

from __future__ import annotations

import json
import tomllib
from typing import Any, Final

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from epaird.config.bounds import JSON, MAX_BYTES, TOML, WORD_MAX, Bounds, excess

DEEP: Final = "tables or lists are nested deeper than 16 levels, the most allowed"
LONG: Final = "a number or a key is longer than 500 characters, the most allowed"
MANY: Final = "there are more than 500000 keys and members of lists, the most allowed"
DECOY: Final = "[[[[[[[[[[[[[[[[[[[[{a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (".".join("a" * 10_000) + " = 1", 1, DEEP),
        ("[" + ".".join("a" * 17) + "]", 1, DEEP),
        ("\n\na = 1\n" + " . ".join(['"a"', "'b'"] * 9) + " = 1", 4, DEEP),
        ("a = " + "[" * 10_000, 1, DEEP),
        ("a = " + "[\n" * 10_000, 17, DEEP),
        ("a = " + "{a = " * 17, 1, DEEP),
        ("a = { b = [" * 9, 1, DEEP),
        ('x = """\n""""" \n a = ' + "[" * 17, 3, DEEP),
        ("a = " + "1" * (WORD_MAX + 1), 1, LONG),
        ("\na = -0x" + "f" * 10_000, 2, LONG),
        ("\n" + "a" * (WORD_MAX + 1) + " = 1", 2, LONG),
        ("a = 1\n" * 500_001, 500_001, MANY),
        ("[a]\n" * 500_001, 500_001, MANY),
        ("a = [" + "1,\n" * 500_001, 499_999, MANY),
    ],
)
def test_what_takes_too_much_is_found(text: str, line: int, message: str) -> None:
    found = excess(text, TOML)
    assert found is not None
    assert (found.line, found.message) == (line, message)


@pytest.mark.parametrize(
    "text",
    [
        ".".join("a" * 16) + " = 1",
        "a = " + "[" * 16 + "]" * 16,
        "a = [" + "1.5, " * 100 + "]",
        "[a.b]\nc.d = 1\n" * 100,
        f"a = 1 # {DECOY}\n#{DECOY}\nb = 2",
        f'a = "\\"{DECOY}" # "',
        f"a = '{DECOY}\\'",
        f'a = """"{DECOY}""\n\\"""{DECOY}"""',
        f"a = '''{DECOY}''\n{DECOY}'''",
        f'a = "" # {DECOY}',
        f'a = """\\\n{DECOY}"""',
        f'a = "{"x" * 10_000}"',
        "a" * WORD_MAX + " = " + "1" * WORD_MAX,
    ],
)
def test_what_is_within_a_text_or_a_comment_does_not_count(text: str) -> None:
    assert excess(text, TOML) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 16 + "]" * 16, None),
        ('{"a": ' * 16, None),
        ('{"a": ' * 17, "objects or lists are nested deeper than 16 levels, the most allowed"),
        ("[" + "1," * 19_999 + "1]", None),
        ("[" + "1," * 20_000 + "1]", "there are more than 20000 keys and members of lists, the most allowed"),
        (f'{{"a": "{DECOY}"}}', None),
        ("1" * WORD_MAX, None),
        ("1" * (WORD_MAX + 1), LONG),
    ],
)
def test_bodies_have_bounds_of_their_own(text: str, message: str | None) -> None:
    found = excess(text, JSON)
    assert (found.message if found is not None else None) == message


def test_a_file_may_be_as_large_as_documented() -> None:
    assert MAX_BYTES == 8 * 1024 * 1024


_values = st.recursive(
    st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def _depth(value: Any) -> int:  # noqa: ANN401
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


@given(st.dictionaries(st.text(), _values, max_size=4))
def test_a_document_that_passes_is_no_deeper_than_allowed(document: dict[str, Any]) -> None:
    text = tomli_w.dumps(document)
    assert tomllib.loads(text) is not None
    few = Bounds(TOML.tokens, depth=3, entries=1000)
    if excess(text, few) is None:
        assert _depth(document) <= 3 * few.depth
    assert excess(text, Bounds(TOML.tokens, depth=50, entries=10_000)) is None


@given(_values)
def test_a_body_is_refused_exactly_when_it_is_too_deep(document: object) -> None:
    for ascii_only in (False, True):
        text = json.dumps(document, ensure_ascii=ascii_only)
        found = excess(text, Bounds(JSON.tokens, depth=2, entries=1000))
        assert (found is not None) == (_depth(document) > 2)


@given(st.text(alphabet="\"'\\[]{}=,.#\n a1"))
def test_any_text_is_examined(text: str) -> None:
    """The scan ends, and finds at most what the parser finds up to the first error of syntax."""
    found = excess(text, Bounds(TOML.tokens, depth=4, entries=20))
    try:
        document = tomllib.loads(text)
    except ValueError:
        return
    if _depth(document) > 4 * 5:
        assert found is not None
