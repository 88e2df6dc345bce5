"""A minimal service that uses the service manager as epaird does. A real systemd runs it.

Its status names what it found in the descriptor store. It stores a descriptor, reloads on SIGHUP once
/run/may-reload exists, and empties the store on SIGUSR1.
"""

import os
import signal
import time
from pathlib import Path

from epaird.control.handover.notify import Notifier, listener, take_inherited

notifier = Notifier(os.environ["NOTIFY_SOCKET"])
found = take_inherited()
control = listener(found, "control")
stored = {each.name: os.pread(each.fd, 100, 0).decode() for each in found if each.name == "epair0a"}
if not stored:
    device = os.memfd_create("device")
    os.write(device, b"a device")
    notifier.store("epair0a", [device])
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM})
listens = control.getsockname() if control else None
notifier.ready(f"stored: {stored}, listens: {listens}")
while True:
    match signal.sigwait({signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM}):
        case signal.SIGHUP:
            notifier.reloading(time.monotonic_ns())
            while not Path("/run/may-reload").exists():
                time.sleep(0.01)
            notifier.ready("reloaded")
        case signal.SIGUSR1:
            notifier.remove("epair0a")
        case _:
            notifier.stopping()
            break
