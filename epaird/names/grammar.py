"""Names of devices and namespaces that Linux accepts, and why a name is refused.

A name is given and returned in the printable form (:mod:`epaird.kernel.printable`).
"""

from __future__ import annotations

import errno
from datetime import date, time
from typing import Final

from epaird.kernel.abi import IFNAMSIZ
from epaird.kernel.printable import canonical, printable, raw

NAME_MAX: Final = 255
"""Bytes of a file's name (linux/limits.h); a named namespace is a file in /run/netns."""

_WHITE_SPACE: Final = frozenset(b" \t\n\v\f\r")
_QUOTED_CHARACTERS: Final = 60
"""Characters of a foreign text that a message repeats."""
_SHOWN_DIGITS: Final = 40
"""Digits of a number that a message repeats."""


class InvalidName(ValueError):
    """A name that is refused. The text is one line that repeats the name and gives the reason."""

    def __init__(self, reason: str, code: int = errno.EINVAL) -> None:
        super().__init__(reason)
        self.errno = code
        """EINVAL, or ENOSPC for a name that is too long for a device."""


def quoted(text: str) -> str:
    """Return a foreign text in quotes, safe in one line: shortened, unprintable characters escaped.

    The printable form of a name stays as it is, so that it can be copied."""
    kept = text if len(text) <= _QUOTED_CHARACTERS else text[: _QUOTED_CHARACTERS - 3] + "..."
    escaped = kept.replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else _escape(c) for c in escaped) + '"'


def shown(value: object) -> str:
    """Return a value as a message repeats it, on one line."""
    match value:
        case str():
            return quoted(value)
        case bool():
            return "true" if value else "false"
        case int():
            # Python refuses to write very large numbers in decimal.
            digits = str(value) if value.bit_length() < 1024 else hex(value)
            return digits if len(digits) <= _SHOWN_DIGITS else digits[:_SHOWN_DIGITS] + "..."
        case float():
            return str(value)
        case list() | tuple():
            return "a list"
        case dict():
            return "a table"
        case date() | time():
            return f"the date or time {value}"
        case _:
            return quoted(str(value))


def check_device_name(name: str) -> str:
    """Return the name in the printable form if Linux accepts it for a device; raise InvalidName otherwise.

    The kernel silently shortens a long name and silently numbers one with ``%d``, so both are refused here.
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
        culprit = next((c for c in name if b"\xa0" in c.encode()), printable(b"\xa0"))
        raise InvalidName(
            f"{quoted(name)} has {quoted(culprit)} in it, which the kernel takes for white space"
        )
    if not set(encoded).isdisjoint(_WHITE_SPACE):
        raise InvalidName(f"{quoted(name)} has white space in it")
    return canonical(name)


def check_namespace_name(name: str) -> str:
    """Return the name, in the printable form, if ``ip netns`` accepts it; raise InvalidName otherwise.

    White space has to be escaped."""
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
    return canonical(name)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _encoded(name: str) -> bytes:
    """Return the bytes of a name; raise InvalidName for a text that UTF-8 cannot encode, and for a NUL."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidName(f"{quoted(name)} is not valid UTF-8") from None
    encoded = raw(name)
    if 0 in encoded:
        raise InvalidName(f"{quoted(name)} has a NUL in it, no name may")
    return encoded


def _refuse_path_names(name: str, bearer: str) -> None:
    if not name:
        raise InvalidName(f"{quoted(name)} is empty")
    if name in (".", ".."):
        raise InvalidName(f"{quoted(name)} cannot name {bearer}")


def _refuse_blanks(name: str) -> None:
    for character in name:
        if character.isspace():
            raise InvalidName(f"{quoted(name)} has white space in it")
        if not character.isprintable():
            raise InvalidName(f"{quoted(name)} has a character in it that does not print")
