"""The daemon's use of resources: memory, descriptors, tasks, threads and everything else that could leak."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.scenarios.ctl import control_socket
from tests.soak.site import Site

CONTROL_MEMORY: Final = "control plane, private memory"
_KINDS: Final = {
    "/dev/net/tun": "tun",
    "socket": "socket",
    "pipe": "pipe",
    "anon_inode:[eventpoll]": "epoll",
    "anon_inode:[eventfd]": "eventfd",
    "anon_inode:[pidfd]": "pidfd",
    "anon_inode:inotify": "inotify",
    "/memfd:epaird-ledger (deleted)": "ledger",
    "net": "namespace",
}
TOLERANCES: Final = {
    CONTROL_MEMORY: 3 << 10,
    "workers, private memory": 3 << 10,
    # A predecessor's worker is watched by a pidfd, the daemon's own worker by SIGCHLD.
    "control plane, descriptors, pidfd": 3,
    # Threads of the loop's executor, which asyncio keeps.
    "control plane, threads": 4,
}
"""Growth allowed until the end, in each resource's unit; zero for all others.

Memory is compared between processes of different age.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One resource at the beginning and at the end."""

    what: str
    before: int
    after: int
    tolerance: int
    """Growth allowed."""

    @property
    def flat(self) -> bool:
        """True if the resource did not grow by more than that."""
        return self.after - self.before <= self.tolerance


def rows(before: Mapping[str, int], after: Mapping[str, int]) -> list[Row]:
    """Compare two footprints."""
    names = [*before, *(name for name in after if name not in before)]
    return [Row(name, before.get(name, 0), after.get(name, 0), TOLERANCES.get(name, 0)) for name in names]


def footprint(site: Site) -> dict[str, int]:
    """Return the amount of each resource: a number, or kilobytes of memory."""
    control = site.daemon.pid
    workers = [pid for pids in site.workers_by_number().values() for pid in pids]
    found = {
        CONTROL_MEMORY: private_kb([control]),
        "workers, private memory": private_kb(workers),
        "control plane, tasks": int(site.daemon.metrics().value("epaird_control_tasks")),
        "control plane, threads": _threads(control),
        "workers, threads": sum(map(_threads, workers)),
        "processes": len(site.lab.processes("epaird")),
    }
    found |= {f"control plane, descriptors, {kind}": n for kind, n in descriptors([control]).items()}
    found |= {f"workers, descriptors, {kind}": n for kind, n in descriptors(workers).items()}
    return found | _kernel_footprint(site) | _state_footprint(site)


def private_kb(pids: Iterable[int]) -> int:
    """Return the memory that these processes have written to and share with no other, swapped out or not.

    Pages of programs and libraries are left out: they are private only while no other process uses them.
    """
    total = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += sum(map(int, re.findall(r"^(?:Private_Dirty|Swap):\s+(\d+) kB", text, re.MULTILINE)))
    return total


def descriptors(pids: Iterable[int]) -> dict[str, int]:
    """Return the open descriptors of these processes, by kind."""
    return dict(sorted(Counter(kind for pid in pids for kind in _kinds(pid)).items()))


def _kinds(pid: int) -> Iterator[str]:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            target = str(link.readlink())
            yield _KINDS.get(target) or _KINDS.get(target.partition(":")[0], "file")


def _threads(pid: int) -> int:
    found = re.search(r"^Threads:\s+(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def _kernel_footprint(site: Site) -> dict[str, int]:
    namespaces = [site.lab.by_name(name) for name in site.namespaces()]
    prefix = site.lab.home.name.removesuffix("home")
    return {
        "kernel, devices": sum(len(netns.links()) for netns in namespaces),
        "kernel, namespaces": len(list(Path("/run/netns").glob(f"{prefix}*"))),
        "kernel, ids of namespaces": len(json.loads(site.lab.home.ip("-j netns list-id") or "[]")),
        "kernel, routes": sum(len(netns.ip("route show table all").splitlines()) for netns in namespaces),
        "kernel, rules": sum(len(netns.ip("rule show").splitlines()) for netns in namespaces),
    }


def _state_footprint(site: Site) -> dict[str, int]:
    """Return the size of the state that the daemon keeps for its successor."""
    state = json.loads((control_socket(site.lab).parent / "state.json").read_text())
    return {
        "interfaces": len(site.interfaces()),
        "state file, pairs and loopbacks": len(state["pairs"]) + len(state["loopbacks"]),
        "files in the run directory": len(site.files()),
    }
