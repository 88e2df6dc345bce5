"""Landlock: no access to files by their names, nor to TCP, foreign abstract sockets and foreign processes.

What is open already stays usable. The data plane imports this module, so it uses the standard library only.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final

from epaird.kernel import abi
from epaird.kernel.errors import KernelError
from epaird.kernel.syscalls import SYSCALLS

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_ATTRIBUTES: Final = struct.Struct("=QQQ")
"""struct landlock_ruleset_attr: file system, network, scope."""
_TCP: Final = abi.LANDLOCK_ACCESS_NET_BIND_TCP | abi.LANDLOCK_ACCESS_NET_CONNECT_TCP
_SCOPES: Final = abi.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | abi.LANDLOCK_SCOPE_SIGNAL
_FIRST_FILE_RIGHTS: Final = (abi.LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1
"""The rights of the first version, the last of which is MAKE_SYM."""
_FILE_RIGHTS: Final = (
    (2, abi.LANDLOCK_ACCESS_FS_REFER),
    (3, abi.LANDLOCK_ACCESS_FS_TRUNCATE),
    (5, abi.LANDLOCK_ACCESS_FS_IOCTL_DEV),
)
"""Rights that a later version of the ABI has added."""
# Sizes of the structure in bytes: a kernel refuses a larger one than it knows unless the rest is zero.
_WITHOUT_NETWORK: Final = 8
_WITHOUT_SCOPES: Final = 16


def attributes(version: int) -> bytes:
    """Return the attributes of a ruleset that denies everything that a version of the ABI can deny."""
    files = _FIRST_FILE_RIGHTS
    for since, right in _FILE_RIGHTS:
        if version >= since:
            files |= right
    packed = _ATTRIBUTES.pack(files, _TCP, _SCOPES)
    if version < 4:
        return packed[:_WITHOUT_NETWORK]
    return packed[:_WITHOUT_SCOPES] if version < 6 else packed


def deny_everything() -> int:
    """Deny this thread, and those that it starts, everything that the kernel's Landlock can deny, for good.

    Return the version of the ABI. Needs no_new_privs. Raises KernelError, ENOSYS or EOPNOTSUPP without
    Landlock."""
    numbers = SYSCALLS.get(os.uname().machine, SYSCALLS["x86_64"])  # they are the same on all machines
    create, restrict = numbers["landlock_create_ruleset"], numbers["landlock_restrict_self"]
    none = ctypes.c_void_p(None)
    nothing = ctypes.c_size_t(0)
    version = _checked(_LIBC.syscall(create, none, nothing, abi.LANDLOCK_CREATE_RULESET_VERSION))
    wanted = attributes(version)
    ruleset = _checked(_LIBC.syscall(create, wanted, ctypes.c_size_t(len(wanted)), 0))
    try:
        _checked(_LIBC.syscall(restrict, ruleset, 0))
    finally:
        os.close(ruleset)
    return version


def _checked(result: int) -> int:
    if result < 0:
        raise KernelError.about("Landlock", ctypes.get_errno())
    return result
