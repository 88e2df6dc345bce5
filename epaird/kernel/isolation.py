"""Namespaces that hold nothing, for a process that needs none of what the machine's hold.

Each kind needs CAP_SYS_ADMIN, and each can be unavailable: a service manager may permit one kind only, a
container no mounts. A process that exists cannot move to another namespace of pids, nor needs it one where it
may signal no other process and sees no /proc.

The data plane imports this module, so it uses the standard library only.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Final

from epaird.kernel import abi
from epaird.kernel.errors import KernelError

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_OWN_MOUNTS: Final = "/proc/self/ns/mnt"
_ANY_DIRECTORY: Final = b"/proc"
"""A directory that exists on every machine; the empty root is mounted on it for a moment."""
_OPTIONS: Final = b"size=4k,mode=555"
_RESTRICTED: Final = abi.MS_NOSUID | abi.MS_NODEV | abi.MS_NOEXEC

KINDS: Final = {
    "net": abi.CLONE_NEWNET,
    "ipc": abi.CLONE_NEWIPC,
    "uts": abi.CLONE_NEWUTS,
    "cgroup": abi.CLONE_NEWCGROUP,
    "mnt": abi.CLONE_NEWNS,
}
"""The kinds of namespaces by the names that /proc/PID/ns has for them, with the flags of unshare()."""


def enter_empty(kind: str) -> None:
    """Move this process to a new namespace of a kind: without a device that is up, without a file.

    The process must have one thread. Raises KernelError, and then the process is where it was."""
    if kind != "mnt":
        _do(kind, lambda: _LIBC.unshare(KINDS[kind]))
        return
    try:
        before = os.open(_OWN_MOUNTS, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError.about("mnt", error.errno) from error
    try:
        _do(kind, lambda: _LIBC.unshare(abi.CLONE_NEWNS))
        try:
            _empty_root()
        except BaseException:
            # A copy of all mounts would keep those alive that are removed elsewhere.
            _LIBC.setns(before, abi.CLONE_NEWNS)
            raise
    finally:
        os.close(before)


def _empty_root() -> None:
    """Replace the root by an empty file system that cannot be written to, in this mount namespace."""
    private = abi.MS_REC | abi.MS_PRIVATE
    read_only = abi.MS_REMOUNT | abi.MS_BIND | abi.MS_RDONLY | _RESTRICTED
    steps: tuple[Callable[[], int], ...] = (
        lambda: _LIBC.mount(None, b"/", None, ctypes.c_ulong(private), None),
        lambda: _LIBC.mount(b"none", _ANY_DIRECTORY, b"tmpfs", ctypes.c_ulong(_RESTRICTED), _OPTIONS),
        lambda: _LIBC.chdir(_ANY_DIRECTORY),
        # The old root is stacked on the new one, from where it is unmounted.
        lambda: _LIBC.pivot_root(b".", b"."),
        lambda: _LIBC.umount2(b".", abi.MNT_DETACH),
        lambda: _LIBC.mount(None, b"/", None, ctypes.c_ulong(read_only), None),
        lambda: _LIBC.chdir(b"/"),
    )
    for step in steps:
        _do("mnt", step)


def _do(kind: str, step: Callable[[], int]) -> None:
    if step() < 0:
        raise KernelError.about(f"{kind} namespace", ctypes.get_errno())
