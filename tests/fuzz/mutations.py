"""Mutations of bytes and of documents, for inputs that are nearly valid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st


@st.composite
def mutated(draw: st.DrawFn, data: bytes, tokens: Sequence[bytes], most: int = 4) -> bytes:
    """Return bytes with up to ``most`` places replaced, removed, repeated or moved.

    ``tokens`` are what a grammar knows; bytes at random replace a place as well."""
    for _ in range(draw(st.integers(0, most))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 8)))
        match draw(st.sampled_from(("token", "bytes", "bit", "remove", "repeat", "end"))):
            case "token":
                data = data[:start] + draw(st.sampled_from(tokens)) + data[end:]
            case "bytes":
                data = data[:start] + draw(st.binary(max_size=6)) + data[end:]
            case "bit" if end > start:
                changed = data[start] ^ 1 << draw(st.integers(0, 7))
                data = data[:start] + bytes((changed,)) + data[start + 1 :]
            case "repeat":
                data = data[:end] + data[start:end] * draw(st.integers(1, 40)) + data[end:]
            case "end":
                data = data[:start]
            case _:
                data = data[:start] + data[end:]
    return data


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from((0, 1, -1, 2**31, 2**32, 2**63, 2**64, 10**40, 1e308, "", "\0", "\ud800", "\x1b[31m"))
    | st.floats()
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
"""Any value that JSON can write, lone surrogates, and NaN and infinity as Python writes them."""


@st.composite
def document_mutated(draw: st.DrawFn, document: Any, most: int = 3) -> Any:  # noqa: ANN401
    """Return a JSON document with up to ``most`` of its values replaced, removed, repeated or exchanged."""
    for _ in range(draw(st.integers(0, most))):
        places = list(_places(document, ()))
        if not places:
            break
        place = draw(st.sampled_from(places))
        value = draw(JSON) if draw(st.booleans()) else _at(document, draw(st.sampled_from(places)))
        if isinstance(value, int) and draw(st.booleans()):
            value += draw(st.integers(-2, 2))
        document = _replaced(document, place, value, remove=draw(st.integers(0, 4)) == 0)
    return document


def _places(value: Any, at: tuple[Any, ...]) -> Any:  # noqa: ANN401
    if at:
        yield at
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _places(each, (*at, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _places(each, (*at, index))


def _at(document: Any, place: Sequence[Any]) -> Any:  # noqa: ANN401
    for part in place:
        document = document[part]
    return document


def _replaced(document: Any, place: Sequence[Any], value: Any, *, remove: bool) -> Any:  # noqa: ANN401
    """Return a copy of a document with another value at a place, or without it."""
    first, *rest = place
    copy = dict(document) if isinstance(document, dict) else list(document)
    if rest:
        copy[first] = _replaced(copy[first], rest, value, remove=remove)
    elif remove:
        del copy[first]
    else:
        copy[first] = value
    return copy
