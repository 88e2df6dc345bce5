"""The account of a worker that died: every frame that it had in hand gets its one fate.

At rest every frame has exactly one fate:

    kernel tx_packets(a) = opackets(a) + oerrors(a, every reason)
    opackets(a) + added segments(b) = ipackets(b) + queued and in flight to b + ierrors(b, every reason)

A worker can be killed between any two stores to the ledger. The kernel's own counters then show how many
frames it had read and written, and the difference is counted as ``worker_lost``.

With one queue the replacement gets the cable once that is done (:func:`settle`). With several, the kernel's
counters are those of all queues, and other workers go on. All queues are then paused for a moment, the
replacement's too, and what is missing in all of them together is added to one of them
(:func:`correction`, :func:`amend`). It does not matter how many processes have died by then, nor when.

This module is imported by worker processes: it uses the standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

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

_WORD_MAX: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Correction:
    """Frames that processes which have died left uncounted, from one port of a cable to the other."""

    sent: int = 0
    """Frames that the port transmitted."""
    dropped: int = 0
    """Frames that the port transmitted and that had no receiver."""
    delivered: int = 0
    """Frames that were delivered to the other port."""
    superframes: int = 0
    """Super-frames of a worker's making among them."""
    datagrams: int = 0
    """Datagrams in these."""
    lost: int = 0
    """Frames that were transmitted and not delivered."""

    def __bool__(self) -> bool:
        """Return whether there is anything to count."""
        return self != Correction()


def balance(sender: Sequence[int], receiver: Sequence[int]) -> int:
    """Return the frames that the sender transmitted, as many as they became when they were segmented, less
    the frames of the receiver that have a fate.

    The balance is 0 at rest as long as neither interface was ever patched to another one."""
    return sender[OPACKETS] + receiver[ADDED_SEGMENTS] - receiver[IPACKETS] - _errors(receiver, IERRORS)


def correction(
    senders: Sequence[Sequence[int]],
    receivers: Sequence[Sequence[int]],
    *,
    read: int,
    written: int,
    base: int,
    joinings: Sequence[int] = (),
) -> Correction:
    """Return what is missing in the counters of all queues of one direction of a cable.

    ``senders`` and ``receivers`` are their slots, which must be at rest; ``read``, ``written`` and ``base``
    are as in :func:`settle`, for all queues together; ``joinings`` are what :func:`end_process` returned."""
    sent = max(0, read - sum(each[OPACKETS] + _errors(each, OERRORS) for each in senders))
    writes = written - sum(map(_writes, receivers))
    delivered, superframes, datagrams = _delivered(writes, joinings)
    waiting = sum(each[IN_FLIGHT] for each in receivers)
    missing = sum(map(balance, senders, receivers)) - base - waiting + sent - delivered
    found = (sent, 0, delivered, superframes, datagrams, max(0, missing))
    return Correction(*(min(_WORD_MAX, number) for number in found))


def correction_unplugged(senders: Sequence[Sequence[int]], *, read: int) -> Correction:
    """Return likewise what is missing in the counters of an interface without a peer."""
    return Correction(dropped=max(0, read - sum(each[OPACKETS] + _errors(each, OERRORS) for each in senders)))


def amend(sender: Words, receiver: Words, missing: Correction) -> None:
    """Add what is missing to the slots of one queue; to be called by their writer.

    A writer that is killed in between leaves the rest to the next correction."""
    _add(sender, OPACKETS, missing.sent)
    _add(sender, OERRORS + WORKER_LOST, missing.dropped)
    _add(receiver, IPACKETS, missing.delivered)
    _add(receiver, COALESCED_SUPERFRAMES, missing.superframes)
    _add(receiver, COALESCED_DATAGRAMS, missing.datagrams)
    _add(receiver, IERRORS + WORKER_LOST, missing.lost)


def end_process(sender: Words, receiver: Words) -> int:
    """Clear the state that a process which has died left in the slots of one direction, not its counters.

    Returns its word JOINING, which :func:`correction` needs."""
    joining = receiver[JOINING]
    _clear_held(sender, receiver)
    return joining


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
    _add(receiver, IERRORS + WORKER_LOST, lost)
    _clear_held(sender, receiver)
    return lost


def settle_unplugged(sender: Words, *, read: int) -> int:
    """Account likewise for an interface without a peer, whose frames are errors of its own."""
    lost = max(0, read - sender[OPACKETS] - _errors(sender, OERRORS))
    _add(sender, OERRORS + WORKER_LOST, lost)
    _clear_held(sender, sender)
    return lost


def _add(words: Words, word: int, number: int) -> None:
    """Add to a counter, but no more than it can have: any worker can have written any number there."""
    words[word] = min(_WORD_MAX, words[word] + number)


def _errors(words: Sequence[int], first: int) -> int:
    return sum(words[first : first + REASONS_MAX])


def _clear_held(sender: Words, receiver: Words) -> None:
    receiver[IN_FLIGHT] = receiver[JOINING] = receiver[HELD_BYTES] = 0
    sender[LISTED] = sender[OACTIVE] = 0


def _settle_delivered(receiver: Words, written: int) -> None:
    """Count the frames of the last burst that were delivered but not yet counted."""
    frames, superframes, datagrams = _delivered(written - _writes(receiver), (receiver[JOINING],))
    _add(receiver, IPACKETS, frames)
    _add(receiver, COALESCED_SUPERFRAMES, superframes)
    _add(receiver, COALESCED_DATAGRAMS, datagrams)


def _writes(receiver: Sequence[int]) -> int:
    """Return how many writes are counted: each delivers a frame, a super-frame, or a worker's own message."""
    joined = receiver[COALESCED_DATAGRAMS] - receiver[COALESCED_SUPERFRAMES]
    return receiver[IPACKETS] - joined + receiver[TOO_BIG]


def _delivered(writes: int, joinings: Sequence[int]) -> tuple[int, int, int]:
    """Return how many frames ``writes`` writes that are not counted have delivered, how many super-frames of
    a worker's making are among them, and how many datagrams are in these."""
    if writes <= 0:
        # The frames were counted, but not yet as joined ones.
        return 0, 0, -writes
    frames = superframes = datagrams = 0
    for joining in joinings:
        before, arrived, joined = joining >> 32, joining >> 16 & 0xFFFF, joining & 0xFFFF
        if not joined:
            continue
        done = min(writes, before + 1)
        writes -= done
        found = arrived + joined if done > before else arrived
        frames += found
        if found > done:
            superframes += 1
            datagrams += found - done + 1
    return frames + writes, superframes, datagrams
