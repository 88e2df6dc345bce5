"""A filter of system calls for this process: those that are not listed fail with EPERM.

Theory:

1. The filter is a classic BPF program, which the kernel runs at each system call. It sees the machine, the
   number of the call and its arguments, but not what these point to.
2. Since Linux 5.11 the kernel finds out once which calls are allowed whatever their arguments are, and does
   not run the program for these. So the calls of a hot path have to be allowed without a look at their
   arguments. Older kernels run the program each time: the calls that are listed first cost least.
3. A process may make calls of another machine: those of i386 by int 0x80, those of x32 with a bit in the
   number. No such call is allowed.
4. Only 32 bits of an argument are examined, so rules are for arguments of which the kernel uses no others:
   flags and requests.
5. io_uring makes calls that no filter sees. It must not exist in the process: it is denied before libuv, or
   anything else, could set it up.

The data plane imports this module, so it uses the standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from epaird.kernel import abi
from epaird.kernel.errors import KernelError
from epaird.kernel.syscalls import SYSCALLS

IO_URING: Final = ("io_uring_setup", "io_uring_enter", "io_uring_register")
"""The system calls of io_uring."""

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_MACHINES: Final = {"x86_64": abi.AUDIT_ARCH_X86_64, "aarch64": abi.AUDIT_ARCH_AARCH64}
_INSTRUCTION: Final = struct.Struct("=HBBI")
"""struct sock_filter: code, instructions to skip when true, when false, operand."""
_PROGRAM: Final = struct.Struct("@HP")
"""struct sock_fprog: number of instructions, their address."""
# struct seccomp_data
_NUMBER: Final = 0
_MACHINE: Final = 4
_ARGUMENTS: Final = 16
_DENY: Final = abi.SECCOMP_RET_ERRNO | errno.EPERM

_Instruction = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class OneOf:
    """Allows a system call whose argument has one of some values."""

    argument: int
    """Number of the argument, from 0."""
    values: tuple[int, ...]
    """Its values, 32 bits each."""


@dataclass(frozen=True, slots=True)
class NoneOf:
    """Allows a system call whose argument has none of some bits."""

    argument: int
    """Number of the argument, from 0."""
    bits: int
    """The bits."""


Rule = OneOf | NoneOf


def filter_program(machine: str, allowed: Iterable[str], rules: Mapping[str, Rule]) -> bytes:
    """Return the program that allows these system calls, and others according to their rules.

    Names that the machine does not have are left out. Raises KeyError for a machine without a table."""
    numbers = SYSCALLS[machine]
    code = _of_machine(machine)
    code += [(abi.BPF_LD_W_ABS, 0, 0, _NUMBER)]
    for name in allowed:
        if name in numbers:
            code += _when_equal(numbers[name], [_return(abi.SECCOMP_RET_ALLOW)])
    for name, rule in rules.items():
        if name in numbers:
            code += _when_equal(numbers[name], _ruled(rule))
    return _packed([*code, _return(_DENY)])


def denying_program(machine: str, denied: Iterable[str]) -> bytes:
    """Return the program that denies these system calls and those of other machines, and allows all others.

    Raises KeyError for a machine without a table."""
    numbers = SYSCALLS[machine]
    code = _of_machine(machine)
    code += [(abi.BPF_LD_W_ABS, 0, 0, _NUMBER)]
    for name in denied:
        code += _when_equal(numbers[name], [_return(_DENY)])
    return _packed([*code, _return(abi.SECCOMP_RET_ALLOW)])


def allow_only(allowed: Sequence[str], rules: Mapping[str, Rule]) -> None:
    """Deny all threads of this process the system calls that are neither listed nor ruled, for good.

    Those that are called most are best listed first. Needs no_new_privs. Raises KernelError, ENOSYS for a
    machine without a table."""
    _install(filter_program(_own_machine(), allowed, rules))


def deny(denied: Collection[str]) -> None:
    """Deny all threads of this process these system calls, for good; as :func:`allow_only`."""
    _install(denying_program(_own_machine(), denied))


def _own_machine() -> str:
    machine = os.uname().machine
    if machine not in SYSCALLS or struct.calcsize("P") != 8 or sys.byteorder != "little":
        raise KernelError(errno.ENOSYS, f"seccomp: no table of system calls for this process on {machine}")
    return machine


def _of_machine(machine: str) -> list[_Instruction]:
    return [
        (abi.BPF_LD_W_ABS, 0, 0, _MACHINE),
        (abi.BPF_JMP_JEQ_K, 1, 0, _MACHINES[machine]),
        _return(_DENY),
    ]


def _ruled(rule: Rule) -> list[_Instruction]:
    load = (abi.BPF_LD_W_ABS, 0, 0, _ARGUMENTS + 8 * rule.argument)
    if isinstance(rule, NoneOf):
        return [
            load,
            (abi.BPF_JMP_JSET_K, 0, 1, rule.bits),
            _return(_DENY),
            _return(abi.SECCOMP_RET_ALLOW),
        ]
    each = [one for value in rule.values for one in _when_equal(value, [_return(abi.SECCOMP_RET_ALLOW)])]
    return [load, *each, _return(_DENY)]


def _when_equal(value: int, then: list[_Instruction]) -> list[_Instruction]:
    return [(abi.BPF_JMP_JEQ_K, 0, len(then), value & 0xFFFFFFFF), *then]


def _return(action: int) -> _Instruction:
    return (abi.BPF_RET_K, 0, 0, action)


def _packed(code: Iterable[_Instruction]) -> bytes:
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in code)


def _install(program: bytes) -> None:
    number = SYSCALLS[_own_machine()]["seccomp"]
    code = ctypes.create_string_buffer(program, len(program))
    filter_ = ctypes.create_string_buffer(
        _PROGRAM.pack(len(program) // _INSTRUCTION.size, ctypes.addressof(code)), _PROGRAM.size
    )
    # Without SPEC_ALLOW kernels before 5.16 turn off speculative stores, which slows everything down and
    # protects only programs that run the code of others.
    for flags in (abi.SECCOMP_FILTER_FLAG_SPEC_ALLOW, 0):
        flags |= abi.SECCOMP_FILTER_FLAG_TSYNC
        if _LIBC.syscall(number, abi.SECCOMP_SET_MODE_FILTER, flags, filter_) == 0:
            return
        if ctypes.get_errno() != errno.EINVAL:
            break
    # A service manager's filter may deny seccomp() and allow prctl(), which has no flags.
    zero = ctypes.c_ulong(0)
    mode = ctypes.c_ulong(abi.SECCOMP_MODE_FILTER)
    if _LIBC.prctl(abi.PR_SET_SECCOMP, mode, filter_, zero, zero) < 0:
        raise KernelError.about("seccomp", ctypes.get_errno())
