"""The real machine, where no root is needed or where nothing else proves a promise."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from epaird.control.machine.batches import Batches
from epaird.control.machine.host import Host
from epaird.kernel import namespace, tunqueue
from epaird.kernel.convergence import Target
from epaird.kernel.errors import KernelError
from epaird.kernel.link import Address, LinkSettings
from epaird.kernel.namespace import Fingerprint
from epaird.kernel.nscookie import cookie
from tests.control.fake import FakeHost
from tests.loop import descriptors, on_loop, turns
from tests.waiting import eventually


def operations(kind: type) -> dict[str, inspect.Signature]:
    """Return the public methods of a class and their signatures."""
    return {
        name: inspect.signature(function)
        for name, function in vars(kind).items()
        if inspect.isfunction(function) and not name.startswith("_")
    }


def test_the_fake_host_has_the_signatures_of_the_real_one() -> None:
    fake = operations(FakeHost)
    for name, signature in operations(Host).items():
        assert fake.get(name) == signature, name


@on_loop
async def test_kernel_calls_run_one_by_one_in_one_thread() -> None:
    host = FakeHost()
    threads: list[str] = []
    under_way = 0

    def work() -> str:
        nonlocal under_way
        assert under_way == 0
        under_way += 1
        time.sleep(0)
        under_way -= 1
        threads.append(threading.current_thread().name)
        return "done"

    assert await asyncio.gather(*(host._run(work) for _ in range(20))) == ["done"] * 20
    assert set(threads) == {"kernel_0"}
    host.close()


@on_loop
async def test_an_exception_in_the_thread_reaches_the_caller() -> None:
    host = FakeHost()

    def fail() -> None:
        raise KernelError(5, "epair0a: no")

    with pytest.raises(KernelError, match="epair0a: no"):
        await host._run(fail)
    host.close()


@on_loop
async def test_a_cancellation_takes_effect_before_or_after_a_call() -> None:
    host = FakeHost()
    begun, go_on = threading.Event(), threading.Event()
    made: list[int] = []

    def make() -> int:
        begun.set()
        assert go_on.wait(30)
        return 7

    async def keep() -> None:
        made.append(await host._run(make))
        made.append(await host._run(make))

    task = asyncio.create_task(keep())
    await eventually(begun.is_set)
    task.cancel()
    await turns()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert made == [7], "the result is known, and no other call was made"
    begun.clear()
    task = asyncio.create_task(keep())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not begun.is_set()
    host.close()


@on_loop
async def test_a_loop_that_ends_during_requests_does_end() -> None:
    """It cancels every task, even the one that carries out batches."""
    host = FakeHost()
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go_on.wait(30)

    async def carry_out(numbers: Sequence[int]) -> list[int | Exception]:
        await host._run(work)
        return list(numbers)

    batches: Batches[int, int] = Batches(carry_out, at_once=1)
    asking = [asyncio.create_task(batches.ask(number)) for number in range(3)]
    await eventually(begun.is_set)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await turns()
    go_on.set()
    await asyncio.wait(others)
    assert all(task.cancelled() for task in asking)
    host.close()


@on_loop
async def test_closing_waits_for_the_thread() -> None:
    host = FakeHost()
    done = threading.Event()

    def slow() -> None:
        time.sleep(0.01)
        done.set()

    task = asyncio.create_task(host._run(slow))
    await turns()
    host.close()
    assert done.is_set()
    await task


@pytest.mark.real
@on_loop
async def test_a_namespace_is_created_and_removed() -> None:
    host = Host()
    name = f"ept{os.getpid()}h"
    try:
        known: list[Fingerprint] = []
        await host.make_namespace(name, known.append)
        assert [host.namespace_fingerprint(name)] == known
        assert host.namespace_identity(name) == namespace.identity(name) == known[0].identity
        await host.remove_namespace(name, known[0])
        with pytest.raises(KernelError, match=f"namespace {name}: does not exist"):
            host.namespace_identity(name)
    finally:
        with contextlib.suppress(KernelError):
            namespace.remove(name)
        host.close()


@pytest.mark.real
@on_loop
async def test_a_device_has_the_number_of_the_namespace_in_which_it_was_created() -> None:
    host = Host()
    name = f"ept{os.getpid()}h"
    try:
        numbers = []
        for _ in range(2):
            known: list[Fingerprint] = []
            await host.make_namespace(name, known.append)
            in_place = await host.open_tap("epair0a", queues=1, offload=True, name="eth0", netns=name)
            at_home = await host.open_tap(name, queues=1, offload=True)
            numbers += [host.number_of(in_place), host.number_of(at_home)]
            place = await host.place(in_place, "eth0", name)
            assert host.has_device(name)
            assert not host.has_device("epair0a")
            found = await host.hardware_addresses(place)
            assert tunqueue.hardware_address(in_place.fds[0]) in found
            assert tunqueue.hardware_address(at_home.fds[0]) not in found
            await host.close_taps((in_place, at_home))
            await host.remove_namespace(name, known[0])
        assert len(set(numbers)) == 4
        assert len({number.namespace for number in numbers}) == 3
        assert numbers[1].namespace == numbers[3].namespace == cookie()
        assert numbers[1].index < numbers[3].index
    finally:
        with contextlib.suppress(KernelError):
            namespace.remove(name)
        host.close()


@pytest.mark.real
@on_loop
async def test_names_are_watched_while_the_daemon_owns_a_namespace() -> None:
    host = Host()
    name = f"ept{os.getpid()}h"
    try:
        before = descriptors()
        known: list[Fingerprint] = []
        await host.make_namespace(name, known.append)
        assert "anon_inode:inotify" in descriptors().values()
        await host.remove_namespace(name, known[0])
        assert descriptors() == before
    finally:
        with contextlib.suppress(KernelError):
            namespace.remove(name)
        host.close()


@pytest.mark.real
@on_loop
async def test_a_cancellation_during_the_creation_of_a_namespace_takes_effect_after_it() -> None:
    host = Host()
    name = f"ept{os.getpid()}h"
    made: list[Fingerprint] = []

    async def make() -> None:
        await host.make_namespace(name, made.append)
        await asyncio.sleep(3600)

    try:
        task = asyncio.create_task(make())
        await eventually(Path(f"/run/netns/{name}").exists)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [each.identity for each in made] == [namespace.identity(name)], "created and unknown"
    finally:
        namespace.remove(name)
        host.close()


@pytest.mark.real
@on_loop
async def test_devices_of_several_namespaces_converge() -> None:
    name, settings = f"ept{os.getpid()}c", LinkSettings(1500, 100, addresses=(Address("192.0.2.1/24"),))
    host = Host()
    taps = [await host.open_tap(f"{name}{number}", queues=1, offload=True) for number in range(2)]
    try:
        made: list[Fingerprint] = []
        await host.make_namespace(name, made.append)
        places = [
            await host.place(tap, tap.name, netns) for tap, netns in zip(taps, (name, None), strict=True)
        ]
        elsewhere = replace(places[0], identity=namespace.identity(None))
        targets = [
            (tap, place, Target(tap.name, place.index, settings))
            for tap, place in ((taps[0], places[0]), (taps[0], elsewhere), (taps[1], places[1]))
        ]
        first, second, third = await host.converge(targets)
        assert (first, third) == (None, None)
        assert "another program moved or replaced the device just now" in str(second)
        assert await host.present({taps[0]: elsewhere}) == {}
        found = await host.present(dict(zip(taps, places, strict=True)))
        for tap, place in zip(taps, places, strict=True):
            state = found[tap]
            assert (state.name, state.qdisc) == (place.name, "noqueue")
            assert [each.address for each in state.addresses] == [Address("192.0.2.1/24")]
    finally:
        await host.close_taps(taps)
        await host.remove_namespace(name, made[0])
        host.close()


INTERRUPTED = """
import asyncio, sys
import uvloop
from epaird.control.machine.host import Host
from epaird.kernel.link import LinkSettings

async def main(name):
    host = Host()
    tap = await host.open_tap(name, queues=1, offload=True)
    place = await host.place(tap, name, None)
    await host.configure(tap, place, LinkSettings(mtu=1500, txqueuelen=100))
    host.watch(lambda event: None)
    print("made", flush=True)
    if sys.argv[2] == "busy":
        while True:
            await host.configure(tap, place, LinkSettings(mtu=1500, txqueuelen=100))
    await host.close_taps([tap])
    host.close()

uvloop.run(main(sys.argv[1]))
"""


@pytest.mark.real
@pytest.mark.parametrize("what", ["clean", "busy"])
def test_the_interpreter_ends_whatever_the_thread_is_doing(what: str) -> None:
    """pyroute2 runs event loops of its own in that thread: none may keep the process or print errors."""
    name = f"ept{os.getpid()}i"
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", INTERRUPTED, name, what],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
        if what == "busy":
            process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=30)
    assert not Path(f"/sys/class/net/{name}").exists()
    if what == "clean":
        assert (process.returncode, complaints) == (0, "")
    else:
        assert "KeyboardInterrupt" in complaints
        assert "Exception in thread" not in complaints
