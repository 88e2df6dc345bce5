"""Privilege drop, for a process that only reads and writes the file descriptors it already has.

The order matters, since each step needs privileges that a later one gives up: emptying the bounding set
needs CAP_SETPCAP, changing the user CAP_SETUID and CAP_SETGID; the capabilities themselves are dropped last.
After that no_new_privs keeps execve() from restoring anything, so the steps cannot be undone.

Capabilities belong to a thread: call this while the process has only one. The data plane imports this module,
so it uses the standard library only; ctypes is the most expensive import, at some 3 ms.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
from collections.abc import Callable
from typing import Final

from epaird.kernel import abi
from epaird.kernel.errors import KernelError

NOBODY: Final = 65534
"""The kernel's overflow user and group id, which own no files."""

LIMITS: Final = (
    resource.RLIMIT_CORE,
    # Counts the processes of a user, and is checked when one of them starts another, or executes a program.
    resource.RLIMIT_NPROC,
    # Of files on a file system. Devices, pipes and memory that is mapped are not affected.
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_MEMLOCK,
    resource.RLIMIT_MSGQUEUE,
    resource.RLIMIT_RTPRIO,
)
"""Resource limits that become 0. That of open files stays, because a worker may be given every device. That
of memory stays, because the frames in its queue have a limit of their own, which can change."""

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_CAPABILITY_HEADER: Final = struct.Struct("=Ii")
_NO_CAPABILITIES: Final = bytes(24)
"""Two struct __user_cap_data_struct: effective, permitted, inheritable, 32 capabilities each."""
_MOST_CAPABILITIES: Final = 64


def limit_resources() -> None:
    """Set the limits of LIMITS to 0, for good unless the process has CAP_SYS_RESOURCE."""
    for limit in LIMITS:
        resource.setrlimit(limit, (0, 0))


def drop_all() -> str:
    """Change to the overflow user (if root), clear every capability set, and prevent regaining any.

    The process also leaves no core file, which might contain traffic, and other processes of its user
    cannot trace it. A step that an unprivileged process may not take is skipped when its effect does not
    matter without the others: the bounding set without CAP_SETPCAP, the user without CAP_SETUID. Returns why
    root could not change its user; empty if it has, or is not root. Raises KernelError when another step
    fails.
    """
    kept = ""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl("ambient capabilities", abi.PR_CAP_AMBIENT, abi.PR_CAP_AMBIENT_CLEAR_ALL)
    _empty_bounding_set()
    if os.geteuid() == 0:
        kept = _change_user()
    header = _CAPABILITY_HEADER.pack(abi.LINUX_CAPABILITY_VERSION_3, 0)
    if _LIBC.capset(header, _NO_CAPABILITIES) < 0:
        raise KernelError.about("dropping capabilities", ctypes.get_errno())
    _prctl("no_new_privs", abi.PR_SET_NO_NEW_PRIVS, 1)
    _prctl("dumpable", abi.PR_SET_DUMPABLE, 0)
    return kept


def _empty_bounding_set() -> None:
    for capability in range(_MOST_CAPABILITIES):
        try:
            _prctl("bounding set", abi.PR_CAPBSET_DROP, capability)
        except KernelError as error:
            if error.errno in (errno.EINVAL, errno.EPERM):
                return  # past the last capability, or without CAP_SETPCAP
            raise


def _change_user() -> str:
    """Change the user as far as it is permitted; return the last refusal, or an empty string."""
    refusal = ""
    steps: tuple[Callable[[], None], ...] = (
        lambda: os.setgroups([]),
        lambda: os.setresgid(NOBODY, NOBODY, NOBODY),
        lambda: os.setresuid(NOBODY, NOBODY, NOBODY),
    )
    for step in steps:
        try:
            step()
        except OSError as error:
            # Root may not change its user here, or the user namespace has no such user.
            if error.errno not in (errno.EPERM, errno.EINVAL):
                raise KernelError.about("changing to user 65534", error.errno) from error
            reason = "the user namespace has no such user" if error.errno == errno.EINVAL else error.strerror
            refusal = f"changing to user 65534: {reason}"
    return refusal


def _prctl(subject: str, option: int, argument: int) -> None:
    arguments = (ctypes.c_ulong(value) for value in (argument, 0, 0, 0))
    if _LIBC.prctl(option, *arguments) < 0:
        raise KernelError.about(subject, ctypes.get_errno())
