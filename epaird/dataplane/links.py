"""Link types: Ethernet frames, as on TAP devices, and bare IP packets, as on TUN devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from epaird.dataplane.frames import ETHERNET, HEADER, VLAN_TAG, objection
from epaird.dataplane.headers import tagged
from epaird.dataplane.toobig import too_big
from epaird.ipc.counters import OVERSIZE


class Family(NamedTuple):
    """A version of IP, in packets that start with a virtio_net_hdr."""

    shortest: int
    """Bytes of the shortest packet."""
    source: slice
    """The source address."""
    destination: slice
    """The destination address."""
    first: int
    """The first byte of the destination address."""
    mask: int
    """The bits of that byte that distinguish groups from other addresses."""
    group: int
    """Their value in the address of a group."""


def _family(addresses: int, length: int, mask: int, group: int) -> Family:
    """Return a version whose addresses have ``length`` bytes and start at ``addresses``, source first, and
    whose shortest packet ends with them."""
    source, destination = HEADER + addresses, HEADER + addresses + length
    end = destination + length
    return Family(end, slice(source, destination), slice(destination, end), destination, mask, group)


VERSIONS: Final = {4: _family(12, 4, 0xF0, 0xE0), 6: _family(8, 16, 0xFF, 0xFF)}
"""The versions of IP by number."""
FAMILIES: Final = tuple(VERSIONS.get(version) for version in range(16))
"""By the version in the first four bits of a packet; None for versions that are not IP. It is a tuple because
it is indexed for each packet."""


class LinkLayer(Protocol):
    """A type of frames, each of which starts with a virtio_net_hdr."""

    def read_limit(self, mtus: Sequence[int]) -> int:
        """Return the length in bytes, header included, up to which a frame fits all MTUs unexamined."""

    def objection(self, frame: memoryview, length: int, limit: int) -> int | None:
        """Return why a frame that is not between SHORTEST and ``limit`` bytes long is refused, or None."""

    def multicasts(self, frames: Sequence[bytes | memoryview]) -> int:
        """Return how many frames are for a group."""

    def too_big(self, frame: memoryview, limit: int) -> bytes | None:
        """Return the message to the sender of a frame above ``limit`` bytes, or None."""


class EthernetLink:
    """Frames that start with an Ethernet header."""

    def read_limit(self, mtus: Sequence[int]) -> int:
        """Return the limit by the kernel's own rule for veth (is_skb_forwardable): MTU, Ethernet header, one
        VLAN tag."""
        return HEADER + min(mtus) + ETHERNET + VLAN_TAG

    def objection(self, frame: memoryview, length: int, limit: int) -> int | None:
        """Return RUNT, OVERSIZE, or None: :func:`epaird.dataplane.frames.objection`.

        The outer tag does not count. The kernel keeps it apart from the frame, where veth's rule does not see
        it, and only a TAP device delivers it inside the frame."""
        reason = objection(frame, length, limit)
        if reason == OVERSIZE and tagged(frame):
            return objection(frame, length, limit + VLAN_TAG)
        return reason

    def multicasts(self, frames: Sequence[bytes | memoryview]) -> int:
        """Return how many frames have the group bit in their destination."""
        return sum([frame[HEADER] & 1 for frame in frames])

    def too_big(self, frame: memoryview, limit: int) -> bytes | None:
        """Return an ICMP or ICMPv6 message, or None: :func:`epaird.dataplane.toobig.too_big`."""
        return too_big(frame, limit - HEADER - ETHERNET - VLAN_TAG)


class IpLink:
    """Bare IP packets."""

    def read_limit(self, mtus: Sequence[int]) -> int:
        """Return the limit: the packet must fit the MTU."""
        return HEADER + min(mtus)

    def objection(self, frame: memoryview, length: int, limit: int) -> int | None:
        """Return RUNT, OVERSIZE, or None: :func:`epaird.dataplane.frames.objection`."""
        return objection(frame, length, limit)

    def multicasts(self, frames: Sequence[bytes | memoryview]) -> int:
        """Return how many packets have a group as their destination."""
        count = 0
        for packet in frames:
            family = FAMILIES[packet[HEADER] >> 4]
            if family is not None:
                shortest, _, _, first, mask, group = family
                if len(packet) >= shortest and packet[first] & mask == group:
                    count += 1
        return count

    def too_big(self, frame: memoryview, limit: int) -> None:
        """Return None: an interface has one MTU, which its own stack knows."""


ETHERNET_LINK: Final[LinkLayer] = EthernetLink()
IP_LINK: Final[LinkLayer] = IpLink()
