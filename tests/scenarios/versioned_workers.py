"""Run the daemon with workers of the version in ``EPAIRD_WORKERS``.

With ``undescribed`` they do not know the request for a description, as those of 0.3.0. Workers that are
started after an upgrade are the present ones. With ``EPAIRD_CUT_RENEWAL`` the upgraded daemon kills itself
before it renews the worker of this number.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from typing import Final

from epaird.control.handover.reexec import UPGRADED
from epaird.control.workers import processes
from epaird.control.workers.worker import Worker

UNDESCRIBED: Final = """
import sys
import epaird.ipc.encoding
from epaird.dataplane.__main__ import main

del epaird.ipc.encoding._TYPES["Describe"]
del sys.argv[2:]
main()
"""
VERSIONED: Final = """
import epaird.dataplane.sandbox
from epaird.dataplane.__main__ import main

epaird.dataplane.sandbox.__version__ = "{}"
main()
"""


def cut_renewal(number: int) -> None:
    """Kill this process before it renews the worker of this number."""
    renew = Worker.renew

    async def cut(self: Worker, slot: int) -> None:
        if self.number == number:
            os.kill(os.getpid(), signal.SIGKILL)
        await renew(self, slot)

    Worker.renew = cut  # type: ignore[method-assign]


version = os.environ["EPAIRD_WORKERS"]
if UPGRADED not in os.environ:
    code = UNDESCRIBED if version == "undescribed" else VERSIONED.format(version)
    processes.PROGRAM = ("-I", "-c", code)
elif "EPAIRD_CUT_RENEWAL" in os.environ:
    cut_renewal(int(os.environ["EPAIRD_CUT_RENEWAL"]))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
