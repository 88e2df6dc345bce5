"""Super-frames and frames with an unfinished checksum, made field by field."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from tests.dataplane.datagrams import MAC_A, MAC_B, folded

TCP = 6
UDP = 17
ADDRESSES = {
    4: bytes((10, 9, 0, 1, 10, 9, 0, 2)),
    6: bytes.fromhex("fd0000000000000000000000000000aafd0000000000000000000000000000bb"),
}


@dataclass(frozen=True)
class Offloaded:
    """A frame that a sender leaves to be finished: right in every field that is not given."""

    payload: bytes = b"x" * 3000
    version: int = 4
    protocol: int = TCP
    gso_size: int = 1000
    """0 for a frame whose checksum alone is unfinished."""
    tags: bytes = b""
    extension: bytes = b""
    """IPv4 options, or an IPv6 extension header for destination options."""
    tcp_options: bytes = b""
    tcp_flags: int = 0x10
    sequence: int = 1
    identification: int = 1
    gso_type: int | None = None
    flags: int = 1
    partial_xor: int = 0
    """Changes the unfinished checksum."""

    def but(self, **changes: object) -> Offloaded:
        """Return the same frame with these fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    @property
    def kind(self) -> int:
        """Its gso_type."""
        if self.gso_type is not None:
            return self.gso_type
        if not self.gso_size:
            return 0
        kind = 5 if self.protocol == UDP else 1 if self.version == 4 else 4
        return kind | (0x80 if self.protocol == TCP and self.tcp_flags & 0x80 else 0)

    def __bytes__(self) -> bytes:
        addresses = ADDRESSES[self.version]
        upper = (20 + len(self.tcp_options) if self.protocol == TCP else 8) + len(self.payload)
        partial = folded(addresses + struct.pack(">HH", self.protocol, upper)) ^ self.partial_xor
        if self.protocol == TCP:
            offset = (5 + len(self.tcp_options) // 4) << 4
            transport = struct.pack(
                ">HHIIBBHHH", 9, 10, self.sequence, 5, offset, self.tcp_flags, 500, partial, 0
            )
            transport += self.tcp_options
        else:
            transport = struct.pack(">HHHH", 9, 10, upper, partial)
        network = self._network(upper)
        macs = MAC_B + MAC_A + self.tags + (b"\x08\0" if self.version == 4 else b"\x86\xdd")
        start = len(macs) + len(network)
        offset = 16 if self.protocol == TCP else 6
        virtio = struct.pack(
            "<BBHHHH", self.flags, self.kind, start + len(transport), self.gso_size, start, offset
        )
        return virtio + macs + network + transport + self.payload

    def _network(self, upper: int) -> bytes:
        more = len(self.extension)
        if self.version == 4:
            head = struct.pack(
                ">BBHHHBBH", 0x45 + more // 4, 8, 20 + more + upper, self.identification, 0x4000, 64,
                self.protocol, 0,
            )  # fmt: skip
            head += ADDRESSES[4] + self.extension
            return head[:10] + struct.pack(">H", ~folded(head) & 0xFFFF) + head[12:]
        following = 60 if more else self.protocol
        extension = bytes((self.protocol,)) + self.extension[1:] if more else b""
        return struct.pack(">IHBB", 6 << 28 | 5, more + upper, following, 64) + ADDRESSES[6] + extension


TAGS = (b"\x81\0\xe0\x07", b"\x88\xa8\0\x2a")


@st.composite
def offloaded(draw: st.DrawFn) -> Offloaded:
    """Draw a frame with anything that a kernel may leave unfinished, and that another accepts."""
    version = draw(st.sampled_from((4, 6)))
    gso_size = draw(st.sampled_from((0, 1, 7, 100, 536, 1000, 1448, 8000)))
    most = 3000 if not gso_size else min(20_000, gso_size * 40)
    size = draw(st.integers(gso_size + 1 if gso_size else 0, most))
    return Offloaded(
        payload=draw(st.binary(min_size=4, max_size=64)).ljust(64, b"\xfe") * (size // 64)
        + draw(st.binary(min_size=size % 64, max_size=size % 64)),
        version=version,
        protocol=draw(st.sampled_from((TCP, UDP))),
        gso_size=gso_size,
        tags=b"".join(draw(st.lists(st.sampled_from(TAGS), max_size=2))),
        extension=draw(st.sampled_from((b"", b"\x01" * 8 if version == 4 else b"\0\0\x01\x04\0\0\0\0"))),
        tcp_options=draw(st.sampled_from((b"", b"\x01" * 12))),
        tcp_flags=0x10 | draw(st.sampled_from((0, 0x01, 0x08, 0x80, 0x89))),
        sequence=draw(st.sampled_from((0, 1, 0xFFFFFF00, 0xFFFFFFFF))),
        identification=draw(st.sampled_from((0, 1, 0xFFFE))),
    )
