"""The numbers compared with the C headers of this machine, which has those of every machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from epaird.kernel.syscalls import SYSCALLS

GENERIC = Path("/usr/include/asm-generic/unistd.h")


def of_x86() -> Path:
    found = [*Path("/usr/include").glob("*/asm/unistd_64.h"), *Path("/usr/include").glob("asm/unistd_64.h")]
    if not found:
        pytest.skip("needs asm/unistd_64.h")
    return found[0]


def defined(header: Path) -> dict[str, int]:
    """The numbers in a header; generic names that 32-bit machines have in another form are prefixed
    NR3264."""
    if not header.exists():
        pytest.skip(f"needs {header}")
    found: dict[str, int] = {}
    for match in re.finditer(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()):
        found.setdefault(match[1], int(match[2]))
    return found


@pytest.mark.parametrize("machine", sorted(SYSCALLS))
def test_the_numbers_equal_those_of_the_headers(machine: str) -> None:
    expected = defined(of_x86() if machine == "x86_64" else GENERIC)
    numbers = dict(SYSCALLS[machine])
    newer = {name for name in numbers if name not in expected}  # than the headers of this machine
    assert newer <= {"epoll_pwait2", "landlock_create_ruleset", "landlock_restrict_self", "close_range"}
    assert {name: number for name, number in numbers.items() if name not in newer} == {
        name: expected[name] for name in numbers if name not in newer
    }
    assert len(set(numbers.values())) == len(numbers)
