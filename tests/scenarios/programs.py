"""Traffic programs: processes of their own, so that the test's other work does not delay them.

A program prints "ready". It answers each line on its stdin with one line of JSON, its results so far, and it
prints them once more when its stdin ends. A sender that reads ``pause`` stops until it reads ``go``.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, Self

from tests.waiting import DEADLINE_S


class HasNamespace(Protocol):
    """A network namespace that programs can be started in."""

    def inside(self) -> AbstractContextManager[None]:
        """Enter the namespace for the block; what is started there stays there."""


class Program:
    """A running traffic program, seen from the test."""

    def __init__(self, place: HasNamespace, module: str, *arguments: str) -> None:
        """Start ``module`` with these arguments and wait until it is ready."""
        with place.inside():
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                text=True, cwd=Path(__file__).parents[2], start_new_session=True,
            )  # fmt: skip
        if self._process.stdout is not None and self._process.stdout.readline() != "ready\n":
            raise AssertionError(f"{arguments}: not ready")

    def command(self, line: str) -> dict[str, Any]:
        """Send a command and return the program's results so far."""
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("it has pipes")
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        if not (reply := self._process.stdout.readline()):
            raise AssertionError(f"{self._process.args!r}: has ended")
        return dict(json.loads(reply))

    def end(self) -> dict[str, Any]:
        """End the program and return its results."""
        out, _ = self._process.communicate(timeout=DEADLINE_S)
        return dict(json.loads(out))

    def kill(self) -> None:
        """Kill the program if it still runs."""
        self._process.kill()
        self._process.communicate()


class Flow:
    """A sending and a receiving program, from ``with`` to its end."""

    def __init__(self, *, sink: Program, sender: Program) -> None:
        self._sink = sink
        self._sender = sender

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for program in (self._sender, self._sink):
            program.kill()

    def pause(self) -> None:
        """Stop sending until :meth:`go`."""
        self._sender.command("pause")

    def go(self) -> None:
        """Resume sending."""
        self._sender.command("go")


# The program's own side.


def read_command(timeout_s: float) -> str | None:
    """Return the command read within this time: empty at the end of stdin, None if there was none."""
    if not select.select([0], [], [], timeout_s)[0]:
        return None
    return os.read(0, 64).decode().strip()


def print_ready() -> None:
    """Report that the program is ready."""
    print("ready", flush=True)  # noqa: T201


def print_results(results: object) -> None:
    """Report results as one line of JSON."""
    print(json.dumps(results), flush=True)  # noqa: T201


def next_pause(paused: bool, command: str) -> bool:
    """Return whether a sender is paused after a command."""
    return command == "pause" or (paused and command != "go")


def send_paced(send: Callable[[int], int], tick_s: float, late_s: float = 0.0) -> dict[str, object]:
    """Call ``send`` every ``tick_s`` until stdin ends, and return the results.

    ``send`` takes the amount sent so far and returns how much it has sent. Ticks more than ``late_s``
    overdue are left out."""
    sent, due, paused = 0, time.monotonic(), False
    while (line := read_command(DEADLINE_S if paused else 0)) != "":
        if line is not None:
            paused = next_pause(paused, line)
            print_results({"sent": sent})
        if line is not None or paused:
            continue
        now = time.monotonic()
        if now < due:
            time.sleep(due - now)
            continue
        due = max(due, now - late_s) + tick_s
        sent += send(sent)
    return {"sent": sent}


def run_program(
    arguments: Sequence[str],
    *,
    send: Callable[[str, int, int], object],
    receive: Callable[[str, int], object],
) -> None:
    """Run a program whose arguments are its role, an address, a port and, for a sender, a rate."""
    role, address, port, *rate = arguments
    if role == "send":
        print_ready()
        print_results(send(address, int(port), int(rate[0])))
    else:
        print_results(receive(address, int(port)))
