"""UDP datagrams as read from a TAP device, made field by field, and the segments that a kernel makes.

No code is shared with the tested modules: addresses, lengths and checksums are computed anew."""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields, replace

MAC_A = bytes.fromhex("020000000001")
MAC_B = bytes.fromhex("020000000002")


def folded(data: bytes) -> int:
    """Return the ones' complement sum of 16-bit words."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@dataclass(frozen=True, repr=False)
class Datagram:
    """One datagram, right in every field that is not given."""

    payload: bytes = b"x" * 64
    version: int = 4
    flow: int = 0
    """Distinguishes flows by their source port."""
    number: int = 0
    """Its place in its flow: the IPv4 identification."""
    macs: bytes = MAC_B + MAC_A
    tag: bytes = b""
    ethertype: bytes = b""
    """One that does not belong to the version of IP."""
    first: int | None = None
    """IPv4's first byte; IPv6's version."""
    protocol: int = 17
    tos: int = 0
    ttl: int = 64
    fragment: int = 0x4000
    label: int = 0x12345
    extension: bytes = b""
    """IPv4 options, or an IPv6 extension header."""
    padding: bytes = b""
    udp_more: int = 0
    """Excess of the UDP length."""
    ip_more: int = 0
    """Excess of the IP length; the header checksum is right for it."""
    header_checksum_xor: int = 0
    checksum_xor: int = 0
    checksum: int | None = None
    flags: int = 1
    gso_type: int = 0
    csum_offset: int = 6
    hdr_len: int = 0

    def __repr__(self) -> str:
        """Return its unusual fields only, short enough for a burst of datagrams."""
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "payload"}
        unusual = [
            f"{name}={value!r}" for name, value in values.items() if value != getattr(type(self), name)
        ]
        return f"Datagram({len(self.payload)} bytes{''.join(', ' + each for each in unusual)})"

    def but(self, **changes: object) -> Datagram:
        """Return the same datagram with these fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    @property
    def addresses(self) -> bytes:
        if self.version == 4:
            return bytes((10, 9, 0, 1, 10, 9, 0, 2))
        return bytes.fromhex("fd0000000000000000000000000000aafd0000000000000000000000000000bb")

    def __bytes__(self) -> bytes:
        udp_length = 8 + len(self.payload) + self.udp_more
        partial = folded(self.addresses + struct.pack(">HH", 17, 8 + len(self.payload)))
        checksum = partial ^ self.checksum_xor if self.checksum is None else self.checksum
        udp = struct.pack(">HHHH", 1000 + self.flow, 9999, udp_length, checksum) + self.payload
        ethernet = (
            self.macs + self.tag + (self.ethertype or (b"\x08\0" if self.version == 4 else b"\x86\xdd"))
        )
        ip = self._ipv4(len(udp)) if self.version == 4 else self._ipv6(len(udp))
        csum_start = len(ethernet) + len(ip)
        virtio = (self.flags, self.gso_type, self.hdr_len, 0, csum_start, self.csum_offset)
        if not self.flags:
            virtio = (0, 0, 0, 0, 0, 0)
        return struct.pack("<BBHHHH", *virtio) + ethernet + ip + udp + self.padding

    def _ipv4(self, udp: int) -> bytes:
        length = 20 + len(self.extension) + udp + self.ip_more
        first = 0x45 + len(self.extension) // 4 if self.first is None else self.first
        start = struct.pack(
            ">BBHHHBB", first, self.tos, length, self.number & 0xFFFF, self.fragment, self.ttl, self.protocol
        )
        checksum = ~folded(start + self.addresses + self.extension) & 0xFFFF
        checksum ^= self.header_checksum_xor
        return start + struct.pack(">H", checksum) + self.addresses + self.extension

    def _ipv6(self, udp: int) -> bytes:
        length = len(self.extension) + udp + self.ip_more
        word = (6 if self.first is None else self.first) << 28 | self.tos << 20 | self.label
        following = 60 if self.extension else self.protocol
        return struct.pack(">IHBB", word, length, following, self.ttl) + self.addresses + self.extension


def segments(frame: bytes) -> list[bytes]:
    """Return the frames that a kernel makes of a UDP super-frame, each with a checksum still to be completed.

    As udp_gso_segment and its callers: IPv4 identifications count up, checksums are computed anew."""
    flags, gso_type, hdr_len, size, csum_start, csum_offset = struct.unpack_from("<BBHHHH", frame)
    assert (flags, gso_type, csum_offset) == (1, 5, 6)
    transport = 10 + csum_start
    assert hdr_len == csum_start + 8 <= len(frame) - 10
    head, payload = frame[: transport + 8], frame[transport + 8 :]
    assert 1 <= size < len(payload)
    assert len(payload) <= 64 * size
    _check_super_frame(head, payload)
    made = []
    for place, start in enumerate(range(0, len(payload), size)):
        part = payload[start : start + size]
        udp = 8 + len(part)
        ip = bytearray(head[24:transport])
        if ip[0] == 0x45:
            number = int.from_bytes(ip[4:6], "big") + place
            ip[2:6] = struct.pack(">HH", 20 + udp, number & 0xFFFF)
            ip[10:12] = bytes(2)
            ip[10:12] = struct.pack(">H", ~folded(bytes(ip)) & 0xFFFF)
            addresses = ip[12:20]
        else:
            ip[4:6] = struct.pack(">H", udp)
            addresses = ip[8:40]
        partial = folded(bytes(addresses) + struct.pack(">HH", 17, udp))
        virtio = struct.pack("<BBHHHH", 1, 0, 0, 0, csum_start, 6)
        ports = head[transport : transport + 4]
        made.append(virtio + head[10:24] + bytes(ip) + ports + struct.pack(">HH", udp, partial) + part)
    return made


def _check_super_frame(head: bytes, payload: bytes) -> None:
    """Check that its own lengths and checksums are right."""
    udp = 8 + len(payload)
    ip = head[24:-8]
    if ip[0] == 0x45:
        assert int.from_bytes(ip[2:4], "big") == 20 + udp
        assert folded(ip) == 0xFFFF
        addresses = ip[12:20]
    else:
        assert int.from_bytes(ip[4:6], "big") == udp
        addresses = ip[8:40]
    assert int.from_bytes(head[-4:-2], "big") == udp
    assert int.from_bytes(head[-2:], "big") == folded(addresses + struct.pack(">HH", 17, udp))
