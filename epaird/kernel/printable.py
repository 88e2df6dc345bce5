r"""The printable form of names that the kernel and the file system report.

Theory of operation:

1. The owner of a network namespace chooses the names of the devices in it. Linux accepts any bytes but NUL,
   ``/``, ``:``, white space and 0xa0, up to 15 of them; a name of a namespace, which is a file, has any bytes
   but NUL and ``/``. So a name may not be UTF-8, and may control a terminal.
2. System calls get the bytes. Everything else gets one text, the printable form: the log, the API, epairctl,
   metrics, events, the configuration, the state file, messages between processes and errors. The modules of
   this package convert, and no other module sees the bytes.
3. The printable form keeps each character that prints by itself, from left to right. Each byte of everything
   else is written ``\xHH``, in lower case: control characters, white space, bytes that are not UTF-8, and
   characters that change their neighbours, such as accents that combine and letters of scripts that run from
   right to left.
4. A backslash is kept, unless the text after it makes it look like such an escape: then it is written
   ``\x5c``. So no two names have the same printable form, and every printable form leads back to its name.
5. A text that is not the printable form of any name, because it escapes a byte without need, is read in the
   same way; :func:`canonical` returns the form that other texts can be compared with.

Ordinary names, such as ``eth0``, ``büro`` and ``a\b``, are their own printable form.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

_ESCAPE: Final = re.compile(rb"\\x([01][0-9a-f]|20|5c|7f|[89a-f][0-9a-f])")
"""An escape of a byte that is not a printable ASCII character, or of the backslash."""
_AMBIGUOUS: Final = re.compile(r"\\(?=x(?:[01][0-9a-f]|20|5c|7f|[89a-f][0-9a-f]))")
"""A backslash that the text after it makes look like the first character of an escape."""
_BLANK: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols of Unicode that show nothing."""
_RIGHT_TO_LEFT: Final = frozenset(("R", "AL", "AN"))


@lru_cache(maxsize=4096)
def printable(name: bytes) -> str:
    """Return the printable form of a name."""
    text = name.decode("utf-8", "surrogateescape")
    return _escaped(_AMBIGUOUS.sub(r"\\x5c", text) if "\\" in text else text, keep="")


def raw(text: str) -> bytes:
    """Return the name that a printable form stands for.

    A surrogate that stands for a byte which is not UTF-8, as in an argument of a command, is this byte.
    Raises UnicodeEncodeError, a ValueError, for any other surrogate."""
    name = text.encode("utf-8", "surrogateescape")
    return _ESCAPE.sub(_byte, name) if b"\\" in name else name


def canonical(text: str) -> str:
    """Return the printable form of the name that a text stands for; raises as :func:`raw`."""
    if text.isascii() and text.isprintable() and " " not in text and "\\" not in text:
        return text
    return printable(raw(text))


def one_line(text: str) -> str:
    """Return a text of any origin as one line: as in the printable form, but spaces and backslashes stay."""
    return _escaped(text, keep=" ")


def escape_unencodable(error: UnicodeError) -> tuple[str, int]:
    """Return the printable form of characters that an encoding lacks: an error handler of codecs."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_in_bytes, error.object[error.start : error.end])), error.end


def _escaped(text: str, keep: str) -> str:
    if text.isascii() and text.isprintable() and (keep or " " not in text):
        return text
    return "".join(each if each in keep or _prints(each) else _in_bytes(each) for each in text)


def _prints(character: str) -> bool:
    """Return whether a character prints by itself, from left to right, and is not white space."""
    if character.isascii():
        return character.isprintable() and character != " "
    return (
        character.isprintable()
        and character not in _BLANK
        and unicodedata.category(character)[0] != "M"
        and unicodedata.bidirectional(character) not in _RIGHT_TO_LEFT
    )


def _in_bytes(character: str) -> str:
    try:
        encoded = character.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        encoded = character.encode("utf-8", "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in encoded)


def _byte(escape: re.Match[bytes]) -> bytes:
    return bytes((int(escape[1], 16),))
