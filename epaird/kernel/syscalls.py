"""Numbers of the system calls that a filter may name, by machine.

They are those of asm/unistd_64.h (x86_64) and asm-generic/unistd.h (aarch64). The data plane imports this
module, so it uses the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_NUMBERS: Final[tuple[tuple[str, int | None, int | None], ...]] = (
    ("accept4", 288, 242),
    ("brk", 12, 214),
    ("clock_getres", 229, 114),
    ("clock_gettime", 228, 113),
    ("clock_nanosleep", 230, 115),
    ("close", 3, 57),
    ("close_range", 436, 436),
    ("dup3", 292, 24),
    ("epoll_ctl", 233, 21),
    ("epoll_pwait", 281, 22),
    ("epoll_pwait2", 441, 441),
    ("epoll_wait", 232, None),
    ("exit", 60, 93),
    ("exit_group", 231, 94),
    ("fcntl", 72, 25),
    ("fstat", 5, 80),
    ("futex", 202, 98),
    ("getegid", 108, 177),
    ("geteuid", 107, 175),
    ("getgid", 104, 176),
    ("getpid", 39, 172),
    ("getppid", 110, 173),
    ("getrandom", 318, 278),
    ("getrusage", 98, 165),
    ("getsockname", 51, 204),
    ("getsockopt", 55, 209),
    ("gettid", 186, 178),
    ("gettimeofday", 96, 169),
    ("getuid", 102, 174),
    ("io_uring_enter", 426, 426),
    ("io_uring_register", 427, 427),
    ("io_uring_setup", 425, 425),
    ("ioctl", 16, 29),
    ("landlock_create_ruleset", 444, 444),
    ("landlock_restrict_self", 446, 446),
    ("lseek", 8, 62),
    ("madvise", 28, 233),
    ("membarrier", 324, 283),
    ("mmap", 9, 222),
    ("mprotect", 10, 226),
    ("mremap", 25, 216),
    ("munmap", 11, 215),
    ("nanosleep", 35, 101),
    ("pivot_root", 155, 41),
    ("poll", 7, None),
    ("ppoll", 271, 73),
    ("prctl", 157, 167),
    ("pread64", 17, 67),
    ("pwrite64", 18, 68),
    ("read", 0, 63),
    ("readv", 19, 65),
    ("recvfrom", 45, 207),
    ("recvmsg", 47, 212),
    ("restart_syscall", 219, 128),
    ("rt_sigaction", 13, 134),
    ("rt_sigprocmask", 14, 135),
    ("rt_sigreturn", 15, 139),
    ("sched_getaffinity", 204, 123),
    ("sched_setattr", 314, 274),
    ("sched_yield", 24, 124),
    ("seccomp", 317, 277),
    ("sendmsg", 46, 211),
    ("sigaltstack", 131, 132),
    ("tgkill", 234, 131),
    ("time", 201, None),
    ("timerfd_create", 283, 85),
    ("timerfd_settime", 286, 86),
    ("times", 100, 153),
    ("write", 1, 64),
    ("writev", 20, 66),
)

SYSCALLS: Final[Mapping[str, Mapping[str, int]]] = MappingProxyType(
    {
        "x86_64": {name: number for name, number, _ in _NUMBERS if number is not None},
        "aarch64": {name: number for name, _, number in _NUMBERS if number is not None},
    }
)
"""Number of each system call of a 64-bit process, by machine (as uname() names it) and name. A machine may
lack some, of which it has newer forms."""
