"""Giving up every privilege, for a process that only reads and writes the file descriptors it has.

The order matters, since each step needs what a later one gives up: the bounding set needs
CAP_SETPCAP, another user CAP_SETUID and CAP_SETGID; the capabilities themselves go last.  After that
no_new_privs keeps execve() from giving anything back, so the steps cannot be undone.

Capabilities belong to a thread: call this while there is only one.  This module is part of the data
plane's world: it imports the standard library only, ctypes being the dearest of it at some 3 ms.
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
"""The kernel's overflow user and group, which own nothing."""

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_CAPABILITY_HEADER: Final = struct.Struct("=Ii")
_NO_CAPABILITIES: Final = bytes(24)
"""Two struct __user_cap_data_struct: effective, permitted, inheritable, 32 capabilities each."""
_MOST_CAPABILITIES: Final = 64


def drop_all() -> None:
    """Become nobody (if root), hold no capability in any set, and be unable to gain one.

    Beside that the process leaves no core file, in which traffic might stand, and cannot be traced
    by others of its user.  Steps that a lesser process may not take are left out when what they take
    away does not matter without the rest: the bounding set without CAP_SETPCAP, the user without
    CAP_SETUID.  Raises KernelError when a step fails that nothing may forbid.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl("ambient capabilities", abi.PR_CAP_AMBIENT, abi.PR_CAP_AMBIENT_CLEAR_ALL)
    _empty_bounding_set()
    if os.geteuid() == 0:
        _become_nobody()
    header = _CAPABILITY_HEADER.pack(abi.LINUX_CAPABILITY_VERSION_3, 0)
    if _LIBC.capset(header, _NO_CAPABILITIES) < 0:
        raise KernelError.about("dropping capabilities", ctypes.get_errno())
    _prctl("no_new_privs", abi.PR_SET_NO_NEW_PRIVS, 1)
    _prctl("dumpable", abi.PR_SET_DUMPABLE, 0)


def _empty_bounding_set() -> None:
    for capability in range(_MOST_CAPABILITIES):
        try:
            _prctl("bounding set", abi.PR_CAPBSET_DROP, capability)
        except KernelError as error:
            if error.errno in (errno.EINVAL, errno.EPERM):
                return  # behind the last one there is, or without CAP_SETPCAP
            raise


def _become_nobody() -> None:
    steps: tuple[Callable[[], None], ...] = (
        lambda: os.setgroups([]),
        lambda: os.setresgid(NOBODY, NOBODY, NOBODY),
        lambda: os.setresuid(NOBODY, NOBODY, NOBODY),
    )
    for step in steps:
        try:
            step()
        except OSError as error:
            # Where root may not change its user, or a user namespace has no such one to change to.
            if error.errno not in (errno.EPERM, errno.EINVAL):
                raise KernelError.about("becoming nobody", error.errno) from error


def _prctl(thing: str, option: int, argument: int) -> None:
    arguments = (ctypes.c_ulong(value) for value in (argument, 0, 0, 0))
    if _LIBC.prctl(option, *arguments) < 0:
        raise KernelError.about(thing, ctypes.get_errno())
