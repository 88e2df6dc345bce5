from __future__ import annotations

import json
import struct
import subprocess
import sys

import pytest

from epaird.kernel import landlock
from epaird.kernel.landlock import attributes

PROGRAM = """
import json, os, socket, sys
from epaird.kernel import landlock, privileges
from epaird.kernel.errors import KernelError
with open("/dev/null") as already, socket.socket() as tcp, socket.socket(socket.AF_UNIX) as local:
    waits, ends = os.pipe()
    peer = os.fork()
    if not peer:
        os.close(ends)
        os.read(waits, 1)
        os._exit(0)
    privileges._prctl("no_new_privs", 38, 1)
    try:
        version = landlock.deny_everything()
    except KernelError as error:
        os.write(1, json.dumps({"version": 0, "error": str(error)}).encode())
        os._exit(0)
    refused = []
    for name, attempt in {
        "open": lambda: os.open("/dev/null", os.O_RDONLY),
        "list": lambda: os.listdir("/"),
        "create": lambda: os.mkdir("/tmp/refused-by-landlock"),
        "bind": lambda: tcp.bind(("127.0.0.1", 0)),
        "abstract": lambda: local.connect("\\0" + sys.argv[1]),
        "signal": lambda: os.kill(peer, 0),
    }.items():
        try:
            attempt()
        except PermissionError:
            refused.append(name)
    already.read()
    os.write(1, json.dumps({"version": version, "refused": refused}).encode())
"""


def test_what_cannot_be_denied_by_a_version_is_not_mentioned() -> None:
    """A kernel refuses attributes that it does not know."""
    assert attributes(1) == struct.pack("=Q", 0x1FFF)
    assert attributes(2) == struct.pack("=Q", 0x3FFF)
    assert attributes(3) == struct.pack("=Q", 0x7FFF)
    assert attributes(4) == struct.pack("=QQ", 0x7FFF, 3)
    assert attributes(5) == struct.pack("=QQ", 0xFFFF, 3)
    assert attributes(6) == attributes(9) == struct.pack("=QQQ", 0xFFFF, 3, 3)


@pytest.mark.real
def test_nothing_is_reached_by_its_name() -> None:
    import socket

    name = f"epaird-test-landlock-{id(landlock)}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + name)
        listener.listen()
        command = [sys.executable, "-c", PROGRAM, name]
        found = json.loads(
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
        )
    if not found["version"]:
        pytest.skip(found["error"])
    expected = ["open", "list", "create"]
    if found["version"] >= 4:
        expected.append("bind")
    if found["version"] >= 6:
        expected += ["abstract", "signal"]
    assert found["refused"] == expected
