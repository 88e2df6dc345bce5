from __future__ import annotations

import typing
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.ipc import messages
from epaird.ipc.messages import Done, Message, decode, encode

KINDS: tuple[Any, ...] = typing.get_args(Message)

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
VALUES: dict[object, st.SearchStrategy[Any]] = {
    int: st.integers(0, 2**63),
    float: st.floats(0, 1e9),
    bool: st.booleans(),
    str: TEXT,
    tuple[int, ...]: st.lists(st.integers(0, 65535), max_size=3).map(tuple),
    tuple[str, ...]: st.lists(TEXT, max_size=3).map(tuple),
}


def messages_of(kind: Any) -> st.SearchStrategy[Message]:  # noqa: ANN401
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{each.name: VALUES[hints[each.name]] for each in fields(kind)})


@given(st.one_of(*map(messages_of, KINDS)))
def test_what_is_encoded_is_decoded(message: Message) -> None:
    packet = encode(message)
    assert decode(packet) == message
    assert type(decode(packet)) is type(message)


def test_every_kind_of_message_has_its_own_name() -> None:
    assert len({kind.__name__ for kind in KINDS}) == len(KINDS) == len(messages._TYPES)


def test_the_longest_message_fits_a_packet() -> None:
    names = ("epair4294967295a", "epair4294967295b")
    worst = messages.Attach(2**63, "epair4294967295.255", names, (65535, 65535), (65521, 65521), True)
    assert len(encode(worst)) < 1024


@pytest.mark.parametrize(
    "packet",
    [b"", b"{", b"[]", b'{"type": "Nothing"}', b'{"type": "Done"}', b'{"type": "Done", "id": 1, "more": 2}'],
)
def test_anything_else_is_refused(packet: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        decode(packet)


def test_an_answer_is_good_unless_it_says_otherwise() -> None:
    assert decode(b'{"type": "Done", "id": 7}') == Done(7, "")
