"""The reflector: packets that a loopback's owner transmits are delivered to the same owner.

A packet as read from a TUN device is a virtio_net_hdr and an IP packet. There are two ways to deliver it:

- swapped: source and destination address change places, so that the owner receives the packet from the
  address that it was sent to. Checksums, whole or still to be completed, stay right: they are sums, and both
  addresses are in them. Packets for a group are left alone, because no packet may come from a group. The
  packet that an ICMP error quotes is swapped too (:mod:`epaird.dataplane.quotes`).
- verbatim, as BSD's looutput() does.

As in NetBSD a packet is counted as transmitted before its family is examined, and as received once it is
delivered.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any, Final, NamedTuple

from epaird.dataplane.burst import Burst
from epaird.dataplane.frames import HEADER
from epaird.dataplane.headers import ICMP, ICMPV6
from epaird.dataplane.links import IP_LINK, VERSIONS, Family
from epaird.dataplane.pipeline import Pipeline
from epaird.dataplane.port import Port, reason
from epaird.dataplane.quotes import reflect_quote4, reflect_quote6
from epaird.ipc.counters import FAMILY, RUNT


class _Mirror(NamedTuple):
    """How packets of a version of IP are swapped. Two calls do it, because it is done for each packet."""

    shortest: int
    """Bytes of the shortest packet, virtio_net_hdr included."""
    read: Callable[[memoryview, int], tuple[int, bytes, bytes]]
    """Returns the protocol of the payload, the source and the destination address, from ``protocol`` on."""
    protocol: int
    """The first byte that it reads."""
    write: Callable[[memoryview, int, bytes, bytes], None]
    """Writes both addresses, from ``addresses`` on."""
    addresses: int
    """The first byte that it writes."""
    mask: int
    """The bits of the destination's first byte that distinguish groups."""
    group: int
    """Their value in the address of a group."""
    icmp: int
    """The protocol number of its ICMP."""
    reflect_quote: Callable[[memoryview], None]
    """Reflects the quote of its ICMP errors."""


def _mirror(family: Family, protocol: int, icmp: int, reflect_quote: Callable[[memoryview], None]) -> _Mirror:
    """Return how to swap packets with the number of the payload's protocol at ``protocol``."""
    protocol += HEADER
    start, middle, end = family.source.start, family.source.stop, family.destination.stop
    both = f"{middle - start}s{end - middle}s"
    head: Any = Struct(f"=B{start - protocol - 1}x{both}")
    return _Mirror(
        family.shortest,
        head.unpack_from,
        protocol,
        Struct(both).pack_into,
        start,
        family.mask,
        family.group,
        icmp,
        reflect_quote,
    )


_VERSIONS: Final = {
    4: _mirror(VERSIONS[4], 9, ICMP, reflect_quote4),
    6: _mirror(VERSIONS[6], 6, ICMPV6, reflect_quote6),
}
_MIRRORS: Final = tuple(_VERSIONS.get(version) for version in range(16))
"""By version; a tuple because it is indexed for each packet."""


class Reflector:
    """Delivers the packets of one loopback to itself."""

    link = IP_LINK

    def __init__(self, pipeline: Pipeline, ports: Sequence[Port], *, swap: bool) -> None:
        """Become the forwarding of a port; ``swap`` swaps source and destination address."""
        self._pipeline = pipeline
        self._swap = swap
        self._unknown_reported = False
        for port in ports:
            port.forwarding = self
            port.examine = self.link.objection

    def exchange(self, source: Port) -> bool:
        """Deliver one burst. Always False: a loopback has no peer whose answers are worth polling for."""
        self._pipeline.transmit(source)
        return False

    def deliver(self, source: Port, burst: Burst) -> None:
        """Deliver a burst to the port that it was read from."""
        account, multicasts = source.account, self.link.multicasts
        if source.backlog:
            self._pipeline.resume(source)
        slots = burst.accepted()
        packets = burst.frames(slots)
        account.transmitted(packets, multicasts(packets))
        if self._check(source, burst, slots, packets):
            slots = burst.accepted()
            packets = burst.frames(slots)
        account.in_flight(len(source.backlog) + len(packets))
        delivered: list[memoryview] = []
        waiting = packets if source.backlog else _write(source, burst, slots, packets, delivered)
        account.in_flight(len(source.backlog))
        account.received(delivered, multicasts(delivered))
        if waiting:
            self._pipeline.wait(source, waiting)

    def _check(self, source: Port, burst: Burst, slots: Sequence[int], packets: Sequence[memoryview]) -> bool:
        """Swap the addresses of packets, and drop packets that are not IP. True when some were dropped."""
        swap, dropped = self._swap, False
        for position, packet in enumerate(packets):
            mirror = _MIRRORS[packet[HEADER] >> 4]
            if mirror is None:
                _drop(source, burst, slots[position], FAMILY)
                self._report_unknown(source, packet[HEADER] >> 4)
                dropped = True
                continue
            shortest, read, protocol, write, addresses, mask, group, icmp, reflect_quote = mirror
            if len(packet) < shortest:
                _drop(source, burst, slots[position], RUNT)
                dropped = True
            elif swap:
                payload, sender, receiver = read(packet, protocol)
                if receiver[0] & mask != group:
                    write(packet, addresses, receiver, sender)
                    if payload == icmp:
                        reflect_quote(packet)
        return dropped

    def _report_unknown(self, source: Port, version: int) -> None:
        if not self._unknown_reported:
            self._unknown_reported = True
            self._pipeline.poller.unknown_family(source, version)


def _write(
    source: Port,
    burst: Burst,
    slots: Sequence[int],
    packets: list[memoryview],
    delivered: list[memoryview],
) -> list[memoryview]:
    """Write packets, and add those that the device takes to ``delivered``; return those that have to wait."""
    write, fd, add = os.write, source.fd, delivered.append
    for position, packet in enumerate(packets):
        try:
            write(fd, packet)
        except BlockingIOError:
            return packets[position:]
        except OSError as error:
            _drop(source, burst, slots[position], reason(error))
        else:
            add(packet)
    return []


def _drop(source: Port, burst: Burst, slot: int, why: int) -> None:
    burst.verdicts[slot] = why
    source.account.lost(why)
