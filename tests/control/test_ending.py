"""A process whose main thread does not react ends within its bound, or at the second signal."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from epaird.control.ending import OVERDUE, REPEATED_S
from tests.waiting import DEADLINE_S, until

PROGRAM = """
import signal, sys, time
from epaird.control import logs
from epaird.control.ending import Ending

class Daemon:
    ending_s = float(sys.argv[1])
    waits_for = "sleeping"

    def give_up(self):
        print("given up", flush=True)
        time.sleep(60)

logs.set_up("info", "text")
ending = Ending()
ending.daemon = Daemon()
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: None)
ending.observe()
print("ready", flush=True)
while True:
    time.sleep(60)
"""


@contextlib.contextmanager
def running(ending_s: float) -> Iterator[subprocess.Popen[str]]:
    """Run a process that never ends by itself, with this bound."""
    command = [sys.executable, "-c", PROGRAM, str(ending_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_ends_within_its_bound(number: signal.Signals) -> None:
    with running(0.05) as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out) == (OVERDUE, "given up\n")
    assert err == "not ended in time: still sleeping: ending without waiting for it\n"


def test_the_second_signal_ends_it_at_once_but_not_its_echo() -> None:
    with running(3600) as process:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(REPEATED_S / 2)

        def ended() -> bool:
            process.send_signal(signal.SIGINT)
            return process.poll() is not None

        until(ended)
        _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == OVERDUE
    assert err == "SIGINT again: still sleeping: ending without waiting for it\n"


def test_without_a_signal_it_goes_on() -> None:
    with running(0) as process, pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)


def test_a_process_that_executes_a_program_is_observed_no_further() -> None:
    """The descriptors that the program gets may take the number of the thread's socket."""
    program = PROGRAM[: PROGRAM.index("while")] + (
        "import threading\n"
        "(thread,) = (each for each in threading.enumerate() if each.name == 'ending')\n"
        "print(ending.requested())\n"
        f"thread.join({DEADLINE_S})\n"
        "print(thread.is_alive())\n"
    )
    done = subprocess.run([sys.executable, "-c", program, "3600"], capture_output=True, text=True, check=True)
    assert done.stdout == "ready\nFalse\nFalse\n"
