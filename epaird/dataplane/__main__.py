"""The worker's process: ``python -m epaird.dataplane FD [describe]``, FD being its end of the socketpair.

With ``describe`` its first message is a Description. Control planes of 0.3.0 and older do not ask for it, and
workers of those versions ignore the argument."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys

import uvloop

from epaird.dataplane.process import SPARE, run
from epaird.dataplane.sandbox import Sandbox
from epaird.dataplane.worker import OPEN_FILES
from epaird.kernel.scheduling import use_default_slices

DESCRIBE = "describe"
"""Argument that requires a Description as the first message."""


def main() -> None:
    """Run the worker, ignoring signals: Ctrl-C and a service's stop are for the control plane."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    connection = int(sys.argv[1])
    # The control plane's limit may have been lowered, and be raised again while this process lives.
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    # The control plane's other descriptors are close-on-exec, except for the moment between python-pytun's
    # open() of a device and the call that makes it so; a copy kept here would keep the device alive.
    os.closerange(3, connection)
    os.closerange(connection + 1, os.sysconf("SC_OPEN_MAX"))
    comm = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    os.write(comm, SPARE.encode())
    owner = os.getuid()
    use_default_slices()
    sandbox = Sandbox()
    sandbox.prepare()
    control = socket.socket(fileno=connection)
    uvloop.run(run(control, owner, comm, sandbox, describe=DESCRIBE in sys.argv[2:]))


if __name__ == "__main__":
    main()
