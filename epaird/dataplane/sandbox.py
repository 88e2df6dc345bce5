"""The sandbox of a worker process: what is left to one that a frame has taken over.

Its steps come after all imports and before the first descriptor of a cable, in an order in which none
prevents the next: namespaces need the privileges that are dropped then, and what is left needs no_new_privs.
The filter of system calls is in two parts. io_uring is denied before there is an event loop, since libuv
would set one up, and it makes calls that no filter sees. Everything else is denied when the loop runs and has
what it needs.

Each layer is applied where the machine has it. What is missing is reported, and never prevents a start.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from collections.abc import Iterator
from typing import Final

from epaird import __version__
from epaird.ipc.messages import Description
from epaird.kernel import abi, isolation, landlock, privileges, seccomp
from epaird.kernel.errors import KernelError

ALLOWED: Final = (
    # For each frame, or each turn of the loop: first, see epaird.kernel.seccomp.
    "read", "write", "epoll_pwait", "epoll_wait", "sched_yield", "getpid", "clock_gettime", "readv", "writev",
    "poll", "ppoll", "epoll_ctl", "sendmsg", "recvmsg", "timerfd_settime",
    # Descriptors that it has or is sent. It cannot make any but copies, and connections to its own socket.
    "accept4", "close", "close_range", "dup3", "epoll_pwait2", "fstat", "getsockname", "getsockopt", "lseek",
    "pread64", "pwrite64", "recvfrom",
    # Memory
    "brk", "madvise", "mremap", "munmap",
    # Locks, time, signals that arrive, randomness, its own state
    "clock_getres", "clock_nanosleep", "futex", "getegid", "geteuid", "getgid", "getppid", "getrandom",
    "getrusage", "gettid", "gettimeofday", "getuid", "membarrier", "nanosleep", "restart_syscall",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sched_getaffinity", "sigaltstack", "time", "times",
    "timerfd_create",
    # The end
    "exit", "exit_group",
)  # fmt: skip
"""System calls that a worker may make with any arguments, those of its hot path first."""


def rules(pid: int) -> dict[str, seccomp.Rule]:
    """Return the system calls that the worker ``pid`` may make with some arguments."""
    return {
        # No request of a device: TUNSETLINK, SIOCSIFHWADDR and others need no privilege. Nor TIOCSTI.
        "ioctl": seccomp.OneOf(1, (abi.FIONBIO, abi.FIOCLEX)),
        # Not F_SETOWN and F_SETLEASE, which send signals, and no locks.
        "fcntl": seccomp.OneOf(
            1,
            (
                fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL, fcntl.F_DUPFD_CLOEXEC,
                fcntl.F_GET_SEALS,
            ),
        ),
        "mmap": seccomp.NoneOf(2, mmap.PROT_EXEC),
        "mprotect": seccomp.NoneOf(2, mmap.PROT_EXEC),
        "prctl": seccomp.OneOf(0, (abi.PR_SET_NAME,)),
        # abort() sends a signal to its own thread.
        "tgkill": seccomp.OneOf(0, (pid,)),
    }  # fmt: skip


class Sandbox:
    """The sandbox of this process."""

    def __init__(self) -> None:
        self._landlock = 0
        self._namespaces: list[str] = []
        self._missing: list[str] = []
        self._filters = False
        """True when io_uring is denied."""

    def prepare(self) -> None:
        """Give up everything that neither the event loop nor a cable needs, for good.

        The process must have one thread and no event loop. Raises KernelError when privileges cannot be
        dropped; all else is reported as missing."""
        os.environ.clear()
        for kind in isolation.KINDS:
            with self._reporting():
                isolation.enter_empty(kind)
                self._namespaces.append(kind)
        privileges.limit_resources()
        if refusal := privileges.drop_all():
            self._missing.append(refusal)
        with self._reporting():
            self._landlock = landlock.deny_everything()
        with self._reporting():
            seccomp.deny(seccomp.IO_URING)
            self._filters = True

    def close(self) -> None:
        """Deny every system call that a running worker does not need, for good."""
        if self._filters:
            with self._reporting():
                seccomp.allow_only(ALLOWED, rules(os.getpid()))

    def description(self) -> Description:
        """Return what this process is and which layers it has."""
        return Description(
            __version__, self._landlock, tuple(self._namespaces), tuple(self._missing), lines=True
        )

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except KernelError as error:
            self._missing.append(str(error))
