from __future__ import annotations

import asyncio
import errno
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from epaird.control.machine.namespaces import Namespaces
from epaird.kernel.errors import KernelError
from tests.control.fake import FakeHost
from tests.loop import on_loop, turns
from tests.waiting import eventually


@asynccontextmanager
async def machine() -> AsyncIterator[FakeHost]:
    host = FakeHost()
    try:
        yield host
    finally:
        host.close()


def record(directory: Path) -> dict[str, object]:
    """Return the record."""
    path = directory / "namespaces.json"
    found: dict[str, object] = json.loads(path.read_text()) if path.exists() else {}
    return found


@on_loop
async def test_namespaces_are_created_recorded_and_removed(tmp_path: Path) -> None:
    async with machine() as host:
        namespaces = Namespaces(host, tmp_path)
        await namespaces.create(["red", "blue"])
        assert {name: (*identity, 0) for name, identity in host.namespaces.items()} == {
            name: tuple(identity)  # type: ignore[arg-type]
            for name, identity in record(tmp_path).items()
        }
        await namespaces.remove_all()
        assert not host.namespaces
        assert not record(tmp_path)


@on_loop
async def test_no_namespaces_leave_no_trace(tmp_path: Path) -> None:
    async with machine() as host:
        namespaces = Namespaces(host, tmp_path)
        await namespaces.create([])
        await namespaces.remove_all()
        assert not record(tmp_path)
        assert not host.steps


@on_loop
async def test_after_a_crash_they_are_taken_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with machine() as host:
        first = Namespaces(host, tmp_path)
        await first.create(["red", "blue"])
        before = dict(host.namespaces)
        second = Namespaces(host, tmp_path)
        await second.create(["red", "blue"])
        assert host.namespaces == before
        assert caplog.messages == [
            f"namespace {name}: taken over from a daemon that ended without removing it"
            for name in ("red", "blue")
        ]
        await second.remove_all()
        assert not host.namespaces


@on_loop
async def test_the_record_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    async with machine() as host:
        identity = host.add_namespace("red")
        (tmp_path / "namespaces.json").write_text(json.dumps({"red": identity}))
        namespaces = Namespaces(host, tmp_path)
        await namespaces.create(["red"])
        assert record(tmp_path) == {"red": [*identity, 0]}
        await namespaces.remove_all()
        assert not host.namespaces


@on_loop
async def test_unwanted_namespaces_of_a_crashed_daemon_are_removed_too(tmp_path: Path) -> None:
    async with machine() as host:
        first = Namespaces(host, tmp_path)
        await first.create(["red", "blue"])
        second = Namespaces(host, tmp_path)
        await second.create(["green"])
        assert set(record(tmp_path)) == {"red", "blue", "green"}
        third = Namespaces(host, tmp_path)
        await third.create([])
        await third.remove_all()
        assert not host.namespaces
        assert not record(tmp_path)


@on_loop
async def test_a_foreign_namespace_is_refused_and_left_alone(tmp_path: Path) -> None:
    async with machine() as host:
        host.add_namespace("blue")
        namespaces = Namespaces(host, tmp_path)
        with pytest.raises(KernelError) as caught:
            await namespaces.create(["red", "blue"])
        assert caught.value.errno == errno.EEXIST
        assert str(caught.value) == (
            "namespaces.create: blue exists already and was not created by epaird: remove it from the list "
            "to use it as it is, or delete it with: ip netns del blue"
        )
        assert set(record(tmp_path)) == {"red"}
        await namespaces.remove_all()
        assert list(host.namespaces) == ["blue"]


@on_loop
async def test_a_replaced_namespace_is_not_removed(tmp_path: Path) -> None:
    async with machine() as host:
        namespaces = Namespaces(host, tmp_path)
        await namespaces.create(["red", "blue"])
        host.add_namespace("red")
        await namespaces.remove_all()
        assert list(host.namespaces) == ["red"]
        assert not record(tmp_path)


@on_loop
async def test_a_namespace_replaced_after_a_crash_is_foreign(tmp_path: Path) -> None:
    async with machine() as host:
        first = Namespaces(host, tmp_path)
        await first.create(["red"])
        host.add_namespace("red")
        second = Namespaces(host, tmp_path)
        with pytest.raises(KernelError, match="red exists already and was not created by epaird"):
            await second.create(["red"])
        await second.remove_all()
        assert list(host.namespaces) == ["red"]


@on_loop
async def test_a_namespace_that_is_gone_is_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with machine() as host:
        namespaces = Namespaces(host, tmp_path)
        await namespaces.create(["red", "blue"])
        del host.namespaces["red"]
        await namespaces.remove_all()
        assert not host.namespaces
        assert not record(tmp_path)
        assert not caplog.messages


@on_loop
async def test_a_namespace_that_cannot_be_removed_is_logged_and_stays_recorded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with machine() as host:
        namespaces = Namespaces(host, tmp_path)
        await namespaces.create(["red", "blue"])
        host.fail("remove_namespace", errno.EBUSY)
        await namespaces.remove_all()
        assert caplog.messages == ["remove_namespace: Device or resource busy"]
        assert list(host.namespaces) == list(record(tmp_path)) == ["red"]
        second = Namespaces(host, tmp_path)
        await second.create(["red"])
        await second.remove_all()
        assert not host.namespaces


@on_loop
async def test_a_namespace_that_cannot_be_created_is_an_error_and_others_are_removed(tmp_path: Path) -> None:
    async with machine() as host:
        namespaces = Namespaces(host, tmp_path)
        making = namespaces.create(["red", "blue"])
        host.failing_step = 1
        with pytest.raises(KernelError, match="make_namespace: Input/output error"):
            await making
        await namespaces.remove_all()
        assert not host.namespaces


@on_loop
async def test_a_namespace_is_recorded_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that is killed in between is followed by one that recognises the namespace."""
    async with machine() as host:
        namespaces = Namespaces(host, tmp_path)
        seen: list[tuple[list[str], list[str]]] = []
        write = namespaces._write

        def look() -> None:
            write()
            seen.append((list(record(tmp_path)), list(host.namespaces)))

        monkeypatch.setattr(namespaces, "_write", look)
        await namespaces.create(["red", "blue"])
        assert seen == [(["red"], []), (["red", "blue"], ["red"])]
        await Namespaces(host, tmp_path).create(["red", "blue"])


@on_loop
async def test_a_namespace_that_was_not_created_is_not_recorded(tmp_path: Path) -> None:
    async with machine() as host:
        namespaces = Namespaces(host, tmp_path)
        host.add_namespace("blue")
        with pytest.raises(KernelError, match="blue exists already and was not created by epaird"):
            await namespaces.create(["red", "blue"])
        assert list(record(tmp_path)) == ["red"]


@on_loop
async def test_a_cancellation_leaves_none_behind(tmp_path: Path) -> None:
    async with machine() as host:
        namespaces = Namespaces(host, tmp_path)
        held = host.hold("make_namespace")
        making = asyncio.create_task(namespaces.create(["red", "blue"]))
        await eventually(held.reached.is_set)
        making.cancel()
        await turns()
        held.released.set()
        with pytest.raises(asyncio.CancelledError):
            await making
        assert list(host.namespaces) == list(record(tmp_path)) == ["red"]
        await namespaces.remove_all()
        assert not host.namespaces


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "{",
        "[]",
        "7",
        '{"red": 5}',
        '{"red": [1]}',
        '{"red": [1, 2, 3, 4]}',
        '{"red": ["a", "b"]}',
        "\udcff",
    ],
)
def test_a_broken_record_is_logged_and_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    async def start() -> None:
        (tmp_path / "namespaces.json").write_bytes(broken.encode(errors="surrogateescape"))
        async with machine() as host:
            host.add_namespace("red")
            namespaces = Namespaces(host, tmp_path)
            with pytest.raises(KernelError, match="red exists already and was not created by epaird"):
                await namespaces.create(["red"])
            await namespaces.remove_all()
            (message,) = caplog.messages
            assert message.startswith(f"{tmp_path}/namespaces.json: ")
            assert message.endswith(": not used")

    on_loop(start)()


@on_loop
async def test_a_namespace_that_cannot_be_recorded_is_not_kept(tmp_path: Path) -> None:
    async with machine() as host:
        (tmp_path / "namespaces.json.new").mkdir()
        namespaces = Namespaces(host, tmp_path)
        with pytest.raises(KernelError, match=r"namespaces\.json: Is a directory"):
            await namespaces.create(["red", "blue"])
        await namespaces.remove_all()
        assert not host.namespaces


@on_loop
async def test_those_of_a_predecessor_are_taken_over_and_removed_although_nothing_can_be_recorded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with machine() as host:
        await Namespaces(host, tmp_path).create(["red", "blue"])
        before, record = dict(host.namespaces), (tmp_path / "namespaces.json").read_bytes()
        (tmp_path / "namespaces.json.new").mkdir()
        second = Namespaces(host, tmp_path)
        await second.create(["red", "blue"])
        assert host.namespaces == before
        assert (tmp_path / "namespaces.json").read_bytes() == record
        assert second.recorded
        assert set(caplog.messages) == {
            f"{tmp_path}/namespaces.json: Is a directory: the record stays as it was"
        }
        await second.remove("red")
        assert second.owned == ("blue",)
        third = Namespaces(host, tmp_path)
        await third.create(["blue"])
        assert third.owned == ("blue",)
