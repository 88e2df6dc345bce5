"""Streams of events, by curl and by clients that do not read."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from epaird.control.api import streams
from tests.control.control_server import Control, create, serving
from tests.waiting import until, until_closed


def _follow(control: Control, *options: str) -> subprocess.Popen[str]:
    command = ["curl", "-sSN", "--unix-socket", str(control.path), *options, "http://epaird/v1/events"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    until(lambda: control.operations.readers)
    return process


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_events_are_lines_of_json_as_they_happen(control: Control) -> None:
    process = _follow(control)
    create(control)
    event = json.loads(_line(process))
    assert (event["what"], event["interface"], event["detail"]) == ("created", "epair0", "")
    control.curl("/v1/interfaces/epair0", "-X", "DELETE")
    assert json.loads(_line(process))["what"] == "destroyed"
    _end(process)


def test_events_are_server_sent_on_request(control: Control) -> None:
    process = _follow(control, "-H", "accept: text/event-stream")
    create(control)
    assert _line(process) == "event: created\n"
    assert json.loads(_line(process).removeprefix("data: "))["interface"] == "epair0"
    assert _line(process) == "\n"
    _end(process)


@pytest.mark.parametrize(
    ("accept", "first"),
    [
        ("text/event-stream;q=0, */*", "{"),
        ("text/event-stream;q=0.1, application/x-ndjson", "{"),
        ("text/event-stream, application/x-ndjson;q=0.5", "event:"),
        ("application/json", "{"),
    ],
)
def test_the_form_is_the_one_that_is_preferred(control: Control, accept: str, first: str) -> None:
    process = _follow(control, "-H", f"accept: {accept}")
    create(control)
    assert _line(process).startswith(first)
    _end(process)


def test_a_reader_that_disconnects_is_forgotten(control: Control) -> None:
    _end(_follow(control))
    until(lambda: control.operations.readers == 0)


def test_a_slow_reader_loses_events_with_a_count_and_slows_no_other_client(control: Control) -> None:
    deaf = control.connect(b"GET /v1/events HTTP/1.1\r\nhost: epaird\r\n\r\n")
    until(lambda: control.operations.readers)
    published = 0

    def publish() -> None:
        nonlocal published
        for _ in range(100):
            control.operations.bus.publish("up", "epair0a", f"{published:06d}" + "x" * 1000)
            published += 1

    # More than the socket's buffers hold, and the server's.
    for _ in range(40):
        control.on_loop(publish)
        assert control.curl("/v1/cloners").status == 200
    control.on_loop(lambda: asyncio.ensure_future(_close_all(control)))
    text = b""
    while not text.endswith(b"0\r\n\r\n"):
        text += deaf.recv(1 << 20)
    deaf.close()
    events = [json.loads(line) for line in text.split(b"\r\n") if line.startswith(b"{")]
    lost = sum(int(event["detail"]) for event in events if event["what"] == "lost")
    arrived = [int(event["detail"][:6]) for event in events if event["what"] == "up"]
    assert lost > 0
    assert arrived == sorted(arrived)
    assert arrived[-1] == published - 1
    assert len(arrived) + lost == published


async def _close_all(control: Control) -> None:
    for reader in tuple(control.operations.bus._readers):
        await reader.aclose()


def test_more_readers_than_there_is_room_for_are_refused(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "STREAMS_MAX", 2)
    readers = [control.connect(b"GET /v1/events HTTP/1.1\r\nhost: epaird\r\n\r\n") for _ in range(2)]
    for reader in readers:
        assert reader.recv(65536).startswith(b"HTTP/1.1 200")
    refused = control.curl("/v1/events")
    assert (refused.status, refused.problem["errno"]) == (503, "EAGAIN")
    readers.pop().close()
    until(lambda: control.operations.readers < 2)
    readers.append(control.connect(b"GET /v1/events HTTP/1.1\r\nhost: epaird\r\n\r\n"))
    assert readers[-1].recv(65536).startswith(b"HTTP/1.1 200")
    for reader in readers:
        reader.close()


def test_a_reader_of_events_gets_the_end_of_the_stream(tmp_path: Path) -> None:
    with serving(tmp_path / "control.sock") as control:
        reader = control.connect(b"GET /v1/events HTTP/1.1\r\nhost: a\r\n\r\n")
        until(lambda: control.operations.readers)
    text = until_closed(reader)
    assert text.startswith(b"HTTP/1.1 200")
    assert text.endswith(b"0\r\n\r\n")
