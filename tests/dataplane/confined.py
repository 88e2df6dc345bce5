"""A process in the sandbox of a worker that tries what a worker that was taken over would try.

Run as a program: it prints, as JSON, the errno of each attempt, 0 where one succeeded."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from epaird.dataplane.sandbox import Sandbox

AT_FDCWD: Final = -100
AT_EMPTY_PATH: Final = 0x1000
TIOCSTI: Final = 0x5412
TUNSETLINK: Final = 0x400454CD
SIOCSIFHWADDR: Final = 0x8924
CLONE_NEWUSER: Final = 0x10000000
F_SETOWN: Final = 8
PR_SET_DUMPABLE: Final = 4
EXECUTABLE: Final = 5
"""PROT_READ and PROT_EXEC."""

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_PATH: Final = b"/etc/passwd"
_X32: Final = 0x4000_0000

NUMBERS: Final = {
    "socket": 41, "connect": 42, "bind": 49, "listen": 50, "socketpair": 53, "sendto": 44, "setsockopt": 54,
    "open": 2, "openat": 257, "openat2": 437, "creat": 85, "stat": 4, "newfstatat": 262, "access": 21,
    "mkdir": 83, "unlink": 87, "rename": 82, "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93,
    "ftruncate": 77, "truncate": 76, "flock": 73, "utimensat": 280, "setxattr": 188, "name_to_handle_at": 303,
    "open_by_handle_at": 304, "memfd_create": 319, "chdir": 80, "chroot": 161, "getdents64": 217,
    "execve": 59, "execveat": 322, "fork": 57, "vfork": 58, "clone": 56, "clone3": 435,
    "kill": 62, "tkill": 200, "rt_sigqueueinfo": 129, "pidfd_open": 434, "pidfd_send_signal": 424,
    "pidfd_getfd": 438, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
    "mount": 165, "umount2": 166, "pivot_root": 155, "setns": 308, "unshare": 272, "fsopen": 430,
    "bpf": 321, "perf_event_open": 298, "keyctl": 250, "add_key": 248, "userfaultfd": 323,
    "io_uring_setup": 425, "io_uring_enter": 426, "io_setup": 206, "inotify_init1": 294, "fanotify_init": 300,
    "setuid": 105, "setresuid": 117, "setgroups": 116, "capset": 126, "seccomp": 317,
    "landlock_create_ruleset": 444, "prlimit64": 302, "sched_setaffinity": 203, "setpriority": 141,
    "shmget": 29, "msgget": 68, "semget": 64, "mq_open": 240, "mlock": 149, "personality": 135,
    "pkey_mprotect": 329, "splice": 275, "vmsplice": 278, "timer_create": 222, "init_module": 175,
    "kexec_load": 246, "reboot": 169, "swapon": 167, "quotactl": 179, "syslog": 103, "acct": 163,
    "sethostname": 170, "iopl": 172, "modify_ldt": 154, "uname": 63,
}  # fmt: skip
"""System calls of x86_64 that a worker may not make, whatever the arguments."""


def attempt(number: int, *arguments: object) -> int:
    """Make a system call; return its errno, 0 when it succeeded."""
    ctypes.set_errno(0)
    return ctypes.get_errno() if _LIBC.syscall(number, *arguments) < 0 else 0


def attempts(terminal: int) -> dict[str, int]:
    """Attempt everything; every result should be EPERM."""
    found = {name: attempt(number, _PATH, 0, 0, 0, 0, 0) for name, number in NUMBERS.items()}
    special: dict[str, tuple[object, ...]] = {
        "ioctl TIOCSTI": (16, terminal, TIOCSTI, b"x"),
        "ioctl TUNSETLINK": (16, terminal, TUNSETLINK, 1),
        "ioctl SIOCSIFHWADDR": (16, terminal, SIOCSIFHWADDR, bytes(40)),
        "fcntl F_SETOWN": (72, terminal, F_SETOWN, os.getppid()),
        "prctl PR_SET_DUMPABLE": (157, PR_SET_DUMPABLE, 1, 0, 0, 0),
        "tgkill of the parent": (234, os.getppid(), os.getppid(), 0),
        "tgkill of another process's thread": (234, os.getppid(), os.getpid(), 0),
        "mmap PROT_EXEC": (9, None, ctypes.c_size_t(4096), EXECUTABLE, 0x22, -1, 0),
        "mprotect PROT_EXEC": (10, ctypes.c_void_p(0), ctypes.c_size_t(4096), EXECUTABLE),
        "execveat of a descriptor": (322, terminal, b"", None, None, AT_EMPTY_PATH),
        "getpid of x32": (39 | _X32,),
    }
    return found | {name: attempt(*call) for name, call in special.items()}  # type: ignore[arg-type]


def by_python(path: str) -> dict[str, int]:
    """Attempt what Python offers."""

    def thread() -> None:
        try:
            threading.Thread(target=print).start()
        except RuntimeError as error:
            raise PermissionError(1, str(error)) from error

    found = {}
    steps: dict[str, Callable[[], object]] = {
        "open": Path(path).read_bytes,
        "socket": socket.socket,
        "kill": lambda: os.kill(os.getppid(), 0),
        "fork": os.fork,
        "thread": thread,
        "memfd": lambda: os.memfd_create("there"),
        "list": lambda: list(Path("/").iterdir()),
        "exec": lambda: os.execv("/bin/true", ["true"]),  # noqa: S606
    }
    for name, step in steps.items():
        try:
            step()
        except OSError as error:
            found[name] = error.errno or 0
        else:
            found[name] = 0
    return found


def main() -> None:
    """Enter the sandbox, attempt everything, and report it."""
    read, _write = os.pipe()
    sandbox = Sandbox()
    sandbox.prepare()
    sandbox.close()
    report = {
        "missing": sandbox.description().missing,
        "attempts": attempts(read),
        "python": by_python(sys.argv[1]),
        "environment": dict(os.environ),
    }
    os.write(1, json.dumps(report).encode())


if __name__ == "__main__":
    main()
