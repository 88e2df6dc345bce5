"""The encoding of messages: a JSON object whose ``type`` names the class.

Decoding is tolerant, because processes of different versions may meet. Unknown fields are ignored, missing
ones get their defaults, and a message of an unknown type is decoded as :class:`Unknown`. The cable of
protocol 1, which described two ends in three parallel lists, is read as a :class:`CableSpec`.

A packet may come from a process that an attacker has taken over. So every field is checked for its type,
every number for its range and every text for its length, and whatever a packet contains, :func:`decode`
returns a message or raises :class:`InvalidMessage`. Which messages a worker may send is decided by
:mod:`epaird.ipc.validation`.

This module is imported by worker processes: it uses the standard library only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from functools import cache
from typing import Any, Final, NoReturn, get_args

from epaird.ipc.impairment import LineParameters, LineSpec, LossChain, Phase
from epaird.ipc.messages import Attach, Attached, CableSpec, Message, PortSpec, Unknown
from epaird.ipc.settlement import Correction

_TYPES: Final[dict[str, Callable[..., Message]]] = {
    kind.__name__: kind for kind in get_args(Message) if kind is not Unknown
}


def encode(message: Message) -> bytes:
    """Return the packet of a message."""
    return json.dumps({"type": type(message).__name__, **asdict(message)}).encode()


class InvalidMessage(ValueError):
    """A packet, or what travels with it, is not what a process of epaird sends. ``str()`` is one line."""


TEXT_MAX: Final = 4096
"""Characters of the longest text in a message."""
INTEGERS: Final = range(-(1 << 63), 1 << 64)
"""The integers that a message may contain."""
ITEMS_MAX: Final = 1024
"""Items of the longest list in a message."""


def decode(packet: bytes) -> Message:
    """Return the message of a packet. Raises InvalidMessage, and nothing else."""
    try:
        document = _mapping(json.loads(packet))
        return _message(_text(document.get("type")), document)
    except InvalidMessage as error:
        raise InvalidMessage(f"not a message: {error}") from None
    except (ValueError, RecursionError):
        raise InvalidMessage("not a message: not a JSON document") from None


def _message(name: str, document: Mapping[str, Any]) -> Message:
    kind = _TYPES.get(name)
    if kind is None:
        number = document.get("id", 0)
        return Unknown(name, number if _is_integer(number) else 0)
    if kind in (Attach, Attached):
        document = {**document, "cable": _cable(document)}
    message: Message = _make(kind, document)
    return message


def _cable(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the cable of a document; that of protocol 1 in the present form."""
    cable = document.get("cable", {})
    if not isinstance(cable, str):
        return _mapping(cable)
    columns = [_list(document.get(key)) for key in ("names", "slots", "mtus")]
    if len({len(column) for column in columns}) != 1:
        _refuse("not a cable: its lists differ in length")
    ports = [dict(zip(("name", "slot", "mtu"), port, strict=True)) for port in zip(*columns, strict=True)]
    return {
        "name": cable,
        "ports": ports,
        "kind": document.get("kind"),
        "coalesce": document.get("coalesce"),
    }


def _make(kind: Callable[..., Any], document: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return an instance of a message's class, or of a class within one, from the fields that it has."""
    found = {}
    for name, check in _checks(kind).items():
        if name in document:
            try:
                found[name] = check(document[name])
            except InvalidMessage as error:
                raise InvalidMessage(f"{name}: {error}") from None
    return kind(**found)


def _refuse(problem: str) -> NoReturn:
    raise InvalidMessage(problem)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in INTEGERS


def _integer(value: object) -> int:
    if not isinstance(value, int) or not _is_integer(value):
        _refuse("not an integer of 64 bits")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse("not a number")
    if not (_is_integer(value) or (isinstance(value, float) and math.isfinite(value))):
        _refuse("not a finite number")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        _refuse("neither true nor false")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > TEXT_MAX:
        _refuse(f"not a text of up to {TEXT_MAX} characters")
    if any("\ud800" <= character <= "\udfff" for character in value):  # JSON can express half a character
        _refuse("not a text in UTF-8")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list) or len(value) > ITEMS_MAX:
        _refuse(f"not a list of up to {ITEMS_MAX} items")
    return value


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        _refuse("not an object")
    return value


def _one(kind: Callable[..., Any]) -> Callable[[Any], object]:
    return lambda value: _make(kind, _mapping(value))


def _several(kind: Callable[..., Any]) -> Callable[[Any], object]:
    return lambda value: tuple(_make(kind, _mapping(each)) for each in _list(value))


_CHECKS: Final[Mapping[str, Callable[[Any], object]]] = {
    "int": _integer,
    "float": _number,
    "bool": _flag,
    "str": _text,
    "tuple[str, ...]": lambda value: tuple(map(_text, _list(value))),
    "tuple[int, ...]": lambda value: tuple(map(_integer, _list(value))),
    **{kind.__name__: _one(kind) for kind in (CableSpec, LineParameters, LossChain)},
    **{f"tuple[{kind.__name__}, ...]": _several(kind) for kind in (PortSpec, Correction, LineSpec, Phase)},
}
"""The check of a field by its annotation."""


@cache
def _checks(kind: Any) -> Mapping[str, Callable[[Any], object]]:  # noqa: ANN401
    return {each.name: _CHECKS[str(each.type)] for each in fields(kind)}
