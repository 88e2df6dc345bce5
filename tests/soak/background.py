"""Background traffic over the interfaces that come and go, by a program of its own.

    python -m tests.soak.background LAST_NUMBER    datagrams to each 10.1.UNIT.LAST_NUMBER that has a route

``tests.scenarios.programs`` describes its protocol.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Final

from tests.scenarios.programs import next_pause, print_ready, print_results, read_command
from tests.waiting import DEADLINE_S

UNITS: Final = range(64)
"""Units of the pairs that it sends to."""
_PAUSE_S: Final = 0.05


def address(unit: int, last: int) -> str:
    """Return the address of half a (1) or b (2) of a changing pair."""
    return f"10.1.{unit}.{last}"


def main(last: str) -> None:
    """Send until stdin ends."""
    targets = [(address(unit, int(last)), 9) for unit in UNITS]
    print_ready()
    sent, paused = 0, False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        while (line := read_command(DEADLINE_S if paused else _PAUSE_S)) != "":
            if line is not None:
                paused = next_pause(paused, line)
                print_results({"sent": sent})
            elif not paused:
                for target in targets:
                    with contextlib.suppress(OSError):  # no route, the device is down, or the ring is full
                        sent += out.sendto(bytes(100), target) > 0


if __name__ == "__main__":
    main(*sys.argv[1:])
