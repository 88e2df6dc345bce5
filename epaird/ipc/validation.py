"""What a worker may send to the control plane.

A worker handles frames of strangers, so the control plane does not trust it: an attacker who has taken a
worker over can write any bytes to its socket, pass any descriptors, and claim anything. Every message of a
worker goes through one function:

1. :func:`epaird.ipc.encoding.decode` checks its form: the type, and the type and size of each field.
2. :func:`validate` checks that it is one that a worker sends, that the numbers in it are in their range, that
   the names in it have the form of names, and that the number of its descriptors is right.

:func:`worker_message` does both. What depends on more than the message is checked by its receiver: that a
worker reports only what it was given (:mod:`epaird.control.workers.claims`), and what a descriptor refers to
(:mod:`epaird.control.handover.asking`). A process whose message is refused is killed and replaced.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from epaird.ipc.encoding import InvalidMessage, decode
from epaird.ipc.messages import (
    Adopted,
    Attached,
    CableKind,
    CableSpec,
    Description,
    Done,
    Drained,
    Gone,
    Message,
    Overflow,
    PortSpec,
    Ready,
    Unknown,
    UnknownFamily,
)

MTUS: Final = range(68, 65536)
"""MTUs of TAP and TUN devices in bytes."""
_DEVICE: Final = r"[a-z]{1,9}[0-9]{1,10}[a-z]?"
_NAME: Final = re.compile(rf"{_DEVICE}(-{_DEVICE})?(\.[0-9]{{1,5}})?")
"""The name of an interface or a cable: ``lo1``, ``epair0a``, ``epair0``, ``epair0a-epair1b.1``."""
_NUMBERS: Final = range(1 << 16)
"""Numbers of workers."""
_ERRNOS: Final = range(4096)
_LANDLOCK: Final = range(1 << 10)
_TEXTS_MAX: Final = 32
"""Parts of a description."""
TEXT_MAX: Final = 200
"""Characters of a part of a description, and of a worker's text in the log."""
_SHOWN: Final = 40
"""Characters of a text that is refused, in the refusal."""
PORTS_MAX: Final = 64
"""Ports of the largest cable that a worker of a later version may report."""
_PORTS: Final = {
    CableKind.CABLE: (2,),
    CableKind.UNPLUGGED: (1,),
    CableKind.REFLECT: (1,),
    CableKind.VERBATIM: (1,),
}
"""How many ports a cable of each kind has. One of a kind that is not known here is handed over, not read."""


def worker_message(packet: bytes, descriptors: int, slots: int) -> Message:
    """Return the message of a packet that a worker has sent together with some descriptors.

    ``slots`` is the size of the ledger. Raises InvalidMessage, and nothing else."""
    message = decode(packet)
    validate(message, descriptors, slots)
    return message


def validate(message: Message, descriptors: int, slots: int) -> None:
    """Check a message that a worker has sent together with some descriptors.

    ``slots`` is the size of the ledger. Raises InvalidMessage."""
    expected = 0
    match message:
        case Adopted():
            expected = 1
            _in(message.worker, _NUMBERS, "worker number")
            _in(message.slot, range(slots), "slot")
        case Attached():
            expected = message.cable.descriptors
            _validate_cable(message.cable, slots)
        case Done():
            _in(message.errno, _ERRNOS, "error number")
        case Description():
            _validate_description(message)
        case Gone() | Drained() | Overflow() | UnknownFamily():
            _validate_report(message)
        case Ready() | Unknown():
            pass
        case _:
            raise InvalidMessage(f"a worker does not send {type(message).__name__}")
    if descriptors != expected:
        kind = type(message).__name__
        raise InvalidMessage(f"{kind} has {descriptors} descriptors and should have {expected}")


def _validate_report(message: Gone | Drained | Overflow | UnknownFamily) -> None:
    match message:
        case Gone():
            _validate_name(message.cable)
            _validate_name(message.name)
        case Drained():
            _validate_name(message.cable)
            _in(message.port, range(PORTS_MAX), "port")
        case Overflow():
            if message.full or message.name:  # 0.2.0 reports no name when it is over
                _validate_name(message.name)
        case UnknownFamily():
            _validate_name(message.name)
            _in(message.version, range(16), "version")


def _validate_cable(cable: CableSpec, slots: int) -> None:
    _validate_name(cable.name)
    if len(cable.ports) not in _PORTS.get(cable.kind, range(1, PORTS_MAX + 1)):
        raise InvalidMessage(f"{cable.name} is a cable with {len(cable.ports)} ports")
    for port in cable.ports:
        _validate_name(port.name)
        _in(port.slot, range(slots), "slot")
        _in(port.mtu, MTUS, "MTU")
        _validate_lines(port, slots)
    taken = [*cable.slots, *cable.line_slots]
    if len(set(taken)) < len(taken):
        raise InvalidMessage(f"{cable.name} has one slot twice")


def _validate_lines(port: PortSpec, slots: int) -> None:
    if len(port.line) > 1:
        raise InvalidMessage(f"{port.name} has {len(port.line)} lines")
    for line in port.line:
        _in(line.slot, range(slots), "slot")
        _in(line.receiver, range(-1, slots), "slot")
        for fault in line.faults():
            raise InvalidMessage(f"{port.name}: {fault}")


def _validate_description(message: Description) -> None:
    _in(message.landlock, _LANDLOCK, "version of Landlock's ABI")
    if len(message.namespaces) + len(message.missing) > _TEXTS_MAX:
        raise InvalidMessage("Description has too many parts")
    for text in (message.version, *message.namespaces, *message.missing):
        _validate_text(text)


def _validate_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidMessage(f"{repr(name)[:_SHOWN]} is not the name of an interface or a cable")


def _validate_text(text: str) -> None:
    if len(text) > TEXT_MAX or not text.isprintable():
        raise InvalidMessage(f"{repr(text)[:_SHOWN]} is no text for one line")


def _in(value: int, allowed: Collection[int], subject: str) -> None:
    if value not in allowed:
        raise InvalidMessage(f"{subject} {value} is out of range")
