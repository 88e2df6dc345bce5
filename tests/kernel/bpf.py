"""The kernel's part in a filter of system calls: it runs classic BPF programs."""

from __future__ import annotations

import struct
from collections.abc import Sequence


def run(program: bytes, machine: int, number: int, arguments: Sequence[int] = ()) -> int:
    """Return what a program returns for a system call."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number, machine, 0, *padded)
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator, at = 0, 0
    while True:
        instruction, when_true, when_false, operand = code[at]
        at += 1
        match instruction:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, operand)
            case 0x15:
                at += when_true if accumulator == operand else when_false
            case 0x45:
                at += when_true if accumulator & operand else when_false
            case 0x06:
                return int(operand)
            case _:
                raise AssertionError(
                    f"an instruction that the kernel's cache does not understand: {instruction}"
                )


def is_constant(program: bytes, machine: int, number: int) -> bool:
    """Return whether the program allows a call without a look at its arguments: the kernel caches that
    then."""
    seen: list[int] = []
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator, at = 0, 0
    while True:
        instruction, when_true, when_false, operand = code[at]
        at += 1
        if instruction == 0x20:
            if operand not in (0, 4):
                return False
            accumulator = number if operand == 0 else machine
            seen.append(operand)
        elif instruction == 0x15:
            at += when_true if accumulator == operand else when_false
        elif instruction == 0x06:
            return bool(operand == 0x7FFF0000)
        else:
            return False
