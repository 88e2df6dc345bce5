"""Ways of changing files that the standard library has no function for."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def exchange(one: Path, other: Path) -> None:
    """Exchange two directory entries in one step."""
    if _LIBC.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def relink(link: Path, target: Path | str) -> None:
    """Replace a symbolic link in one step, as ``ln -sfn`` does."""
    fresh = link.with_name(f"{link.name}.fresh")
    fresh.symlink_to(target)
    fresh.replace(link)
