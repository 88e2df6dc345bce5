"""Run a program under a clock that jumps: the time of day is days off, each time in another direction."""

from __future__ import annotations

import itertools
import runpy
import sys
import time

_DAYS = itertools.cycle((86_400, -86_400 * 30, 0, 86_400 * 3650))
_time, _time_ns = time.time, time.time_ns

time.time = lambda: _time() + next(_DAYS)
time.time_ns = lambda: _time_ns() + next(_DAYS) * 10**9

sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
