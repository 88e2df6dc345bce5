from __future__ import annotations

import errno
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.kernel import abi
from epaird.kernel.seccomp import IO_URING, NoneOf, OneOf, Rule, denying_program, filter_program
from epaird.kernel.syscalls import SYSCALLS
from tests.kernel.bpf import is_constant, run

DENIED = abi.SECCOMP_RET_ERRNO | errno.EPERM
ALLOWED = abi.SECCOMP_RET_ALLOW
ARCHITECTURES = {"x86_64": abi.AUDIT_ARCH_X86_64, "aarch64": abi.AUDIT_ARCH_AARCH64}
X32 = 0x4000_0000
LISTED = ("read", "epoll_wait", "write")
RULES: dict[str, Rule] = {"ioctl": OneOf(1, (7, 0x8000_0009)), "mmap": NoneOf(2, 4), "prctl": OneOf(0, (0,))}

machines = st.sampled_from(sorted(SYSCALLS))
words = st.integers(0, 2**32 - 1)


@given(machines, words, st.lists(st.integers(0, 2**64 - 1), min_size=6, max_size=6))
def test_only_what_is_listed_is_allowed(machine: str, number: int, arguments: list[int]) -> None:
    program = filter_program(machine, LISTED, {})
    listed = {SYSCALLS[machine][name] for name in LISTED if name in SYSCALLS[machine]}
    for each in (number, *listed):
        expected = ALLOWED if each in listed else DENIED
        assert run(program, ARCHITECTURES[machine], each, arguments) == expected


@given(machines, words, st.integers(0, 2**32 - 1))
def test_no_call_of_another_machine_is_allowed(machine: str, number: int, other: int) -> None:
    program = filter_program(machine, LISTED, RULES)
    if other != ARCHITECTURES[machine]:
        assert run(program, other, number) == DENIED
    assert run(denying_program(machine, IO_URING), ARCHITECTURES["aarch64"], number) in (DENIED, ALLOWED)
    for listed in SYSCALLS["x86_64"].values():
        assert run(filter_program("x86_64", LISTED, RULES), ARCHITECTURES["x86_64"], listed | X32) == DENIED


@given(machines, words, words)
def test_rules_are_about_the_low_half_of_one_argument(machine: str, low: int, high: int) -> None:
    program, numbers = filter_program(machine, LISTED, RULES), SYSCALLS[machine]

    def allows(name: str, argument: int, value: int) -> bool:
        arguments = [3] * argument + [high << 32 | value]
        return run(program, ARCHITECTURES[machine], numbers[name], arguments) == ALLOWED

    for value in (low, 7, 0x8000_0009):
        assert allows("ioctl", 1, value) == (value in (7, 0x8000_0009))
    for value in (low, low | 4, low & ~4):
        assert allows("mmap", 2, value) == (not value & 4)
    assert allows("prctl", 0, 0)


@given(machines, words)
def test_a_program_that_denies_allows_everything_else(machine: str, number: int) -> None:
    program, numbers = denying_program(machine, IO_URING), SYSCALLS[machine]
    denied = {numbers[name] for name in IO_URING}
    for each in (number, *denied):
        expected = DENIED if each in denied else ALLOWED
        assert run(program, ARCHITECTURES[machine], each) == expected


@given(machines)
def test_listed_calls_are_allowed_without_a_look_at_their_arguments(machine: str) -> None:
    program, numbers = filter_program(machine, LISTED, RULES), SYSCALLS[machine]
    for name in numbers:
        assert is_constant(program, ARCHITECTURES[machine], numbers[name]) == (name in LISTED)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_a_process_under_a_filter_gets_eperm_and_lives() -> None:
    program = """
import ctypes, os, socket, sys
from epaird.kernel import privileges, seccomp
privileges._prctl("no_new_privs", 38, 1)
every = [name for name in seccomp.SYSCALLS[os.uname().machine]]
seccomp.deny(seccomp.IO_URING)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.syscall(425, 1, None) == -1 and ctypes.get_errno() == 1
seccomp.allow_only(every, {})
try:
    socket.socket()
except PermissionError as error:
    os.write(1, str(error.errno).encode())
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "1"
