"""The catalogue of counters: the one list from which everything else is derived.

Each entry names a counter, its word in a slot of the ledger, and the text that users see.
The ledger's layout, the readings, the API, ``epairctl``, the metrics page, the manual page and
docs/metrics.md are derived from it.

Counters keep BSD's names and viewpoint, the interface owner's: ``o`` is what the owner transmits (the
worker reads it), ``i`` what is delivered to the owner (the worker writes it).

Words are only ever appended: a word keeps its meaning for as long as the layout version stays the same,
so that processes of different versions can share one ledger.

This module is imported by worker processes: it uses the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

LAYOUT: Final = 2
"""Version of the layout of slots. Raised only when a word changes its place or its meaning."""
SLOT_WORDS: Final = 64
"""Unsigned 64-bit words in a slot."""
REASONS_MAX: Final = 16
"""Reasons that have room in each direction of an interface."""

CounterType = Literal["counter", "gauge"]


@dataclass(frozen=True, slots=True)
class Counter:
    """One number that is kept for every interface, worker or line."""

    name: str
    """The key in the API, the column in ``epairctl`` and the name in the ledger's header."""
    word: int
    """The index in a slot; the first one, where there is one for each reason.

    From SLOT_WORDS on it is no word of the slot but one that a reading appends to it: the kernel counts
    it, or it is derived."""
    unit: str
    """The unit: ``frames``, ``segments``, ``bytes``, ``nanoseconds``."""
    help: str
    """One sentence for the metrics page and the documents, without the full stop."""
    type: CounterType = "counter"
    """A gauge can go down."""
    by_reason: bool = False
    """There are REASONS_MAX words, one for each reason."""
    histogram: bool = False
    """There are LATE_BUCKETS_MAX words, one for each bucket."""
    metric: str = ""
    """The Prometheus metric without ``_total``; empty when it has none of its own."""
    statistic: bool = False
    """It is one of the statistics that the API and ``epairctl`` show for an interface."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason for which a frame is an error."""

    name: str
    """The label in metrics and the key in the API."""
    help: str
    """One sentence for the documents, without the full stop."""


_REASONS: Final = (
    Reason("peer_down", "The peer is down or missing, so nothing can be delivered"),
    Reason("oversize", "The frame is longer than the MTU of either half allows"),
    Reason("runt", "The frame or packet is shorter than its headers"),
    Reason(
        "write_error",
        "The kernel refused the frame, it was dropped while it waited, or it could not be segmented",
    ),
    Reason("worker_lost", "A worker died after it had read the frame and before it delivered it"),
    Reason("family", "A loopback was sent a packet that is neither IPv4 nor IPv6"),
    Reason("flushed", "The sender was set down before the frame was taken from its ring (BSD's if_qflush)"),
)
REASONS: Final = tuple(reason.name for reason in _REASONS)
"""Names of the reasons; the words of one direction are in this order."""
REASON_HELP: Final[Mapping[str, str]] = MappingProxyType({each.name: each.help for each in _REASONS})
"""The meaning of each reason."""

PEER_DOWN: Final = REASONS.index("peer_down")
OVERSIZE: Final = REASONS.index("oversize")
RUNT: Final = REASONS.index("runt")
WRITE_ERROR: Final = REASONS.index("write_error")
WORKER_LOST: Final = REASONS.index("worker_lost")
FAMILY: Final = REASONS.index("family")
FLUSHED: Final = REASONS.index("flushed")

_LINE_REASONS: Final = (
    Reason("loss", "`loss` dropped the segment"),
    Reason("queue_full", "The queue before `rate` or `trace` was full (`limit`)"),
    Reason("aqm", 'CoDel dropped the segment (`queue = "codel"`)'),
    Reason("ber", "A bit error dropped the segment (`ber`)"),
    Reason("schedule", "A loss of the schedule dropped the segment"),
)
LINE_REASONS: Final = tuple(reason.name for reason in _LINE_REASONS)
"""Names of the reasons for which a line drops segments, in the order of their words."""
LINE_REASON_HELP: Final[Mapping[str, str]] = MappingProxyType(
    {each.name: each.help for each in _LINE_REASONS}
)
"""The meaning of each of these reasons."""

# Words of an interface's slot; with several queues, of the slot of one queue.
OPACKETS: Final = 0
OBYTES: Final = 1
OMCASTS: Final = 2
IPACKETS: Final = 3
IBYTES: Final = 4
IMCASTS: Final = 5
IN_FLIGHT: Final = 6
LISTED: Final = 7
OACTIVE: Final = 8
COALESCED_DATAGRAMS: Final = 9
COALESCED_SUPERFRAMES: Final = 10
JOINING: Final = 11
HELD_BYTES: Final = 12
TOO_BIG: Final = 13
DOWN: Final = 14
"""Written by the control plane, read by the worker."""
ADDED_SEGMENTS: Final = 15
OERRORS: Final = 16
IERRORS: Final = OERRORS + REASONS_MAX
MIGRATING: Final = 63
"""1 while the counters of this slot are still in a ledger of an older layout."""

# Words of a line's slot.
CUT: Final = 0
DUPLICATED: Final = 1
CORRUPTED: Final = 2
REORDERED: Final = 3
MARKED: Final = 4
HELD_FRAMES: Final = 5
HELD_SEGMENTS: Final = 6
LINE_HELD_BYTES: Final = 7
OSEGMENTS: Final = 8
ISEGMENTS: Final = 9
LATE_SUM_NS: Final = 10
TARGET: Final = 11
"""Written by the control plane, while no worker has the line."""
ESEGMENTS: Final = 12
FULL: Final = 13
IMPAIRED: Final = 16
LATE_BUCKETS: Final = IMPAIRED + REASONS_MAX
LATE_BOUNDS_NS: Final = (
    10_000, 25_000, 50_000, 75_000, 100_000, 150_000, 200_000, 300_000, 500_000,
    1_000_000, 2_000_000, 5_000_000, 10_000_000, 100_000_000, 1_000_000_000,
)  # fmt: skip
"""Upper bounds of the histogram's buckets in nanoseconds. The last bucket, of LATE_BUCKETS_MAX, has none."""
LATE_BUCKETS_MAX: Final = 16
"""Words of the histogram; each has the releases of its own bucket only, not those of the lower ones."""

# Words that a reading appends to an interface's slot.
OQDROPS: Final = SLOT_WORDS
"""Counted by the kernel, as the device's tx_dropped."""
READING_WORDS: Final = SLOT_WORDS + 1

# Words of a worker's slot.
HEARTBEAT_NS: Final = 0
CPU_NS: Final = 1
QUEUE_FRAMES: Final = 2
DRAIN_LIST: Final = 3
WORKER_OACTIVE: Final = 4

INTERFACE: Final = (
    Counter(
        "opackets", OPACKETS, "frames",
        "Frames that the interface's owner transmitted, a super-frame being one (BSD's if_opackets)",
        metric="epaird_interface_opackets", statistic=True,
    ),
    Counter(
        "obytes", OBYTES, "bytes", "Bytes that the interface's owner transmitted (BSD's if_obytes)",
        metric="epaird_interface_obytes", statistic=True,
    ),
    Counter(
        "omcasts", OMCASTS, "frames",
        "Multicast and broadcast frames that the interface's owner transmitted (BSD's if_omcasts)",
        metric="epaird_interface_omcasts", statistic=True,
    ),
    Counter(
        "oqdrops", OQDROPS, "frames",
        "Frames that the interface's owner transmitted and that its output queue had no room for "
        "(BSD's if_oqdrops)",
        metric="epaird_interface_oqdrops", statistic=True,
    ),
    Counter(
        "oerrors", OERRORS, "frames",
        "Frames that the interface's owner transmitted and that were lost, by reason (BSD's if_oerrors)",
        by_reason=True, metric="epaird_interface_oerrors", statistic=True,
    ),
    Counter(
        "ipackets", IPACKETS, "frames",
        "Frames delivered to the interface's owner, a super-frame being one (BSD's if_ipackets)",
        metric="epaird_interface_ipackets", statistic=True,
    ),
    Counter(
        "ibytes", IBYTES, "bytes", "Bytes delivered to the interface's owner (BSD's if_ibytes)",
        metric="epaird_interface_ibytes", statistic=True,
    ),
    Counter(
        "imcasts", IMCASTS, "frames",
        "Multicast and broadcast frames delivered to the interface's owner (BSD's if_imcasts)",
        metric="epaird_interface_imcasts", statistic=True,
    ),
    Counter(
        "ierrors", IERRORS, "frames",
        "Frames that were lost on their way to the interface's owner, by reason (BSD's if_ierrors)",
        by_reason=True, metric="epaird_interface_ierrors", statistic=True,
    ),
    Counter(
        "too_big", TOO_BIG, "messages",
        "ICMP messages delivered to the interface's owner about frames that were too long for the peer",
        metric="epaird_interface_too_big", statistic=True,
    ),
    Counter(
        "coalesced_datagrams", COALESCED_DATAGRAMS, "datagrams",
        "Datagrams delivered to the interface's owner as part of a super-frame that epaird made",
        metric="epaird_coalesced_datagrams", statistic=True,
    ),
    Counter(
        "coalesced_superframes", COALESCED_SUPERFRAMES, "super-frames",
        "Super-frames that epaird made of datagrams and delivered to the interface's owner",
        metric="epaird_coalesced_superframes", statistic=True,
    ),
    Counter(
        "added_segments", ADDED_SEGMENTS, "frames",
        "Frames by which epaird has increased their number, where it segmented super-frames for an owner "
        "without offloads: a super-frame of 45 segments adds 44",
        metric="epaird_added_segments", statistic=True,
    ),
    Counter(
        "held_bytes", HELD_BYTES, "bytes",
        "Memory of the frames that wait to be delivered to the interface's owner (NetBSD's mowner)",
        "gauge", metric="epaird_interface_held_bytes",
    ),
    Counter(
        "oactive", OACTIVE, "flag",
        "1 while the interface's output is blocked: its peer takes no frames, or impairment holds all that "
        "it may (BSD's IFF_OACTIVE)",
        "gauge", metric="epaird_interface_oactive",
    ),
    Counter(
        "in_flight", IN_FLIGHT, "frames",
        "Frames read from the peer and not yet delivered here: being written, or in the queue", "gauge",
    ),
    Counter("listed", LISTED, "flag", "1 while the interface is on its worker's drain list", "gauge"),
    Counter(
        "joining", JOINING, "state",
        "While a burst with super-frames of the worker's making is written: how many writes (bits 32 on) and "
        "frames (bits 16 to 31) were done before the current one, and how many frames are in it: 1 once it "
        "was refused. 0 otherwise",
        "gauge",
    ),
    Counter(
        "down", DOWN, "flag", "1 while the control plane knows the interface to be down", "gauge",
    ),
    Counter(
        "migrating", MIGRATING, "flag",
        "1 while the counters of this slot are still in a ledger of an older layout", "gauge",
    ),
)  # fmt: skip
"""The counters of every interface."""

WORKER: Final = (
    Counter(
        "heartbeat_ns", HEARTBEAT_NS, "nanoseconds",
        "CLOCK_MONOTONIC when the worker's loop last turned or forwarded something", "gauge",
    ),
    Counter(
        "cpu_ns", CPU_NS, "nanoseconds", "User and system time of every process that the worker has had",
    ),
    Counter(
        "queue_frames", QUEUE_FRAMES, "frames", "Frames that wait in the worker's queue", "gauge",
        metric="epaird_worker_queue_frames",
    ),
    Counter(
        "drain_list", DRAIN_LIST, "interfaces",
        "Interfaces whose output is blocked, or that are being restarted", "gauge",
        metric="epaird_worker_drain_list_interfaces",
    ),
    Counter(
        "oactive", WORKER_OACTIVE, "flag",
        "1 while the output of an interface of the worker is blocked (BSD's IFF_OACTIVE)", "gauge",
        metric="epaird_worker_oactive",
    ),
)  # fmt: skip
"""The counters of every worker."""

IMPAIRMENT: Final = (
    Counter(
        "impaired", IMPAIRED, "segments",
        "Segments that the impairment of what the interface's owner transmitted has dropped, by reason",
        by_reason=True, metric="epaird_impaired", statistic=True,
    ),
    Counter(
        "cut", CUT, "frames",
        "Frames by which impairment has increased their number, where it cut super-frames that the "
        "interface's owner transmitted: one that loses a segment in the middle adds 2, because it became two "
        "pieces and the lost segment",
        metric="epaird_cut", statistic=True,
    ),
    Counter(
        "duplicated", DUPLICATED, "segments",
        "Segments of what the interface's owner transmitted that were delivered twice",
        metric="epaird_duplicated", statistic=True,
    ),
    Counter(
        "corrupted", CORRUPTED, "segments",
        "Segments of what the interface's owner transmitted that were delivered with a flipped bit",
        metric="epaird_corrupted", statistic=True,
    ),
    Counter(
        "reordered", REORDERED, "segments",
        "Segments of what the interface's owner transmitted that overtook those that are delayed",
        metric="epaird_reordered", statistic=True,
    ),
    Counter(
        "marked", MARKED, "segments",
        "Segments of what the interface's owner transmitted that were marked with ECN instead of dropped",
        metric="epaird_marked", statistic=True,
    ),
    Counter(
        "osegments", OSEGMENTS, "segments",
        "Segments that the interface's owner transmitted while it was impaired",
        metric="epaird_impair_osegments", statistic=True,
    ),
    Counter(
        "isegments", ISEGMENTS, "segments",
        "Segments of what the interface's owner transmitted while it was impaired that were delivered, "
        "duplicates included",
        metric="epaird_impair_isegments", statistic=True,
    ),
    Counter(
        "esegments", ESEGMENTS, "segments",
        "Segments of what the interface's owner transmitted while it was impaired that the peer refused, or "
        "that were held when the cable was unplugged: `ierrors` of the peer, where a super-frame is one",
        metric="epaird_impair_esegments", statistic=True,
    ),
    Counter(
        "held_frames", HELD_FRAMES, "frames",
        "Frames that the interface's owner transmitted and that impairment holds until they are due",
        "gauge", metric="epaird_impair_held_frames", statistic=True,
    ),
    Counter("held_segments", HELD_SEGMENTS, "segments", "Segments of these frames", "gauge", statistic=True),
    Counter(
        "line_held_bytes", LINE_HELD_BYTES, "bytes", "Bytes of these frames",
        "gauge", metric="epaird_impair_held_bytes", statistic=True,
    ),
    Counter(
        "full", FULL, "flag",
        "1 while the interface's output is blocked because impairment holds all that it may (`buffer`), "
        "although the peer takes frames",
        "gauge", metric="epaird_impair_full",
    ),
    Counter(
        "late_sum_ns", LATE_SUM_NS, "nanoseconds",
        "Sum of the times between the moments when frames were due and when they were delivered",
        statistic=True,
    ),
    Counter(
        "target", TARGET, "state",
        "1 + the slot of the receiver whose frames the line's ring holds; 0 for none", "gauge",
    ),
    Counter(
        "late_buckets", LATE_BUCKETS, "frames",
        "Frames by the time between the moment when they were due and when they were delivered",
        histogram=True, statistic=True,
    ),
    Counter(
        "migrating", MIGRATING, "flag",
        "1 while the counters of this slot are still in a ledger of an older layout", "gauge",
    ),
)  # fmt: skip
"""The counters of every line: the impairment of one direction of a cable."""

LINE_STATISTICS: Final = tuple(each for each in IMPAIRMENT if each.statistic)
"""The counters that the API and ``epairctl`` show for a line, in this order."""

STATISTICS: Final = tuple(each for each in INTERFACE if each.statistic)
"""The counters that the API and ``epairctl`` show for an interface, in this order."""
