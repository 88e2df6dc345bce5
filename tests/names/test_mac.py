from __future__ import annotations

import secrets
import struct
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from epaird.names import mac
from epaird.names.mac import InvalidMac, derive, host_id, jenkins_hash32, mixed, parse


def hashlittle(key: bytes, initval: int) -> int:
    """Compute lookup3's hash of bytes by its hash of words.

    On a little-endian machine the two differ only in the count of the zero bytes that fill the last word.
    """
    padded = key + bytes(-len(key) % 4)
    words = struct.unpack(f"<{len(padded) // 4}I", padded)
    return jenkins_hash32(words, initval + len(key) - len(padded))


@pytest.mark.parametrize(
    ("key", "initval", "digest"),
    [
        (b"", 0, 0xDEADBEEF),
        (b"", 0xDEADBEEF, 0xBD5B7DDE),
        (b"Four score and seven years ago", 0, 0x17770551),
        (b"Four score and seven years ago", 1, 0xCD628161),
    ],
)
def test_the_hash_is_lookup3(key: bytes, initval: int, digest: int) -> None:
    # driver5() of Bob Jenkins' lookup3.c
    assert hashlittle(key, initval) == digest


@pytest.mark.parametrize(
    ("index", "host", "address"),
    [
        (1, 0, "02:6b:a1:24:32:0a"),
        (7, 0x0123_4567_89AB_CDEF, "02:ab:1b:79:f0:0a"),
        (2, 0x3D12_19C7_C4C5_404A, "02:94:cf:70:5b:0a"),
        (0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF, "02:a9:64:09:6e:0a"),
    ],
)
def test_addresses_are_those_of_the_original(index: int, host: int, address: str) -> None:
    # Printed by the C code of epair_generate_mac() on a little-endian machine.
    assert derive(index, host, "a") == address


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_the_halves_differ_in_the_last_byte(index: int, host: int) -> None:
    a, b = derive(index, host, "a"), derive(index, host, "b")
    assert a[:-2] == b[:-2]
    assert (a[-2:], b[-2:]) == ("0a", "0b")
    assert a.startswith("02:")
    assert parse(a) == a


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(0, 95))
def test_every_bit_counts(index: int, host: int, bit: int) -> None:
    key = index | host << 32
    other = key ^ 1 << bit
    assert derive(index, host, "a") != derive(other & 0xFFFF_FFFF, other >> 32, "a")


def test_an_address_has_one_form() -> None:
    assert parse("02:5D:11:22:33:0A") == "02:5d:11:22:33:0a"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a hardware address"),
        ("02-5d-11-22-33-0a", "is not a hardware address"),
        ("2:5d:11:22:33:a", "is not a hardware address"),
        ("02:5d:11:22:33", "is not a hardware address"),
        ("02:5d:11:22:33:0a:00", "is not a hardware address"),
        ("02:5d:11:22:33:0g", "is not a hardware address"),
        ("02:5d:11:22:33:0a\n", "is not a hardware address"),
        ("٠2:5d:11:22:33:0a", "is not a hardware address"),
        ("00:00:00:00:00:00", "is all zero"),
        ("ff:ff:ff:ff:ff:ff", "is the broadcast address"),
        ("01:00:5e:00:00:01", "the first byte must be even"),
    ],
)
def test_an_unusable_address_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidMac, match=reason) as caught:
        parse(text)
    assert len(str(caught.value).splitlines()) == 1


@given(st.binary(min_size=6, max_size=6))
def test_any_six_bytes_are_accepted_or_refused_by_their_kind(address: bytes) -> None:
    text = address.hex(":")
    if address[0] & 1 or not any(address):
        with pytest.raises(InvalidMac):
            parse(text)
    else:
        assert parse(text.upper()) == text


def test_the_host_id_is_the_first_half_of_the_machine_id(tmp_path: Path) -> None:
    machine_id = tmp_path / "machine-id"
    machine_id.write_text("0123456789abcdef0011223344556677\n")
    assert host_id(machine_id) == 0x0123_4567_89AB_CDEF


@pytest.mark.parametrize("content", [None, b"", b"uninitialized\n", b"0" * 32, b"\xff" * 32, b"0123"])
def test_without_a_machine_id_it_is_random_and_stays(tmp_path: Path, content: bytes | None) -> None:
    machine_id = tmp_path / "machine-id"
    if content is not None:
        machine_id.write_bytes(content)
    first = host_id(machine_id)
    assert 0 < first < 2**64
    assert host_id(machine_id) == first
    assert host_id(tmp_path / "another") != first


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
@example(0, 0, 1)
@example(1 << 40, 2**64 - 2, 2**64 - 1)
def test_a_mixed_host_id_differs_for_each_number(host: int, one: int, other: int) -> None:
    assert 0 <= mixed(host, one) < 2**64
    assert (mixed(host, one) == mixed(host, other)) == (one == other)
    assert (mixed(one, host) == mixed(other, host)) == (one == other)


def test_a_mixed_host_id_has_64_bits() -> None:
    together = 0
    for number in range(64):
        together |= mixed(7, number)
    assert together == 2**64 - 1


def test_a_random_host_id_is_never_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "randbits", lambda _bits: 0)
    assert host_id(tmp_path / "none") != 0


def test_a_mixed_host_id_differs_at_each_start_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = set()
    for boot in ("one", "another", None):
        file = tmp_path / "boot_id"
        file.unlink(missing_ok=True)
        if boot is not None:
            file.write_text(boot)
        monkeypatch.setattr(mac, "BOOT_ID", file)
        mac._boot_id.cache_clear()
        seen.add(mixed(1, 2))
    mac._boot_id.cache_clear()
    assert len(seen) == 3
