"""Run the daemon with workers of newer code, which send fields and messages that it does not know.

It sends them fields and a request that they do not know, too, as a newer control plane would.
"""

from __future__ import annotations

import json
import runpy
import sys
from typing import Final

from epaird.control.workers import processes
from epaird.ipc import channel
from epaird.ipc.encoding import encode
from epaird.ipc.messages import Attach, Message

NEWER: Final = """
import json
import epaird.dataplane.sandbox
from epaird.dataplane.__main__ import main
from epaird.ipc import channel
from epaird.ipc.encoding import encode
from epaird.ipc.messages import Ready

def newer(message):
    return json.dumps({**json.loads(encode(message)), "later": {"speed": [1, 2]}}).encode()

def packets(message, fds):
    if isinstance(message, Ready):
        yield b'{"type": "Weather", "sky": "clear"}', ()
    yield newer(message), tuple(fds)

channel.packets = packets
epaird.dataplane.sandbox.__version__ = "99.0"
main()
"""


def newer(message: Message) -> bytes:
    """Encode a message with a field of the future."""
    return json.dumps({**json.loads(encode(message)), "later": {"speed": [1, 2]}}).encode()


channel.encode = newer  # type: ignore[attr-defined]
original = channel.packets


def packets(message: Message, fds: tuple[int, ...]) -> object:
    """Precede each Attach with a request of the future."""
    if isinstance(message, Attach):
        yield b'{"type": "Rehearse", "id": 0}', ()
    yield from original(message, fds)


channel.packets = packets  # type: ignore[assignment]
processes.PROGRAM = ("-I", "-c", NEWER)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
