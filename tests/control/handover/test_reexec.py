"""The program executed again, with its descriptors."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epaird.control.handover import reexec
from tests.loop import on_loop

PROGRAM = """
    import os, sys
    from epaird import startup
    from epaird.control.handover import reexec
    from epaird.control.handover.notify import take_inherited
    if os.environ.pop(reexec.UPGRADED, ""):
        found = take_inherited()
        print(os.getpid(), [(each.fd, each.name, os.pread(each.fd, 9, 0).decode()) for each in found])
        startup.deliver_signals()
    else:
        print(os.getpid())
        sys.stdout.flush()
        names = ["lock", "epair0a", "epair0a"]
        fds = []
        for name in names:
            fd = os.memfd_create(name)
            os.write(fd, str(len(fds)).encode())
            fds.append((name, fd))
        reexec.execute(fds)
"""


def test_the_same_process_continues_with_its_descriptors() -> None:
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    before, after = process.stdout.splitlines()
    pid, _, found = after.partition(" ")
    assert pid == before
    assert found == "[(3, 'lock', '0'), (4, 'epair0a', '1'), (5, 'epair0a', '2')]"


@on_loop
async def test_a_program_that_can_run_has_no_objection(monkeypatch: pytest.MonkeyPatch) -> None:
    check = f"import os, sys; sys.exit(os.environ['{reexec.CHECK_ONLY}'] != '1')"
    monkeypatch.setattr(reexec, "command", lambda: [sys.executable, "-c", check])
    assert await reexec.objection() is None


@on_loop
async def test_the_last_line_of_an_error_is_the_objection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reexec, "command", lambda: [sys.executable, "-c", "import epaird.missing"])
    assert await reexec.objection() == "ModuleNotFoundError: No module named 'epaird.missing'"
    monkeypatch.setattr(reexec, "command", lambda: [sys.executable, "-c", "raise SystemExit(3)"])
    assert await reexec.objection() == "exit status 3"


@on_loop
async def test_a_program_that_hangs_is_an_objection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reexec, "CHECK_S", 0.2)
    monkeypatch.setattr(reexec, "command", lambda: ["sleep", "60"])
    assert await reexec.objection() == "its check takes longer than 0 s"


@given(st.permutations(range(6)), st.integers(0, 5))
@settings(deadline=None, max_examples=40)
def test_descriptors_in_any_order_get_their_numbers_with_one_more_at_most(
    order: list[int], unused: int
) -> None:
    """In a process that may have one more descriptor than it has."""
    program = f"""
        import os, resource
        from epaird.control.handover.reexec import arrange
        made = [os.memfd_create(str(number)) for number in range(6)]
        for number, fd in enumerate(made):
            os.write(fd, str(number).encode())
        assert made == list(range(3, 9))
        wanted = [made[number] for number in {order} if number != {unused}]
        resource.setrlimit(resource.RLIMIT_NOFILE, (10, 10))
        arrange(wanted)
        found = [os.pread(fd, 9, 0).decode() for fd in range(3, 8)]
        print(found, all(map(os.get_inheritable, range(3, 8))))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    expected = [str(number) for number in order if number != unused]
    assert run.stdout == f"{expected} True\n"
