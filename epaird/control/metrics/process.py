"""The control plane's ``process_*``, as prometheus_client's ProcessCollector has them.

That one lists its descriptors to count them: with 1000 pairs 1.6 ms of a scrape, which a kernel that is not
preempted spends in two system calls, while packets wait on that core.  Here the kernel is asked how many.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_PROC: Final = Path("/proc/self")


class ProcessCollector(Collector):
    """This very process."""

    def __init__(self) -> None:
        """When it was started is looked up once."""
        ticks = int((_PROC / "stat").read_text().rpartition(")")[2].split()[19])
        since_boot_s = ticks / os.sysconf("SC_CLK_TCK")
        self._started = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot_s

    def collect(self) -> Iterator[Metric]:
        """The families, each with one sample."""
        pages, resident = map(int, (_PROC / "statm").read_text().split()[:2])
        page_bytes = resource.getpagesize()
        max_fds, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        for name, told, value in (
            ("virtual_memory_bytes", "Virtual memory size in bytes.", pages * page_bytes),
            ("resident_memory_bytes", "Resident memory size in bytes.", resident * page_bytes),
            ("start_time_seconds", "Start time of the process since unix epoch in seconds.", self._started),
            ("open_fds", "Number of open file descriptors.", open_fds()),
            ("max_fds", "Maximum number of open file descriptors.", max_fds),
        ):
            yield GaugeMetricFamily(f"process_{name}", told, value=value)
        told = "Total user and system CPU time spent in seconds."
        yield CounterMetricFamily("process_cpu_seconds_total", told, value=time.process_time())


def open_fds(directory: Path = _PROC / "fd") -> int:
    """How many descriptors there are."""
    # A kernel before 6.2 does not say.
    return directory.stat().st_size or len(list(directory.iterdir()))
