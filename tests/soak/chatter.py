"""Small talk over whatever interfaces there happen to be, by a program of its own.

    python -m tests.soak.chatter LAST_NUMBER    a datagram to each 10.1.UNIT.LAST_NUMBER there is a route to

It is told, and tells, what the programs of tests.scenarios.paced are and do.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from typing import Final

from tests.scenarios.paced import told
from tests.waiting import DEADLINE_S

UNITS: Final = range(64)
"""Of which interfaces it talks to."""
_PAUSE_S: Final = 0.05


def address(unit: int, last: int) -> str:
    """Of the half a (1) or b (2) of a pair that comes and goes."""
    return f"10.1.{unit}.{last}"


def main(last: str) -> None:
    """Talk until stdin ends."""
    targets = [(address(unit, int(last)), 9) for unit in UNITS]
    print("ready", flush=True)  # noqa: T201
    sent, pausing = 0, False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        while (line := told(DEADLINE_S if pausing else _PAUSE_S)) != "":
            if line is not None:
                pausing = line == "pause" or (pausing and line != "go")
                print(json.dumps({"sent": sent}), flush=True)  # noqa: T201
            elif not pausing:
                for target in targets:
                    with contextlib.suppress(OSError):  # no route, its device is down, or the ring is full
                        sent += out.sendto(bytes(100), target) > 0


if __name__ == "__main__":
    main(*sys.argv[1:])
