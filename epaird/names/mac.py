"""Hardware addresses, parsed from text or derived as FreeBSD's epair(4) derives them."""

from __future__ import annotations

import hashlib
import re
import secrets
import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from epaird.names.cloners import Side
from epaird.names.grammar import quoted

MACHINE_ID: Final = Path("/etc/machine-id")
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_MACHINE_ID: Final = re.compile(r"[0-9a-f]{32}")
_WORD: Final = 0xFFFF_FFFF
_DOUBLE_WORD: Final = 0xFFFF_FFFF_FFFF_FFFF
_LAST_BYTE: Final[dict[Side, int]] = {"a": 0x0A, "b": 0x0B}


class InvalidMac(ValueError):
    """A text that is not a usable hardware address. One line that repeats it and gives the reason."""


def parse(text: str) -> str:
    """Return the address in its canonical form, ``02:5d:11:22:33:0a``; raises InvalidMac.

    Upper case is accepted. The address must be that of one station, neither a group's nor all zero.
    """
    address = text.lower()
    if _MAC.fullmatch(address) is None:
        raise InvalidMac(
            f'{quoted(text)} is not a hardware address: six bytes in hexadecimal, as in "02:5d:11:22:33:0a"'
        )
    if address == "ff:ff:ff:ff:ff:ff":
        raise InvalidMac(f"{quoted(text)} is the broadcast address, no interface's own")
    if int(address[:2], 16) & 1:
        raise InvalidMac(f"{quoted(text)} is a group's address: the first byte must be even")
    if address == "00:00:00:00:00:00":
        raise InvalidMac(f"{quoted(text)} is all zero, no interface's address")
    return address


def derive(index: int, host_id: int, side: Side) -> str:
    """Return the address of a half: 02, the hash of the pair's index and the host id, and 0a or 0b.

    The hash is that of epair_generate_mac() in FreeBSD's sys/net/if_epair.c on a little-endian machine; the
    halves of a pair differ only in the last byte. ``index`` is below 2**32, ``host_id`` has 64 bits, and both
    together belong to one pair only.
    """
    digest = jenkins_hash32((index, host_id, host_id >> 32))
    return bytes((0x02, *digest.to_bytes(4, "little"), _LAST_BYTE[side])).hex(":")


@cache
def host_id(machine_id: Path = MACHINE_ID) -> int:
    """Return 64 bits that identify this machine and do not change while the process lives.

    They are the first half of the machine id, or random if no valid machine id can be read.
    """
    try:
        text = machine_id.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    # systemd writes "uninitialized" there until the first boot has ended.
    known = int(text[:16], 16) if _MACHINE_ID.fullmatch(text) else 0
    return known or secrets.randbits(64) | 1


def mixed(host_id: int, number: int) -> int:
    """Return another host id of 64 bits, which differs for each ``number`` of 64 bits and at each start of
    the machine.

    A namespace's cookie is unique only until the machine is started again, and machines that were copied
    from one image may have the same machine id. The boot id, a random number of the kernel, separates
    these."""
    words = struct.pack("<QQ", host_id & _DOUBLE_WORD, number & _DOUBLE_WORD)
    return int.from_bytes(hashlib.blake2b(words + _boot_id(), digest_size=8).digest(), "little")


@cache
def _boot_id() -> bytes:
    try:
        return BOOT_ID.read_bytes()
    except OSError:
        return b""


def jenkins_hash32(words: Sequence[int], initval: int = 0) -> int:
    """Return Bob Jenkins' lookup3 ``hashword`` of 32-bit words (FreeBSD's sys/libkern/jenkins_hash.c)."""
    a = b = c = (0xDEAD_BEEF + 4 * len(words) + initval) & _WORD
    if not words:
        return c
    padded = [word & _WORD for word in words] + [0] * (-len(words) % 3)
    for start in range(0, len(padded), 3):
        if start:
            a, b, c = _mix(a, b, c)
        a = (a + padded[start]) & _WORD
        b = (b + padded[start + 1]) & _WORD
        c = (c + padded[start + 2]) & _WORD
    return _final(a, b, c)


def _rotated(word: int, bits: int) -> int:
    return ((word << bits) | (word >> (32 - bits))) & _WORD


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    # Two rounds of the same three steps; after three steps each word is back in its place.
    for bits in (4, 6, 8, 16, 19, 4):
        a = ((a - c) & _WORD) ^ _rotated(c, bits)
        c = (c + b) & _WORD
        a, b, c = b, c, a
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    for bits in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _rotated(b, bits)) & _WORD
        a, b, c = b, c, a
    # The word that was written last is now in b.
    return b
