"""The account of a worker that died: every frame that it had in hand gets its one fate.

At rest every frame has exactly one fate:

    kernel tx_packets(a) = opackets(a) + oerrors(a, every reason)
    opackets(a) + added segments(b) = ipackets(b) + queued and in flight to b + ierrors(b, every reason)

A worker can be killed between any two stores to the ledger. The kernel's own counters then show how many
frames it had read and written, and the difference is counted as ``worker_lost``.

This module uses the standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence

from epaird.ipc.counters import (
    ADDED_SEGMENTS,
    COALESCED_DATAGRAMS,
    COALESCED_SUPERFRAMES,
    HELD_BYTES,
    IERRORS,
    IN_FLIGHT,
    IPACKETS,
    JOINING,
    LISTED,
    OACTIVE,
    OERRORS,
    OPACKETS,
    REASONS_MAX,
    TOO_BIG,
    WORKER_LOST,
)
from epaird.ipc.ledger import Words


def balance(sender: Sequence[int], receiver: Sequence[int]) -> int:
    """Return the frames that the sender transmitted, as many as they became when they were segmented, less
    the frames of the receiver that have a fate.

    The balance is 0 at rest as long as neither interface was ever patched to another one."""
    return sender[OPACKETS] + receiver[ADDED_SEGMENTS] - receiver[IPACKETS] - _errors(receiver, IERRORS)


def settle(sender: Words, receiver: Words, *, read: int | None, written: int | None, base: int = 0) -> int:
    """Account for the frames that a worker had in hand when it died, in one direction of a cable.

    ``read`` is the kernel's count of frames taken from the sender's device (tx_packets), ``written`` its
    count of frames delivered to the receiver's device (rx_packets); nothing may read or write them during
    the call. Where they are None, the worker's own counts are taken as they are. ``base`` is the balance at
    the time when the two were patched together. Frames that were read and did not arrive are counted as
    ``worker_lost``; returns how many there were."""
    if written is not None:
        _settle_delivered(receiver, written)
    if read is not None:
        sender[OPACKETS] = max(sender[OPACKETS], read - _errors(sender, OERRORS))
    lost = max(0, balance(sender, receiver) - base)
    receiver[IERRORS + WORKER_LOST] += lost
    _clear_held(sender, receiver)
    return lost


def settle_unplugged(sender: Words, *, read: int) -> int:
    """Account likewise for an interface without a peer, whose frames are errors of its own."""
    lost = max(0, read - sender[OPACKETS] - _errors(sender, OERRORS))
    sender[OERRORS + WORKER_LOST] += lost
    _clear_held(sender, sender)
    return lost


def _errors(words: Sequence[int], first: int) -> int:
    return sum(words[first : first + REASONS_MAX])


def _clear_held(sender: Words, receiver: Words) -> None:
    receiver[IN_FLIGHT] = receiver[JOINING] = receiver[HELD_BYTES] = 0
    sender[LISTED] = sender[OACTIVE] = 0


def _settle_delivered(receiver: Words, written: int) -> None:
    """Count the frames of the last burst that were delivered but not yet counted.

    A write delivers one frame, or one super-frame of the worker's making."""
    known = receiver[IPACKETS] - receiver[COALESCED_DATAGRAMS] + receiver[COALESCED_SUPERFRAMES]
    writes = written - known - receiver[TOO_BIG]
    if writes <= 0:
        # The frames were counted, but not yet as joined ones.
        receiver[COALESCED_DATAGRAMS] -= writes
        return
    joining = receiver[JOINING]
    before, arrived, joined = joining >> 32, joining >> 16 & 0xFFFF, joining & 0xFFFF
    frames = writes
    if joined:
        frames = arrived if writes <= before else arrived + joined + writes - before - 1
    receiver[IPACKETS] += frames
    if frames > writes:
        receiver[COALESCED_SUPERFRAMES] += 1
        receiver[COALESCED_DATAGRAMS] += frames - writes + 1
