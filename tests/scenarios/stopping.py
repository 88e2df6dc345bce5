"""Run the daemon and stop every worker that it adopts, before the first request to one."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from typing import Any

from epaird.control.workers.worker import Worker

adopt = Worker.adopt


def adopt_stopped(worker: Worker, *args: Any, **settings: Any) -> Any:  # noqa: ANN401
    """Adopt a process that is stopped at this moment."""
    link = adopt(worker, *args, **settings)
    os.kill(link.pid, signal.SIGSTOP)
    return link


Worker.adopt = adopt_stopped  # type: ignore[assignment, method-assign]
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
