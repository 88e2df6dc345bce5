"""The control plane's ``process_*`` metrics, as prometheus_client's ProcessCollector has them.

That collector lists the process's descriptors to count them: with 1000 pairs this is 1.6 ms of a scrape.
A kernel without preemption spends it in two system calls, while packets wait on that core. This one reads
the number from the kernel.
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

from epaird.control.machine.descriptors import open_fds

_PROC: Final = Path("/proc/self")


class ProcessCollector(Collector):
    """Metrics of this process."""

    def __init__(self) -> None:
        """Read the start time of the process, once."""
        ticks = int((_PROC / "stat").read_text().rpartition(")")[2].split()[19])
        since_boot_s = ticks / os.sysconf("SC_CLK_TCK")
        self._started = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot_s

    def collect(self) -> Iterator[Metric]:
        """Return the families, each with one sample."""
        pages, resident = map(int, (_PROC / "statm").read_text().split()[:2])
        page_bytes = resource.getpagesize()
        max_fds, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        for name, help_text, value in (
            ("virtual_memory_bytes", "Virtual memory size in bytes.", pages * page_bytes),
            ("resident_memory_bytes", "Resident memory size in bytes.", resident * page_bytes),
            ("start_time_seconds", "Start time of the process since unix epoch in seconds.", self._started),
            ("open_fds", "Number of open file descriptors.", open_fds()),
            ("max_fds", "Maximum number of open file descriptors.", max_fds),
        ):
            yield GaugeMetricFamily(f"process_{name}", help_text, value=value)
        help_text = "Total user and system CPU time spent in seconds."
        yield CounterMetricFamily("process_cpu_seconds_total", help_text, value=time.process_time())
