"""The whole bench, as a user runs it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from epaird.bench.children import process_tree
from epaird.bench.impairplan import WINDOW, quick_impairment
from tests.waiting import until

pytestmark = pytest.mark.real

BENCH = (sys.executable, "-m", "epaird", "bench", "--quick", "--rounds", "1", "--seconds", "0.1")
IMPAIRMENT = (*BENCH, "--part", "impairment")


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start benches, which are killed after the test."""
    benches: list[subprocess.Popen[str]] = []
    # The path of a socket must be short; pytest's directories are too long.
    with tempfile.TemporaryDirectory(prefix="ept", ignore_cleanup_errors=True) as scratch:

        def start(words: tuple[str, ...] = BENCH) -> subprocess.Popen[str]:
            bench = subprocess.Popen(
                words,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                env={**os.environ, "TMPDIR": scratch},
            )
            benches.append(bench)
            return bench

        yield start
        for bench in benches:
            if bench.poll() is None:
                bench.kill()
            bench.communicate()


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def namespaces(pids: list[int]) -> set[int]:
    """Return the inodes of the network namespaces that processes are in or hold open, without the test's."""
    own, found = Path("/proc/self/ns/net").stat(), set()
    for pid in pids:
        for link in (Path(f"/proc/{pid}/ns/net"), *Path(f"/proc/{pid}/fd").glob("*")):
            with contextlib.suppress(OSError):
                status = link.stat()
                if status.st_dev == own.st_dev:
                    found.add(status.st_ino)
    return found - {own.st_ino}


def all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def reach(bench: subprocess.Popen[str], at: Callable[[int], bool]) -> None:
    """Wait for a moment of a bench, or for its end.

    The bench measures its first subject before the daemon starts, so the time limit of the wait starts again
    with every process that the bench starts or ends.
    """

    def change() -> str:
        if at(bench.pid) or bench.poll() is not None:
            return "reached"
        return "next process" if process_tree(bench.pid) != family else ""

    family = process_tree(bench.pid)
    while until(change, lambda: f"the bench runs {process_tree(bench.pid)}") != "reached":
        family = process_tree(bench.pid)


def leftovers(family: list[int], inodes: set[int], bench: int) -> list[object]:
    """Return the remaining processes, namespaces and namespace names of a bench."""
    processes = [command(pid) for pid in family if pid != bench and "epaird" in command(pid)]
    names = [name for name in os.listdir("/run/netns") if name.startswith("epaird-bench-")]  # noqa: PTH208
    return [*processes, *(inodes & namespaces(all_pids())), *names]


def moment(words: str) -> Callable[[int], bool]:
    return lambda bench: any(words in command(pid) for pid in process_tree(bench)[1:])


MOMENTS: dict[str, Callable[[int], bool]] = {
    "the namespaces are made": lambda bench: len(namespaces([bench])) == 3,
    "datagrams are sent": moment("epaird.bench.datagrams send"),
    "the daemon starts": moment("epaird run"),
    "the daemon's workers run": moment("epaird.dataplane"),
    "round trips are made": moment("epaird.bench.roundtrip ask"),
}


WHILE_IMPAIRED: dict[str, Callable[[int], bool]] = {
    "delays are measured": moment("epaird.bench.oneway send"),
}


@pytest.mark.parametrize(
    ("words", "at"),
    [*((BENCH, at) for at in MOMENTS.items()), *((IMPAIRMENT, at) for at in WHILE_IMPAIRED.items())],
    ids=lambda value: value[0] if len(value) == 2 else "impairment" if value is IMPAIRMENT else "cable",
)
def test_interrupted_at_any_moment_it_leaves_nothing(
    words: tuple[str, ...],
    at: tuple[str, Callable[[int], bool]],
    started: Callable[..., subprocess.Popen[str]],
) -> None:
    bench = started(words)
    reach(bench, at[1])
    family = process_tree(bench.pid)
    inodes = namespaces(family)
    assert bench.poll() is None
    assert inodes
    for _ in range(3):  # as an impatient user does
        os.killpg(bench.pid, signal.SIGINT)
    out, err = bench.communicate(timeout=60)
    assert (bench.returncode, out) == (130, "")
    assert err == "epaird: interrupted: everything is taken down again\n"
    assert leftovers(family, inodes, bench.pid) == []


def test_terminated_it_leaves_nothing(started: Callable[..., subprocess.Popen[str]]) -> None:
    bench = started()
    reach(bench, moment("epaird.dataplane"))
    family = process_tree(bench.pid)
    inodes = namespaces(family)
    bench.terminate()
    bench.communicate(timeout=60)
    assert bench.returncode == 128 + signal.SIGTERM
    assert leftovers(family, inodes, bench.pid) == []


def test_killed_it_leaves_nothing(started: Callable[..., subprocess.Popen[str]]) -> None:
    bench = started()
    reach(bench, moment("epaird.dataplane"))
    family = process_tree(bench.pid)
    inodes = namespaces(family)
    assert len(inodes) == 3
    bench.kill()
    bench.communicate(timeout=60)
    until(lambda: leftovers(family, inodes, bench.pid) == [])


@pytest.mark.parametrize("iperf3", [True, False], ids=["iperf3", "own sender"])
def test_its_results(iperf3: bool, tmp_path: Path) -> None:
    environment = {**os.environ, **({} if iperf3 else {"PATH": "/nowhere"})}
    files = (tmp_path / "bench.json", tmp_path / "bench.svg")
    done = subprocess.run(
        [*BENCH, "--json", str(files[0]), "--plot", str(files[1])],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "1472 bytes" in done.stdout
    assert "\x1b" not in done.stdout
    results: dict[str, Any] = json.loads(files[0].read_text())
    assert results["plan"] == {"rounds": 1, "seconds": 0.1}
    (round_,) = results["rounds"]
    for subject in ("veth", "epaird"):
        check(round_[subject], "iperf3" if iperf3 else "own", forwards=subject == "epaird")
    assert {row["group"] for row in results["summary"]} > {"Round trip", "Large transfers"}
    ElementTree.parse(files[1])  # noqa: S314 (written by the bench)


def check(jobs: dict[str, Any], generator: str, *, forwards: bool) -> None:
    """Check the relations between the figures, whatever their values."""
    assert set(jobs) == {"udp-64", "udp-1472", "udp-segment", "tcp", "rtt", "pairs-4"}
    for key in ("udp-64", "udp-1472", "udp-segment", "pairs-4"):
        datagrams = jobs[key]
        assert 0 < datagrams["delivered"] <= datagrams["sent"]
        assert datagrams["reordered"] == 0
        assert datagrams["per_second"] > 0
        assert datagrams["cpu_us"] > 0
        assert (datagrams["forwarder_cpu_us"] is not None) == forwards
        if forwards:
            assert 0 < datagrams["forwarder_cpu_us"] < datagrams["cpu_us"]
    assert jobs["tcp"]["generator"] == generator
    assert jobs["tcp"]["octets"] > 0
    assert jobs["rtt"]["exchanges"] > 0
    percentiles = list(jobs["rtt"]["microseconds"].values())
    assert percentiles == sorted(percentiles)
    assert len(percentiles) == 4


def test_the_results_of_the_impairment_part(tmp_path: Path) -> None:
    files = (tmp_path / "bench.json", tmp_path / "bench.svg")
    done = subprocess.run(
        [*IMPAIRMENT, "--json", str(files[0]), "--plot", str(files[1])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "with / without" in done.stdout
    assert "\x1b" not in done.stdout
    results: dict[str, Any] = json.loads(files[0].read_text())
    assert results["part"] == "impairment"
    (round_,) = results["rounds"]
    jobs = round_["epaird"]
    assert list(jobs) == [job.key for job in quick_impairment().jobs]
    for key in ("tcp", "tcp-delay", "tcp-loss", "rate-100mbit"):
        assert jobs[key]["octets"] > 0
        assert jobs[key]["window"] == WINDOW
    for key in ("udp", "udp-delay", "udp-loss", "pairs"):
        assert 0 < jobs[key]["delivered"] <= jobs[key]["sent"]
        assert jobs[key]["reordered"] == 0
    assert jobs["pairs"]["sent"] == 2000
    for key in ("delay-10-polling-off", "delay-10-polling-on"):
        assert 0 < jobs[key]["delivered"] <= jobs[key]["sent"] == 100
        assert len(jobs[key]["microseconds"]) == 4
    ElementTree.parse(files[1])  # noqa: S314 (written by the bench)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--plot", "/nowhere/bench.svg"), "/nowhere/bench.svg: there is no directory /nowhere"),
        (("--json", "/"), "/: is a directory"),
    ],
)
def test_a_file_that_cannot_be_written_is_reported_at_once(option: tuple[str, str], words: str) -> None:
    done = subprocess.run([*BENCH, *option], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"epaird: {words}\n")
