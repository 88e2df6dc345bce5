"""Names of devices and namespaces that Linux accepts, and why a name is refused."""

from __future__ import annotations

import errno
from typing import Final

from epaird.kernel.abi import IFNAMSIZ

NAME_MAX: Final = 255
"""Bytes of a file's name (linux/limits.h); a named namespace is a file in /run/netns."""

_QUOTED_CHARACTERS: Final = 60
"""Characters of a foreign text that a message repeats."""


class InvalidName(ValueError):
    """A name that is refused. The text is one line that repeats the name and gives the reason."""

    def __init__(self, reason: str, code: int = errno.EINVAL) -> None:
        super().__init__(reason)
        self.errno = code
        """EINVAL, or ENOSPC for a name that is too long for a device."""


def quoted(text: str) -> str:
    """Return a foreign text in quotes, safe in one line: shortened, unprintable characters escaped."""
    kept = text if len(text) <= _QUOTED_CHARACTERS else text[: _QUOTED_CHARACTERS - 3] + "..."
    escaped = kept.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else _escape(c) for c in escaped) + '"'


def check_device_name(name: str) -> str:
    """Return the name if Linux accepts it for a device; raise InvalidName otherwise.

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
        culprit = next(c for c in name if b"\xa0" in c.encode())
        raise InvalidName(
            f"{quoted(name)} has {quoted(culprit)} in it, which the kernel takes for white space"
        )
    return name


def check_namespace_name(name: str) -> str:
    """Return the name if ``ip netns`` accepts it and it has no blanks; raise InvalidName otherwise."""
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
