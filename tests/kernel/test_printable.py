from __future__ import annotations

import codecs
import json
import tomllib
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from epaird.kernel.printable import canonical, escape_unencodable, one_line, printable, raw

NAMES = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=8).map(lambda text: text.encode("utf-8", "surrogatepass")),
    # What looks like escapes, whole or in parts.
    st.lists(
        st.sampled_from([b"\\", b"x", b"\\x", b"5c", b"1b", b"ff", b"41", b"\x1b", b"\xff", b"c", b"\xc3"]),
        max_size=8,
    ).map(b"".join),
)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"eth0", "eth0"),
        ("büro".encode(), "büro"),
        ("名前".encode(), "名前"),
        (b"wan\\lan", "wan\\lan"),
        (b"a\\x2db", "a\\x2db"),  # systemd's escape of a hyphen
        (b"\"'\\", "\"'\\"),
        (b"e\xff\xfe", "e\\xff\\xfe"),
        (b"e\x1b[31m", "e\\x1b[31m"),
        (b"e\\x1b[31m", "e\\x5cx1b[31m"),
        (b"e\\x5cx1b", "e\\x5cx5cx1b"),
        (b"a b\t\n", "a\\x20b\\x09\\x0a"),
        (b"\x7f\xc2\x85", "\\x7f\\xc2\\x85"),
        ("e\u0301\u200b\u202e\u05d0\u3164".encode(), "e" + "\\xcc\\x81\\xe2\\x80\\x8b\\xe2\\x80\\xae"
         "\\xd7\\x90\\xe3\\x85\\xa4"),
        ("e\u0301".encode(), "e\\xcc\\x81"),
        ("\u05d0".encode(), "\\xd7\\x90"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
    ],
)  # fmt: skip
def test_the_printable_form(name: bytes, shown: str) -> None:
    assert printable(name) == shown
    assert raw(shown) == name


@given(NAMES)
@example(b"\\x5c\\x5cx1b")
@example(b"\\\\x1b")
def test_every_name_prints_by_itself_and_is_led_back_to(name: bytes) -> None:
    shown = printable(name)
    assert shown.isprintable()
    assert " " not in shown
    assert not any(unicodedata.category(each).startswith("M") for each in shown)
    assert raw(shown) == name
    assert canonical(shown) == shown
    assert json.loads(json.dumps(shown)) == shown
    assert tomllib.loads(f"name = {json.dumps(shown, ensure_ascii=False)}") == {"name": shown}
    assert shown.encode().decode() == shown


@given(NAMES, NAMES)
def test_two_names_have_two_forms(one: bytes, other: bytes) -> None:
    assert (printable(one) == printable(other)) == (one == other)


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("e\u0301")
def test_any_text_has_a_canonical_form(text: str) -> None:
    form = canonical(text)
    assert form == printable(raw(text))
    assert canonical(form) == form
    assert raw(form) == raw(text)


def test_escapes_without_need_are_read() -> None:
    assert canonical("\\xc3\\xbc") == "ü"
    assert canonical("a b") == "a\\x20b"
    assert canonical("\\xc3\\x41") == "\\xc3\\x41"
    assert raw("\\x41\\xFF\\x1") == b"\\x41\\xFF\\x1"


def test_an_argument_may_have_the_bytes_themselves() -> None:
    assert canonical(b"e\xff\x1b".decode("utf-8", "surrogateescape")) == "e\\xff\\x1b"
    with pytest.raises(UnicodeEncodeError):
        canonical("\ud800")


def test_characters_that_an_encoding_lacks() -> None:
    codecs.register_error("printable", escape_unencodable)
    assert "büro €".encode("latin-1", "printable") == b"b\xfcro \\xe2\\x82\\xac"
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", "printable")


@given(st.text(st.characters()))
def test_a_line_of_a_log_holds_no_control_character(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    line.encode()


def test_a_line_keeps_spaces_and_backslashes() -> None:
    assert one_line("a \\x1b b\n\udcff\ud800") == "a \\x1b b\\x0a\\xff\\xed\\xa0\\x80"
