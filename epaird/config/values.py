"""Readers of single values of the configuration, and how messages show their locations.

Each reader takes a value as tomllib returns it, or one it has read before, and returns it checked, or raises
ValueError with one line that repeats the value and gives the allowed values. Readers of IP addresses are in
``epaird.config.ipvalues``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from epaird.kernel.printable import canonical
from epaird.names import mac
from epaird.names.cloners import half_of
from epaird.names.grammar import check_device_name, check_namespace_name, quoted, shown

Location = tuple[str | int, ...]
"""Place of a value in the file: ``("epair", "epair0", "a", "addresses", 1)``."""

SUN_PATH_MAX: Final = 107
"""Bytes of a UNIX socket's path (linux/un.h, without the NUL)."""

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,60}")
_RUN_FILES: Final = re.compile(r"lock|((state|namespaces)\.json|state\.journal)(\.new)?|worker-[0-9]+\.sock")
"""Names in the directory of the control socket that the daemon uses."""
_QUOTES: Final = "{} is text, leave the quotes out"


def dotted(location: Location) -> str:
    """Return a location as TOML writes it: ``epair.epair0.a.addresses[1]``."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if _BARE_KEY.fullmatch(part) else quoted(part)
            text += f".{key}" if text else key
    return text


@dataclass(frozen=True, slots=True)
class WholeNumber:
    """Reader of whole numbers from ``least`` to ``most``, both included."""

    least: int
    """The smallest number that is accepted."""
    most: int
    """The largest number that is accepted."""
    lower_limit: str = ""
    """Words for ``least`` in a message: ``a TAP's 68``."""
    upper_limit: str = ""
    """Words for ``most`` in a message."""

    @property
    def allowed(self) -> str:
        """The accepted numbers, in words."""
        return f"a whole number from {self.least} to {self.most}"

    def __call__(self, value: object) -> int:
        """Return the number; raises ValueError."""
        if isinstance(value, bool) or not isinstance(value, int):
            if isinstance(value, str) and value.isascii() and value.isdecimal():
                raise ValueError(_QUOTES.format(shown(value)))
            raise ValueError(f"{shown(value)} is not {self.allowed}")
        if value < self.least:
            limit = self.lower_limit or f"{self.least}, the least allowed"
            raise ValueError(f"{shown(value)} is less than {limit}")
        if value > self.most:
            limit = self.upper_limit or f"{self.most}, the most allowed"
            raise ValueError(f"{shown(value)} is more than {limit}")
        return value


@dataclass(frozen=True, slots=True)
class Seconds:
    """Reader of durations from ``least`` to ``most`` seconds, both included, and of 0 for none."""

    least: float
    """The shortest duration that is accepted, in seconds."""
    most: float
    """The longest duration that is accepted, in seconds."""

    def __call__(self, value: object) -> float:
        """Return the duration; raises ValueError."""
        allowed = f"a number of seconds from {self.least:g} to {self.most:g}, or 0"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{shown(value)} is not {allowed}")
        if value != 0 and not self.least <= value <= self.most:  # a NaN is refused too
            raise ValueError(f"{shown(value)} is not {allowed}")
        return float(value)


def number_or(word: str, number: WholeNumber) -> Callable[[object], int | str]:
    """Return a reader that also accepts one word instead of a number."""

    def read(value: object) -> int | str:
        if value == word:
            return word
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f'{shown(value)} is not "{word}" or {number.allowed}')
        return number(value)

    return read


def one_of(*words: str) -> Callable[[object], str]:
    """Return a reader that accepts one of a few words."""
    allowed = ", ".join(words[:-1]) + " or " + words[-1]

    def read(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        raise ValueError(f"{shown(value)} is not {allowed}")

    return read


def boolean(value: object) -> bool:
    """Read true or false; nothing else that may mean the same is accepted."""
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        raise ValueError(_QUOTES.format(shown(value)))
    raise ValueError(f"{shown(value)} is not true or false")


def device_name(value: object) -> str:
    """Read a name for a device in a namespace, where ``lo`` exists already."""
    name = check_device_name(text_of(value, 'a device\'s name, as in "eth0"'))
    if name == "lo":
        raise ValueError('"lo" is taken: every namespace has a lo of its own')
    return name


def namespace_name(value: object) -> str:
    """Read a name that ``ip netns`` accepts."""
    return check_namespace_name(text_of(value, 'a namespace\'s name, as in "red"'))


def namespace(value: object) -> str:
    """Read a namespace's name, or the absolute path of its file; return it in the printable form."""
    text = text_of(value, 'a namespace\'s name, as in "red", or its path')
    if not text:
        raise ValueError('"" names no namespace, leave the key out for the daemon\'s own')
    if "/" not in text:
        return check_namespace_name(text)
    return canonical(_absolute_path(text))


def socket_path(value: object) -> Path:
    """Read an absolute path that a UNIX socket can have."""
    text = str(value) if isinstance(value, Path) else value
    path = _absolute_path(text_of(text, 'a path, as in "/run/epaird/control.sock"'))
    name = path.rpartition("/")[2]
    if name in ("", ".", ".."):
        raise ValueError(f"{quoted(path)} is a directory, the path of the socket itself is needed")
    if _RUN_FILES.fullmatch(name):
        raise ValueError(f"{quoted(path)} is the name of another file of the daemon, in the same directory")
    length = len(os.fsencode(path))
    if length > SUN_PATH_MAX:
        raise ValueError(f"{quoted(path)} has {length} bytes, a socket's path has at most {SUN_PATH_MAX}")
    return Path(path)


def hardware_address(value: object) -> str:
    """Read a hardware address and return it in its canonical form."""
    return mac.parse(text_of(value, 'a hardware address, as in "02:5d:11:22:33:0a"'))


def hardware_address_or_stable(value: object) -> str:
    """Read a hardware address as :func:`hardware_address`, or the word ``stable``."""
    return value if value == "stable" and isinstance(value, str) else hardware_address(value)


def peer(value: object) -> str:
    """Read the name of a half, or an empty text for no peer."""
    name = text_of(value, 'a half\'s name, as in "epair1b", or "" for none')
    if name:
        half_of(name)
    return name


def list_of(example: str) -> Callable[[object], object]:
    """Return a reader that accepts any list; its members are read one by one."""

    def read(value: object) -> object:
        if isinstance(value, (list, tuple)):
            return value
        of_tables = example.startswith("[{")
        text = isinstance(value, str) and value != "" and not of_tables
        hint = f", write [{shown(value)}]" if text else f", as in {example}"
        raise ValueError(f"{shown(value)} is not a list{hint}")

    return read


def text_of(value: object, allowed: str) -> str:
    """Return the value if it is a text; otherwise raise ValueError with the ``allowed`` values."""
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not {allowed}")
    return value


def _absolute_path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError(f"{quoted(text)} is not an absolute path, it must start with /")
    if not text.isprintable():
        raise ValueError(f"{quoted(text)} has a character in it that does not print")
    return text
