"""The first steps of the daemon's process."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from epaird import startup
from tests.waiting import DEADLINE_S

OPENED = """
import os, sys
from epaird import startup
startup.open_standard_descriptors()
later, _ = os.pipe()
links = [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)]
os.write(int(sys.argv[1]), repr((later > 2, [link == os.devnull for link in links])).encode())
print("lost", flush=True)
print("lost", file=sys.stderr, flush=True)
"""


@pytest.fixture(autouse=True)
def signal_mask() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.parametrize(
    "closed", [closed for count in range(4) for closed in itertools.combinations(range(3), count)]
)
def test_closed_standard_descriptors_lead_to_dev_null(closed: tuple[int, ...]) -> None:
    result, process_end = os.pipe()

    def close() -> None:
        for fd in closed:
            os.close(fd)

    try:
        command = [sys.executable, "-c", OPENED, str(process_end)]
        subprocess.run(
            command, pass_fds=(process_end,), preexec_fn=close, stdin=subprocess.PIPE,
            capture_output=True, timeout=60, check=True,
        )  # fmt: skip
        assert os.read(result, 200).decode() == repr((True, [fd in closed for fd in range(3)]))
    finally:
        os.close(result)
        os.close(process_end)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_deferred_signal_reaches_a_handler_that_is_installed_later(
    number: signal.Signals,
) -> None:
    received: list[int] = []
    startup.defer_signals()
    signal.pthread_kill(threading.get_ident(), number)
    before = signal.signal(number, lambda received_number, _: received.append(received_number))
    try:
        assert not received
        startup.deliver_signals()
        assert received == [number]
    finally:
        signal.signal(number, before)


def test_a_start_can_be_interrupted() -> None:
    startup.defer_signals()
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGINT, signal.SIGTERM}


def test_a_program_that_was_executed_with_a_pending_signal_starts_in_time_or_ends() -> None:
    """It has everything of the one that executed it, so the signal waits; but not for ever."""
    program = (
        "import os, signal, time\n"
        "from epaird import startup\n"
        "startup._START_S = 0.1\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, startup.SIGNALS)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "startup.defer_signals()\n"
        "time.sleep(60)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "not ended in time: still starting: ending without waiting for it\n"


def test_time_without_a_processor_is_added_to_the_bound_of_a_start() -> None:
    program = (
        "import os, signal, time\n"
        "from epaird import startup\n"
        "startup._START_S, startup._LOADED_S = 0.1, float('inf')\n"
        "loaded = True\n"
        "startup._waited_for_processor = lambda: time.monotonic() if loaded else 0.0\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, startup.SIGNALS)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "startup.defer_signals()\n"
        "time.sleep(5 * startup._CHECK_S)\n"
        "print('had more time', flush=True)\n"
        "loaded = False\n"
        "time.sleep(60)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert (done.returncode, done.stdout) == (1, "had more time\n")
