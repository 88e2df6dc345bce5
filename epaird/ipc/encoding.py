"""The encoding of messages: a JSON object whose ``type`` names the class.

Decoding is tolerant, because processes of different versions may meet. Unknown fields are ignored, missing
ones get their defaults, and a message of an unknown type is decoded as :class:`Unknown`. The cable of
protocol 1, which described two ends in three parallel lists, is read as a :class:`CableSpec`.

This module is imported by worker processes: it uses the standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from functools import cache
from typing import Any, Final, get_args

from epaird.ipc.messages import Amend, Attach, Attached, CableSpec, Message, PortSpec, Unknown
from epaird.ipc.settlement import Correction

_TYPES: Final[dict[str, Callable[..., Message]]] = {
    kind.__name__: kind for kind in get_args(Message) if kind is not Unknown
}


def encode(message: Message) -> bytes:
    """Return the packet of a message."""
    return json.dumps({"type": type(message).__name__, **asdict(message)}).encode()


def decode(packet: bytes) -> Message:
    """Return the message of a packet.

    Raises ValueError when the packet is no JSON object with a type, or has a cable of an unknown form."""
    try:
        document = json.loads(packet)
    except RecursionError:
        raise ValueError(f"nested too deep: {packet[:80]!r}") from None
    if not isinstance(document, dict) or not isinstance(document.get("type"), str):
        raise ValueError(f"not a message: {packet[:80]!r}")
    kind = _TYPES.get(document["type"])
    if kind is None:
        number = document.get("id", 0)
        return Unknown(document["type"], number if isinstance(number, int) else 0)
    if kind in (Attach, Attached):
        try:
            document = {**document, "cable": _cable(document)}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a cable: {packet[:80]!r}: {error}") from error
    if kind is Amend:
        each = [Correction(**_known(Correction, one)) for one in document.get("corrections", ())]
        document = {**document, "corrections": each}
    return kind(**_known(kind, document))


def _cable(document: Mapping[str, Any]) -> CableSpec:
    cable = document.get("cable", {})
    if isinstance(cable, str):
        return _cable_of_protocol_1(document)
    ports = tuple(PortSpec(**_known(PortSpec, port)) for port in cable.get("ports", ()))
    return CableSpec(**{**_known(CableSpec, cable), "ports": ports})


def _cable_of_protocol_1(document: Mapping[str, Any]) -> CableSpec:
    ports = zip(document["names"], document["slots"], document["mtus"], strict=True)
    return CableSpec(
        document["cable"],
        tuple(PortSpec(*port) for port in ports),
        document["kind"],
        document["coalesce"],
    )


def _known(kind: Callable[..., object], document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a document that a class has, lists as tuples."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in document.items()
        if name in _field_names(kind)
    }


@cache
def _field_names(kind: Any) -> frozenset[str]:  # noqa: ANN401
    return frozenset(each.name for each in fields(kind))
