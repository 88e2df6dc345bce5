from __future__ import annotations

import contextlib
import json
import typing
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.ipc.channel import MESSAGE_MAX
from epaird.ipc.encoding import InvalidMessage, decode, encode
from epaird.ipc.impairment import PHASES_MAX, LineParameters, LineSpec, LossChain, Phase
from epaird.ipc.messages import (
    Amend,
    Attach,
    Attached,
    CableSpec,
    Done,
    Impair,
    Message,
    PortSpec,
    Unknown,
)
from epaird.ipc.settlement import Correction

KINDS: tuple[Any, ...] = tuple(kind for kind in typing.get_args(Message) if kind is not Unknown)

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
RATIO = st.floats(0, 1)
PARAMETERS = st.builds(
    LineParameters,
    delay_ns=st.integers(0, 2**62),
    jitter_correlation=RATIO,
    distribution=st.sampled_from(["uniform", "pareto"]),
    loss=st.builds(LossChain, RATIO, RATIO, RATIO, RATIO),
    rate=st.integers(0, 2**50),
    codel=st.booleans(),
)
LINES = st.lists(
    st.builds(
        LineSpec,
        slot=st.integers(0, 2**16),
        seed=st.integers(0, 2**64 - 1),
        parameters=PARAMETERS,
        phases=st.lists(st.builds(Phase, st.integers(0, 2**62), parameters=PARAMETERS), max_size=2).map(
            tuple
        ),
        trace=st.booleans(),
        replay=st.booleans(),
    ),
    max_size=1,
).map(tuple)
VALUES: dict[object, st.SearchStrategy[Any]] = {
    int: st.integers(0, 2**63),
    float: st.floats(0, 1e9),
    bool: st.booleans(),
    str: TEXT,
    tuple[str, ...]: st.lists(TEXT, max_size=3).map(tuple),
    tuple[int, ...]: st.lists(st.integers(0, 65535), max_size=3).map(tuple),
    tuple[Correction, ...]: st.lists(st.builds(Correction, *[st.integers(0, 2**63)] * 6), max_size=2).map(
        tuple
    ),
    tuple[LineSpec, ...]: LINES,
    CableSpec: st.builds(
        CableSpec,
        TEXT,
        st.lists(
            st.builds(PortSpec, TEXT, st.integers(0, 2**16), st.integers(68, 65535), line=LINES), max_size=3
        ).map(tuple),
        TEXT,
        st.booleans(),
    ),
}


def messages_of(kind: Any) -> st.SearchStrategy[Message]:  # noqa: ANN401
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{each.name: VALUES[hints[each.name]] for each in fields(kind)})


@given(st.one_of(*map(messages_of, KINDS)))
def test_an_encoded_message_is_decoded(message: Message) -> None:
    packet = encode(message)
    assert decode(packet) == message
    assert type(decode(packet)) is type(message)


def test_the_longest_message_fits_a_packet() -> None:
    names = ("epair4294967295a", "epair4294967295b")
    ports = tuple(PortSpec(name, 65535, 65521) for name in names)
    worst = Attach(2**63, CableSpec("epair4294967295.255", ports, coalesce=True))
    assert len(encode(worst)) < 1024
    digits = 0.12345678901234567e-100
    full = LineParameters(
        2**62, 2**62, digits, "paretonormal", LossChain(digits, digits, digits, digits),
        digits, digits, digits, digits, 2**50, 2**62, 2**62,
    )  # fmt: skip
    phases = (Phase(2**62, 2**62, 2**62, full),) * PHASES_MAX
    line = (LineSpec(65535, 2**64 - 1, 2**62, 2**40, full, phases),)
    spec = CableSpec("epair4294967295.255", tuple(replace(port, line=line) for port in ports))
    assert len(encode(Attach(2**63, spec))) < MESSAGE_MAX


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"type": 7}',
        b'{"type": ["Done"]}',
        b"\xff",
        b"[" * 60_000,
        b'{"type": "Done", "id": ' + b"9" * 5000 + b"}",
        b'{"type": "Done", "id": 1e999}',
        b'{"type": "Done", "id": 18446744073709551616}',
        b'{"type": "Done", "id": true}',
        b'{"type": "Done", "id": 1.5}',
        b'{"type": "Done", "error": 7}',
        b'{"type": "Done", "error": "\\ud800"}',
        b'{"type": "Overflow", "full": 1}',
        b'{"type": "Detach", "patience": NaN}',
        b'{"type": "Resize", "mtus": ["1500"]}',
        b'{"type": "Resize", "mtus": [' + b"1," * 2000 + b"1]}",
        b'{"type": "Amend", "corrections": [3]}',
        b'{"type": "Attached", "cable": null}',
        b'{"type": "Attached", "cable": ["epair0"]}',
        b'{"type": "Attached", "cable": {"ports": 2}}',
        b'{"type": "Attached", "cable": {"ports": ["epair0a"]}}',
        b'{"type": "Attached", "cable": "epair0"}',
        b'{"type": "Attach", "cable": "epair0", "names": ["a", "b"], "slots": [1], "mtus": [1500], '
        b'"kind": "cable", "coalesce": false}',
    ],
)
def test_anything_else_is_refused(packet: bytes) -> None:
    with pytest.raises(InvalidMessage, match=r"^not a message: "):
        decode(packet)


@pytest.mark.parametrize(
    ("kind", "field", "allowed", "refused", "problem"),
    [
        ("Done", "id", -(2**63), -(2**63) - 1, "not an integer of 64 bits"),
        ("Done", "id", 2**64 - 1, 2**64, "not an integer of 64 bits"),
        ("Done", "id", 1, True, "not an integer of 64 bits"),
        ("Done", "id", 0, "0", "not an integer of 64 bits"),
        ("Done", "error", "x" * 4096, "x" * 4097, "not a text of up to 4096 characters"),
        ("Done", "error", "", None, "not a text of up to 4096 characters"),
        ("Done", "error", "\ud7ff", "\ud800", "not a text in UTF-8"),
        ("Done", "error", "\ue000", "a\udfffb", "not a text in UTF-8"),
        ("Overflow", "full", False, 0, "neither true nor false"),
        ("Detach", "patience", 1.5, float("inf"), "not a finite number"),
        ("Detach", "patience", -1.5, float("nan"), "not a finite number"),
        ("Detach", "patience", 2**64 - 1, 2**64, "not a finite number"),
        ("Detach", "patience", 1, True, "not a number"),
        ("Detach", "patience", 0, "0", "not a number"),
        ("Resize", "mtus", [1] * 1024, [1] * 1025, "not a list of up to 1024 items"),
        ("Resize", "mtus", [], {}, "not a list of up to 1024 items"),
        ("Amend", "corrections", [{}], [[]], "not an object"),
        ("Impair", "line", [{"parameters": {"loss": {"p": 1}}}], [{"parameters": {"loss": 1}}],
         "parameters: loss: not an object"),
        ("Impair", "line", [{"phases": [{"at_ns": 7}]}], [{"phases": [{"at_ns": 0.5}]}],
         "phases: at_ns: not an integer of 64 bits"),
        ("Impair", "line", [{"parameters": {"ber": 1e-9}}], [{"parameters": {"ber": float("nan")}}],
         "parameters: ber: not a finite number"),
        ("Attached", "cable", {"ports": [{"mtu": 68}]}, {"ports": [{"mtu": ""}]},
         "ports: mtu: not an integer of 64 bits"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_field_and_what_is_allowed(
    kind: str, field: str, allowed: object, refused: object, problem: str
) -> None:
    decode(json.dumps({"type": kind, field: allowed}).encode())
    with pytest.raises(InvalidMessage) as refusal:
        decode(json.dumps({"type": kind, field: refused}).encode())
    assert str(refusal.value) == f"not a message: {field}: {problem}"


def test_a_packet_without_a_message_is_refused_with_the_reason() -> None:
    for packet, problem in (
        (b"{", "not a JSON document"),
        (b"[" * 60_000, "not a JSON document"),
        (b"[]", "not an object"),
        (b"{}", "not a text of up to 4096 characters"),
        (b'{"type": "Attach", "cable": "c", "names": ["a"], "slots": [1], "mtus": []}',
         "not a cable: its lists differ in length"),
    ):  # fmt: skip
        with pytest.raises(InvalidMessage) as refusal:
            decode(packet)
        assert str(refusal.value) == f"not a message: {problem}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=9,
)
FIELDS = sorted({each.name for kind in (*KINDS, PortSpec, CableSpec, LineSpec) for each in fields(kind)})
DOCUMENTS = st.fixed_dictionaries(
    {"type": st.sampled_from([kind.__name__ for kind in KINDS])},
    optional=dict.fromkeys(FIELDS, JSON),
)


@given(DOCUMENTS)
def test_whatever_the_fields_are_the_message_has_the_types_of_its_class(document: dict[str, object]) -> None:
    with contextlib.suppress(InvalidMessage):
        message = decode(json.dumps(document).encode())
        assert decode(encode(message)) == message


@given(st.binary(max_size=200))
def test_no_bytes_cause_another_error(packet: bytes) -> None:
    with contextlib.suppress(InvalidMessage):
        decode(packet)


def test_unknown_fields_are_ignored_and_missing_ones_defaulted() -> None:
    assert decode(b'{"type": "Done", "id": 1, "more": {"of": "them"}}') == Done(1)
    assert decode(b'{"type": "Done"}') == Done(0, "")
    assert decode(b'{"type": "Attach", "id": 2, "later": 1}') == Attach(2, CableSpec())
    packet = (
        b'{"type": "Attach", "id": 3, "cable": {"name": "c", "speed": 9, "ports": [{"slot": 4, "q": 1}]}}'
    )
    assert decode(packet) == Attach(3, CableSpec("c", (PortSpec(slot=4),)))


def test_a_process_of_0_4_0_and_one_of_this_version_understand_each_other() -> None:
    """It sends no lines, and does not know the messages about them."""
    packet = b'{"type": "Attached", "cable": {"name": "epair0", "ports": [{"name": "epair0a", "slot": 4}]}}'
    assert decode(packet) == Attached(CableSpec("epair0", (PortSpec("epair0a", 4),)))
    assert decode(encode(Impair(7, "epair0", 1))) == Impair(7, "epair0", 1, ())
    assert json.loads(encode(Impair(7)))["id"] == 7


def test_corrections_of_another_version_are_read() -> None:
    packet = b'{"type": "Amend", "id": 5, "corrections": [{"sent": 3, "held": 9}, {}]}'
    assert decode(packet) == Amend(5, corrections=(Correction(sent=3), Correction()))
    assert decode(encode(decode(packet))) == decode(packet)
    assert decode(b'{"type": "Amend", "id": 5}') == Amend(5)


def test_a_message_of_an_unknown_type_is_named_and_keeps_its_id() -> None:
    assert decode(b'{"type": "Teleport", "id": 7, "to": "Mars"}') == Unknown("Teleport", 7)
    assert decode(b'{"type": "Teleport", "id": "seven"}') == Unknown("Teleport", 0)
    assert decode(b'{"type": "Teleport"}') == Unknown("Teleport", 0)
    assert decode(b'{"type": "Teleport", "id": 36893488147419103232}') == Unknown("Teleport", 0)


def test_a_cable_of_protocol_1_is_read() -> None:
    document = {
        "type": "Attached", "cable": "epair0", "names": ["epair0a", "epair0b"], "slots": [2, 3],
        "mtus": [1500, 9000], "coalesce": True, "kind": "cable",
    }  # fmt: skip
    ports = (PortSpec("epair0a", 2, 1500), PortSpec("epair0b", 3, 9000))
    assert decode(json.dumps(document).encode()) == Attached(CableSpec("epair0", ports, coalesce=True))
