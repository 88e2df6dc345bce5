"""The names of pairs, halves, devices and namespaces, and why one is refused."""

from __future__ import annotations

import errno
import re
from typing import Final, Literal

IFNAMSIZ: Final = 16
"""Bytes of a device's name with the NUL that ends it (linux/if.h)."""
NAME_MAX: Final = 255
"""Bytes of a file's name (linux/limits.h); a named namespace is a file in /run/netns."""

Half = Literal["a", "b"]
HALVES: Final[tuple[Half, Half]] = ("a", "b")

_PAIR: Final = re.compile(r"epair(0|[1-9][0-9]*)")
_LEADING_ZEROS: Final = re.compile(r"epair0+([0-9]+)")
_HALF: Final = re.compile(r"(epair(?:0|[1-9][0-9]*))[ab]")
_SHOWN: Final = 60
"""Characters of a foreign text that a message repeats."""


class InvalidName(ValueError):
    """A name that cannot be.  Its text is one line that repeats the name and says why."""

    def __init__(self, reason: str, code: int = errno.EINVAL) -> None:
        super().__init__(reason)
        self.errno = code
        """EINVAL, or ENOSPC where a name leaves no room for a half's letter."""


def quoted(text: str) -> str:
    """A foreign text in quotes, safe in one line: shortened, what does not print escaped."""
    kept = text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
    escaped = kept.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else _escape(c) for c in escaped) + '"'


def pair_unit(name: str) -> int:
    """The number of a pair, 7 for ``epair7``; raises InvalidName when it is no pair's name.

    The halves' letter must fit too: a pair that is given has two halves that can be made.
    """
    match = _PAIR.fullmatch(name)
    if match is None:
        raise InvalidName(_why_no_pair(name))
    if len(name) + 1 >= IFNAMSIZ:
        raise InvalidName(
            f"{quoted(name)} leaves no room for its halves' letter: a pair's name has at most "
            f"{IFNAMSIZ - 2} characters",
            errno.ENOSPC,
        )
    return int(match[1])


def pair_name(unit: int) -> str:
    """The name of the pair with this number; raises InvalidName when it is too long."""
    name = f"epair{unit}"
    pair_unit(name)
    return name


def half_name(pair: str, half: Half) -> str:
    """A half's own name, which it keeps for life: ``epair7a``.  Raises InvalidName for a bad pair."""
    pair_unit(pair)
    return pair + half


def half_of(name: str) -> tuple[str, Half]:
    """The pair and the letter of a half, by its own name; raises InvalidName when it is none."""
    match = _HALF.fullmatch(name)
    if match is None:
        raise InvalidName(f'{quoted(name)} is not a half\'s name, as in "epair1b"')
    pair_unit(match[1])
    return match[1], "a" if name.endswith("a") else "b"


def check_device_name(name: str) -> str:
    """The name, when Linux accepts it for a device; otherwise raises InvalidName.

    The kernel would cut a long name short and number one with ``%d``, both silently, so these
    are refused here.
    """
    encoded = _encoded(name)
    if len(encoded) >= IFNAMSIZ:
        raise InvalidName(
            f"{quoted(name)} has {len(encoded)} bytes, a device's name has at most {IFNAMSIZ - 1}"
        )
    _refuse_path_names(name, "a device")
    if name in ("all", "default"):
        # net/ipv4/devinet.c: they would hide /proc/sys/net/ipv4/conf/all and default.
        raise InvalidName(f"{quoted(name)} cannot name a device: the kernel's settings use it")
    for character in "/:%":
        if character in name:
            raise InvalidName(f"{quoted(name)} has a {character} in it, no device's name may")
    _refuse_blanks(name)
    if b"\xa0" in encoded:
        # The kernel's isspace() looks at bytes, in Latin-1, where this is the no-break space.
        culprit = next(c for c in name if b"\xa0" in c.encode())
        raise InvalidName(
            f"{quoted(name)} has {quoted(culprit)} in it, which the kernel takes for white space"
        )
    return name


def check_namespace_name(name: str) -> str:
    """The name, when ``ip netns`` accepts it and no blank hides in it; otherwise raises InvalidName."""
    encoded = _encoded(name)
    if len(encoded) > NAME_MAX:
        raise InvalidName(
            f"{quoted(name)} has {len(encoded)} bytes, a namespace's name has at most {NAME_MAX}"
        )
    _refuse_path_names(name, "a namespace")
    if "/" in name:
        raise InvalidName(f"{quoted(name)} has a / in it, no namespace's name may")
    if name.startswith("-"):
        raise InvalidName(f"{quoted(name)} starts with -, ip netns would take it for an option")
    _refuse_blanks(name)
    return name


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _encoded(name: str) -> bytes:
    try:
        return name.encode()
    except UnicodeEncodeError:
        raise InvalidName(f"{quoted(name)} is not valid UTF-8") from None


def _refuse_path_names(name: str, what: str) -> None:
    if not name:
        raise InvalidName(f"{quoted(name)} is empty")
    if name in (".", ".."):
        raise InvalidName(f"{quoted(name)} cannot name {what}")


def _refuse_blanks(name: str) -> None:
    for character in name:
        if character.isspace():
            raise InvalidName(f"{quoted(name)} has white space in it")
        if not character.isprintable():
            raise InvalidName(f"{quoted(name)} has a character in it that does not print")


def _why_no_pair(name: str) -> str:
    if match := _HALF.fullmatch(name):
        return f"{quoted(name)} is a half's name, its pair is {quoted(match[1])}"
    if match := _LEADING_ZEROS.fullmatch(name):
        number = match[1].lstrip("0") or "0"
        return f"{quoted(name)} has a leading zero, write {quoted('epair' + number)}"
    return f'{quoted(name)} is not a pair\'s name: that is epair and a number, as in "epair0"'
