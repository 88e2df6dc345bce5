"""Run the daemon with workers of older code, which do not know some messages and exit when they get one.

Once the daemon is upgraded, its workers are the present ones.
"""

from __future__ import annotations

import os
import runpy
import sys
from typing import Final

from epaird.control.handover.reexec import UPGRADED
from epaird.control.workers import processes

OLDER: Final = """
import epaird.ipc.encoding
import epaird.dataplane.process
from epaird.dataplane.__main__ import main

for order in ("Keep", "Ping", "Resize", "Tune"):
    del epaird.ipc.encoding._TYPES[order]
epaird.dataplane.process.PROTOCOL = 0
main()
"""

if UPGRADED not in os.environ:
    processes.PROGRAM = ("-I", "-c", OLDER)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
