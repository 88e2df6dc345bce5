"""What the daemon takes of the machine: memory, descriptors, tasks, threads, and what else might pile up."""

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
}
TOLERANCES: Final = {
    CONTROL_MEMORY: 3 << 10,
    "workers, private memory": 3 << 10,
    # A worker of a predecessor's is watched by a pidfd, one's own by SIGCHLD.
    "control plane, descriptors, pidfd": 3,
    # Threads beside the loop, kept by asyncio for the next time.
    "control plane, threads": 4,
}
"""How much more there may be at the end, in the unit of each; of what is not here: nothing.  Memory is that
of processes of different age."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing at the beginning and at the end."""

    what: str
    before: int
    after: int
    tolerance: int
    """How much more there may be."""

    @property
    def flat(self) -> bool:
        """There is not."""
        return self.after - self.before <= self.tolerance


def rows(before: Mapping[str, int], after: Mapping[str, int]) -> list[Row]:
    """The comparison."""
    names = [*before, *(name for name in after if name not in before)]
    return [Row(name, before.get(name, 0), after.get(name, 0), TOLERANCES.get(name, 0)) for name in names]


def footprint(site: Site) -> dict[str, int]:
    """What there is of each thing: kilobytes, or how many."""
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
    return found | _of_the_kernel(site) | _of_the_state(site)


def private_kb(pids: Iterable[int]) -> int:
    """Memory that these processes have written to and share with nobody, swapped out or not.

    Not the pages of programs and libraries, which are a process's own as long as nobody else runs them."""
    total = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += sum(map(int, re.findall(r"^(?:Private_Dirty|Swap):\s+(\d+) kB", text, re.MULTILINE)))
    return total


def descriptors(pids: Iterable[int]) -> dict[str, int]:
    """The open descriptors of these processes, by kind."""
    return dict(sorted(Counter(kind for pid in pids for kind in _kinds(pid)).items()))


def _kinds(pid: int) -> Iterator[str]:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            target = str(link.readlink())
            yield _KINDS.get(target) or _KINDS.get(target.partition(":")[0], "file")


def _threads(pid: int) -> int:
    found = re.search(r"^Threads:\s+(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def _of_the_kernel(site: Site) -> dict[str, int]:
    places = [site.lab.by_name(name) for name in site.namespaces()]
    prefix = site.lab.home.name.removesuffix("home")
    return {
        "kernel, devices": sum(len(place.links()) for place in places),
        "kernel, namespaces": len(list(Path("/run/netns").glob(f"{prefix}*"))),
        "kernel, ids of namespaces": len(json.loads(site.lab.home.ip("-j netns list-id") or "[]")),
        "kernel, routes": sum(len(place.ip("route show table all").splitlines()) for place in places),
        "kernel, rules": sum(len(place.ip("rule show").splitlines()) for place in places),
    }


def _of_the_state(site: Site) -> dict[str, int]:
    """What the daemon has written down for its successor."""
    state = json.loads((control_socket(site.lab).parent / "state.json").read_text())
    return {
        "interfaces": len(site.interfaces()),
        "state file, pairs and loopbacks": len(state["pairs"]) + len(state["loopbacks"]),
        "files in the run directory": len(site.files()),
    }
