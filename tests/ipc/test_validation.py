"""Messages that a worker may send, and those that are refused."""

from __future__ import annotations

import contextlib
import json
import typing
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.ipc.encoding import InvalidMessage, encode
from epaird.ipc.impairment import PHASES_MAX, LineParameters, LineSpec, LossChain, Phase
from epaird.ipc.messages import (
    Adopted,
    Attach,
    Attached,
    CableKind,
    CableSpec,
    Continue,
    Description,
    Done,
    Drained,
    End,
    Gone,
    Message,
    More,
    Overflow,
    PortSpec,
    Ready,
    Unknown,
    UnknownFamily,
)
from epaird.ipc.validation import worker_message

SLOTS = 65536
PORTS = (PortSpec("epair0a", 1, 1500), PortSpec("epair0b", 2, 9000))


def impaired(*line: LineSpec) -> Attached:
    return Attached(CableSpec("epair0", PORTS).impaired(1, line))


def line_with(parameters: LineParameters) -> Attached:
    return impaired(LineSpec(7, parameters=parameters))


KINDS: tuple[Any, ...] = typing.get_args(Message)


@pytest.mark.parametrize(
    ("message", "descriptors"),
    [
        (Ready(7), 0),
        (Done(3, "epair0 is not attached"), 0),
        (Gone("epair0", "epair0a"), 0),
        (Gone("epair0a-epair1b.3", "epair1b"), 0),
        (Drained("epair0a-epair1b.3", 1), 0),
        (Overflow(True, "epair0a"), 0),
        (Overflow(False, ""), 0),
        (UnknownFamily("lo1", 15), 0),
        (Adopted(7, 1, 65535, 4096, 0, 2), 1),
        (Attached(CableSpec("epair0", PORTS, coalesce=True)), 2),
        (Attached(CableSpec("epair0.255", PORTS, CableKind.KEPT)), 2),
        (Attached(CableSpec("lo1", PORTS[:1], CableKind.VERBATIM)), 1),
        (Attached(CableSpec("epair0", PORTS).impaired(1, (LineSpec(7),))), 3),
        (Attached(CableSpec("bridge0", PORTS, "bridge")), 2),
    ],
    ids=repr,
)
def test_what_a_worker_sends_is_accepted(message: Message, descriptors: int) -> None:
    assert worker_message(encode(message), descriptors, SLOTS) == message
    for other in {0, 1, 2, 3} - {descriptors}:
        with pytest.raises(InvalidMessage, match=f" has {other} descriptors and should have {descriptors}$"):
            worker_message(encode(message), other, SLOTS)


@pytest.mark.parametrize(
    ("message", "descriptors", "problem"),
    [
        (Attach(1, CableSpec("epair0", PORTS)), 2, "a worker does not send Attach"),
        (End(), 0, "a worker does not send End"),
        (More(), 200, "a worker does not send More"),
        (Continue(), 0, "a worker does not send Continue"),
        (Adopted(slot=SLOTS), 1, "slot 65536 is out of range"),
        (Adopted(slot=-1), 1, "slot -1 is out of range"),
        (Adopted(worker=1 << 40), 1, "worker number 1099511627776 is out of range"),
        (Attached(CableSpec("epair0", (PORTS[0], PortSpec("epair0b", SLOTS, 1500)))), 2, "slot 65536 is out"),
        (Attached(CableSpec("epair0", (PORTS[0], PortSpec("epair0b", 2, 0)))), 2, "MTU 0 is out of range"),
        (Attached(CableSpec("epair0", (PORTS[0], PORTS[0]))), 2, "epair0 has one slot twice"),
        (Attached(CableSpec("epair0", PORTS[:1])), 1, "epair0 is a cable with 1 ports"),
        (Attached(CableSpec("epair0", (), "bridge")), 0, "epair0 is a cable with 0 ports"),
        (Attached(CableSpec("../epair0", PORTS)), 2, "'../epair0' is not the name"),
        (Gone("epair0", "eth0 \x1b[2J"), 0, r"'eth0 \\x1b[2J' is not the name"),
        (Attached(CableSpec("epair0", (PORTS[0], PortSpec("b/d", 2, 1500)))), 2, "'b/d' is not the name"),
        (Drained("epair0", 64), 0, "port 64 is out of range"),
        (Drained("epair 0", 0), 0, "'epair 0' is not the name"),
        (impaired(LineSpec(7), LineSpec(8)), 4, "epair0b has 2 lines"),
        (impaired(LineSpec(1)), 3, "epair0 has one slot twice"),
        (impaired(LineSpec(SLOTS)), 3, f"slot {SLOTS} is out of range"),
        (Gone("", "epair0a"), 0, "'' is not the name"),
        (Overflow(False, "x" * 4000), 0, "is not the name"),
        (UnknownFamily("lo0", 16), 0, "version 16 is out of range"),
        (UnknownFamily("lo0\n", 4), 0, "is not the name"),
    ],
    ids=repr,
)  # fmt: skip
def test_anything_else_is_refused_with_the_reason(message: Message, descriptors: int, problem: str) -> None:
    with pytest.raises(InvalidMessage) as refusal:
        worker_message(encode(message), descriptors, SLOTS)
    assert problem in str(refusal.value) or problem.encode().decode("unicode_escape") in str(refusal.value)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 200


def lone(kind: str, count: int) -> Attached:
    return Attached(CableSpec("x0", tuple(PortSpec(f"x{slot}", slot, 1500) for slot in range(count)), kind))


@pytest.mark.parametrize(
    ("allowed", "refused", "problem"),
    [
        (Done(1, errno=4095), Done(1, errno=4096), "error number 4096 is out of range"),
        (Done(1, errno=0), Done(1, errno=-1), "error number -1 is out of range"),
        (Adopted(worker=65535), Adopted(worker=65536), "worker number 65536 is out of range"),
        (Adopted(worker=0), Adopted(worker=-1), "worker number -1 is out of range"),
        (Adopted(slot=7), Adopted(slot=8), "slot 8 is out of range"),
        (UnknownFamily("lo1", 0), UnknownFamily("lo1", -1), "version -1 is out of range"),
        (UnknownFamily("lo1", 15), UnknownFamily("lo1", 16), "version 16 is out of range"),
        (Overflow(False, ""), Overflow(True, ""), "'' is not the name of an interface or a cable"),
        (Gone("epair0", "lo1"), Gone("epair0", "y" * 99),
         f"'{'y' * 39} is not the name of an interface or a cable"),
        (lone(CableKind.CABLE, 2), lone(CableKind.CABLE, 3), "x0 is a cable with 3 ports"),
        (lone(CableKind.UNPLUGGED, 1), lone(CableKind.UNPLUGGED, 2), "x0 is a cable with 2 ports"),
        (lone(CableKind.REFLECT, 1), lone(CableKind.REFLECT, 0), "x0 is a cable with 0 ports"),
        (lone(CableKind.REFLECT, 1), lone(CableKind.REFLECT, 2), "x0 is a cable with 2 ports"),
        (lone(CableKind.VERBATIM, 1), lone(CableKind.VERBATIM, 2), "x0 is a cable with 2 ports"),
        (lone("later", 8), lone("later", 9), "slot 8 is out of range"),
        (lone("later", 1), lone("later", 65), "x0 is a cable with 65 ports"),
        (Attached(CableSpec("c0", (PortSpec("c0", 0, 68),), "later")),
         Attached(CableSpec("c0", (PortSpec("c0", 0, 67),), "later")), "MTU 67 is out of range"),
        (Attached(CableSpec("c0", (PortSpec("c0", 0, 65535),), "later")),
         Attached(CableSpec("c0", (PortSpec("c0", 0, 65536),), "later")), "MTU 65536 is out of range"),
        (Drained("x0", 63), Drained("x0", 64), "port 64 is out of range"),
        (impaired(LineSpec(7, seed=2**64 - 1)), impaired(LineSpec(7, seed=-1)),
         "epair0b: seed -1 of a line is out of range"),
        (impaired(LineSpec(7, buffer=1)), impaired(LineSpec(7, buffer=0)),
         "epair0b: buffer 0 of a line is out of range"),
        (impaired(LineSpec(7, phases=(Phase(),) * PHASES_MAX)),
         impaired(LineSpec(7, phases=(Phase(),) * (PHASES_MAX + 1))),
         "epair0b: number of phases 33 of a line is out of range"),
        (impaired(LineSpec(7, queues=256)), impaired(LineSpec(7, queues=257)),
         "epair0b: number of queues 257 of a line is out of range"),
        (line_with(LineParameters(loss=LossChain(p=1))), line_with(LineParameters(loss=LossChain(p=1.5))),
         "epair0b: probability 1.5 of a line is out of range"),
        (line_with(LineParameters(delay_ns=1 << 62)), line_with(LineParameters(delay_ns=1 + (1 << 62))),
         "epair0b: a time of a line is out of range"),
        (line_with(LineParameters(rate=1 << 50)), line_with(LineParameters(rate=-1)),
         "epair0b: rate -1 of a line is out of range"),
        (line_with(LineParameters(limit_bytes=1)), line_with(LineParameters(limit_segments=-1)),
         "epair0b: limit -1 of a line is out of range"),
        (line_with(LineParameters(distribution="pareto")), line_with(LineParameters(distribution="\x1b")),
         "epair0b: distribution of a line is not known"),
        (Description("0.4.0", 1023), Description("0.4.0", 1024),
         "version of Landlock's ABI 1024 is out of range"),
        (Description("v" * 200), Description("v" * 201), f"'{'v' * 39} is no text for one line"),
        (Description(namespaces=("n",) * 16, missing=("m",) * 16),
         Description(namespaces=("n",) * 16, missing=("m",) * 17), "Description has too many parts"),
    ],
)  # fmt: skip
def test_each_limit_is_where_it_is_promised(allowed: Message, refused: Message, problem: str) -> None:
    worker_message(encode(allowed), descriptors_of(allowed), 8)
    with pytest.raises(InvalidMessage) as refusal:
        worker_message(encode(refused), descriptors_of(refused), 8)
    assert str(refusal.value) == problem


def descriptors_of(message: Message) -> int:
    return message.cable.descriptors if isinstance(message, Attached) else isinstance(message, Adopted)


def test_a_cable_of_a_later_kind_has_up_to_64_ports() -> None:
    worker_message(encode(lone("later", 64)), 64, SLOTS)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 1 << 70),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["epair0", "epair0a", "cable", "kept", "reflect"]),
)
ITEMS = st.recursive(
    VALUES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.fixed_dictionaries({}, optional=dict.fromkeys(("name", "slot", "mtu", "ports", "kind"), inner))
    ),
    max_leaves=8,
)
PACKETS = st.fixed_dictionaries(
    {"type": st.sampled_from([kind.__name__ for kind in KINDS])},
    optional={each.name: ITEMS for kind in KINDS for each in fields(kind)},
).map(lambda document: json.dumps(document).encode())


@given(PACKETS | st.binary(max_size=99), st.integers(0, 4), st.sampled_from([8, SLOTS]))
def test_whatever_arrives_is_a_message_in_range_or_refused(
    packet: bytes, descriptors: int, slots: int
) -> None:
    with contextlib.suppress(InvalidMessage):
        message = worker_message(packet, descriptors, slots)
        match message:
            case Adopted():
                assert 0 <= message.slot < slots
            case Attached():
                assert all(0 <= slot < slots for slot in message.cable.slots)
                assert message.cable.descriptors == descriptors
            case _:
                assert descriptors == 0
                reports = Description | Ready | Done | Gone | Drained | Overflow | UnknownFamily | Unknown
                assert isinstance(message, reports)


def test_a_description_is_a_few_lines_of_text() -> None:
    def refused(description: Description) -> bool:
        try:
            worker_message(encode(description), 0, 8)
        except InvalidMessage:
            return True
        return False

    assert not refused(Description("0.4.0", 6, ("net", "mnt"), ("uts: not permitted",)))
    assert refused(Description("0.4.0\x1b[2J"))
    assert refused(Description("0" * 201))
    assert refused(Description("0.4.0", -1))
    assert refused(Description("0.4.0", 1 << 10))
    assert refused(Description("0.4.0", missing=("no",) * 33))
    assert refused(Description("0.4.0", namespaces=("net\n",)))
