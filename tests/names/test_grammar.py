from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.kernel.abi import IFNAMSIZ
from epaird.names.grammar import InvalidName, check_device_name, check_namespace_name, quoted


@pytest.mark.parametrize("name", ["eth0", "a", "-x", "a" * 15, "é" * 7, "名前", "wan.100", "x@y", "lo"])
def test_names_that_linux_accepts(name: str) -> None:
    assert check_device_name(name) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", '"" is empty'),
        (".", '"." cannot name a device'),
        ("..", '".." cannot name a device'),
        ("all", '"all" cannot name a device: the kernel\'s settings use it'),
        ("default", '"default" cannot name a device: the kernel\'s settings use it'),
        ("a/b", '"a/b" has a / in it, no device\'s name may'),
        ("eth0:1", '"eth0:1" has a : in it, no device\'s name may'),
        ("epair%d", '"epair%d" has a % in it, no device\'s name may'),
        ("a b", '"a b" has white space in it'),
        ("a\n", '"a\\n" has white space in it'),
        ("a\0", '"a\\x00" has a NUL in it, no name may'),
        ("a\\x00", '"a\\x00" has a NUL in it, no name may'),
        ("a\x1b", '"a\\x1b" has a character in it that does not print'),
        ("a\\x20b", '"a\\x20b" has white space in it'),
        ("a\\xa0", '"a\\xa0" has "\\xa0" in it, which the kernel takes for white space'),
        ("\\xff" * 16, '"' + "\\xff" * 14 + "\\...\" has 16 bytes, a device's name has at most 15"),
        ("a" * 16, '"aaaaaaaaaaaaaaaa" has 16 bytes, a device\'s name has at most 15'),
        ("é" * 8, '"éééééééé" has 16 bytes, a device\'s name has at most 15'),
        ("voilà", '"voilà" has "à" in it, which the kernel takes for white space'),
        ("\udcff", '"\\udcff" is not valid UTF-8'),
    ],
)
def test_names_that_linux_refuses_or_would_change(name: str, reason: str) -> None:
    with pytest.raises(InvalidName) as caught:
        check_device_name(name)
    assert str(caught.value) == reason


@given(st.text())
def test_any_text_is_accepted_as_a_device_name_or_refused_in_one_line(name: str) -> None:
    reason = ""
    try:
        check_device_name(name)
    except InvalidName as error:
        reason = str(error)
    assert reason.isprintable()
    if not reason:
        encoded = name.encode()
        assert 1 <= len(encoded) < IFNAMSIZ
        # The kernel's dev_valid_name(), and the names that it generates itself.
        assert not set(encoded) & set(b"/:% \t\n\v\f\r\xa0\0")
        assert name not in (".", "..")


@pytest.mark.parametrize("name", ["red", "a" * 255, "x:y", "50%", "ns.1"])
def test_names_that_ip_netns_accepts(name: str) -> None:
    assert check_namespace_name(name) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is empty"),
        ("..", "cannot name a namespace"),
        ("a/b", "has a / in it"),
        ("-all", "starts with -"),
        ("red ", "has white space in it"),
        ("a\0", "has a NUL in it"),
        ("a\\x00", "has a NUL in it"),
        ("a\x1b", "does not print"),
        ("a" * 256, "has 256 bytes, a namespace's name has at most 255"),
    ],
)
def test_names_that_no_namespace_can_have(name: str, reason: str) -> None:
    with pytest.raises(InvalidName, match=reason):
        check_namespace_name(name)


def test_a_refusal_has_an_error_number() -> None:
    with pytest.raises(InvalidName, match=r"^\"\" is empty$") as caught:
        check_device_name("")
    assert caught.value.errno == errno.EINVAL
    full = InvalidName("too long", errno.ENOSPC)
    assert (str(full), full.errno) == ("too long", errno.ENOSPC)


@pytest.mark.parametrize("length", [0, 1, 57, 59, 60])
def test_a_short_text_is_quoted_whole(length: int) -> None:
    assert quoted("x" * length) == '"' + "x" * length + '"'
    assert len(quoted("x" * (length + 61))) == 62


@given(st.text(st.characters()))
def test_a_quoted_text_is_short_and_stays_on_its_line(text: str) -> None:
    line = quoted(text)
    assert line.isprintable()
    assert len(line) <= 2 + 60 * len("\\U0010ffff")
    assert line[0] == line[-1] == '"'


def test_a_quoted_text_can_be_read_back() -> None:
    assert quoted('a"b\\c\x1b') == '"a\\"b\\c\\x1b"'
    assert quoted("x" * 100) == '"' + "x" * 57 + '..."'
