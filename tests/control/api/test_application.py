"""The API by curl, as a user asks it, over operations without interfaces."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from epaird.control.api import guard, streams
from epaird.control.operations import Refused
from epaird.control.readings import Reading
from epaird.kernel.errors import KernelError
from epaird.plan.actions import Action, Detail
from tests.control.control_server import Control
from tests.waiting import DEADLINE_S, until


def create(control: Control, name: str = "epair", **settings: object) -> str:
    """Make an interface; its name."""
    answer = control.curl("/v1/interfaces", data={"name": name, "settings": settings})
    assert answer.status == 201
    made = answer.json["name"]
    assert isinstance(made, str)
    return made


# What can be done


def test_created_by_kind_it_gets_the_lowest_number_and_has_a_place(control: Control) -> None:
    answer = control.curl("/v1/interfaces", data={"name": "epair"})
    assert (answer.status, answer.json) == (201, {"name": "epair0"})
    assert answer.headers["location"] == "/v1/interfaces/epair0"
    assert control.curl(answer.headers["location"]).status == 200
    assert create(control) == "epair1"


def test_settings_arrive_as_they_were_said(control: Control) -> None:
    settings = {"a": {"mtu": 9000, "netns": "r\u00e9d", "addresses": ["10.0.0.1/24"]}, "queues": 2}
    create(control, "epair7", **settings)
    assert control.operations.asked == [("create", "epair7", settings)]


def test_list_has_every_interface_or_those_of_a_kind(control: Control) -> None:
    assert control.curl("/v1/interfaces").json == []
    create(control)
    create(control, "lo1")
    found = control.curl("/v1/interfaces").json
    assert [(each["device"], each["kind"]) for each in found] == [
        ("epair0a", "epair"), ("epair0b", "epair"), ("lo1", "lo"),
    ]  # fmt: skip
    assert [each["device"] for each in control.curl("/v1/interfaces?kind=lo").json] == ["lo1"]
    unknown = control.curl("/v1/interfaces?kind=tap")
    assert (unknown.status, unknown.problem["errno"]) == (422, "EINVAL")
    assert unknown.problem["detail"] == "kind: tap is none of epair, lo"


def test_show_has_one_interface_or_both_halves_with_counters(control: Control) -> None:
    create(control)
    assert [each["device"] for each in control.curl("/v1/interfaces/epair0").json] == ["epair0a", "epair0b"]
    (half,) = control.curl("/v1/interfaces/epair0b").json
    assert half["device"] == "epair0b"
    assert half["stats"]["opackets"] == 0
    assert half["stats"]["oerrors"]["peer_down"] == 0


def test_change_answers_with_what_it_is_now(control: Control) -> None:
    create(control)
    answer = control.curl("/v1/interfaces/epair0a", "-X", "PATCH", data={"mtu": 9000, "up": False})
    assert answer.status == 200
    assert [(each["device"], each["mtu"], each["up"]) for each in answer.json] == [("epair0a", 9000, False)]


def test_destroyed_it_is_gone(control: Control) -> None:
    create(control)
    answer = control.curl("/v1/interfaces/epair0b", "-X", "DELETE")
    assert (answer.status, answer.body) == (204, "")
    assert control.curl("/v1/interfaces/epair0").status == 404


def test_patch_and_unpatch(control: Control) -> None:
    create(control)
    create(control)
    busy = control.curl("/v1/interfaces/epair0a/peer", "-X", "PUT", data={"peer": "epair1b"})
    assert (busy.status, busy.problem["errno"]) == (409, "EBUSY")
    force = {"peer": "epair1b", "force": True}
    assert control.curl("/v1/interfaces/epair0a/peer", "-X", "PUT", data=force).status == 204
    assert control.curl("/v1/interfaces/epair0a/peer", "-X", "DELETE").status == 204
    assert control.operations.asked[2:] == [("patch", "epair0a", "epair1b", True), ("unpatch", "epair0a")]


def test_cloners(control: Control) -> None:
    assert control.curl("/v1/cloners").json == ["epair", "lo"]


def test_statistics_are_of_one_moment_of_a_clock_that_runs(control: Control) -> None:
    create(control)
    first, second = (control.curl("/v1/stats").json for _ in range(2))
    assert second["time"] > first["time"]
    assert [each["device"] for each in first["interfaces"]] == ["epair0a", "epair0b"]
    assert first["workers"][0]["queue_limit"] == 2100


def test_the_daemon_is_upgraded(control: Control) -> None:
    assert control.curl("/v1/upgrade", "-X", "POST").status == 204
    assert control.operations.asked == [("upgrade",)]
    control.operations.fails = Refused(errno.ENOEXEC, "not upgraded: no module named epaird")
    answer = control.curl("/v1/upgrade", "-X", "POST")
    assert (answer.status, answer.json["errno"]) == (422, "ENOEXEC")


def test_the_document_describes_every_place(control: Control) -> None:
    document = control.curl("/v1/openapi.json").json
    assert set(document["paths"]) == {
        "/v1/interfaces", "/v1/interfaces/{name}", "/v1/interfaces/{name}/peer", "/v1/cloners", "/v1/stats",
        "/v1/events", "/v1/upgrade", "/v1/reload", "/v1/plan", "/v1/configuration",
    }  # fmt: skip
    assert "mtu" in document["components"]["schemas"]["HalfSettings"]["properties"]


def test_a_body_without_a_content_type_is_json(control: Control) -> None:
    data = {"name": "epair"}
    for kind in ("content-type:", "content-type: application/json; charset=utf-8"):
        assert control.curl("/v1/interfaces", "-H", kind, data=data).status == 201


# What cannot


@pytest.mark.parametrize(
    ("code", "status", "name"),
    [
        (errno.EEXIST, 409, "EEXIST"),
        (errno.EBUSY, 409, "EBUSY"),
        (errno.ENXIO, 404, "ENXIO"),
        (errno.EINVAL, 422, "EINVAL"),
        (errno.ENOSPC, 422, "ENOSPC"),
        (errno.ENODEV, 422, "ENODEV"),
        (errno.EPERM, 403, "EPERM"),
        (errno.ENOMEM, 503, "ENOMEM"),
        (errno.EMFILE, 503, "EMFILE"),
        (errno.EADDRINUSE, 409, "EADDRINUSE"),
    ],
)
def test_a_refusal_is_a_problem_document_with_the_errno(
    control: Control, code: int, status: int, name: str
) -> None:
    control.operations.fails = Refused(code, "epair7: no, \u201cnever\u201d")
    answer = control.curl("/v1/interfaces", data={"name": "epair7"})
    assert (answer.status, answer.problem["errno"]) == (status, name)
    assert answer.problem["detail"] == "epair7: no, \u201cnever\u201d"
    assert answer.problem["type"] == "about:blank"


def test_every_key_that_is_wrong_is_named(control: Control) -> None:
    answer = control.curl("/v1/interfaces", data={"nam": "epair", "settings": 3})
    assert (answer.status, answer.problem["errno"]) == (422, "EINVAL")
    assert answer.problem["errors"] == [
        {"key": "name", "detail": "is missing"},
        {"key": "settings", "detail": "3 is not an object"},
        {"key": "nam", "detail": "unknown key"},
    ]
    assert answer.problem["detail"] == "name: is missing; settings: 3 is not an object; nam: unknown key"


def test_every_setting_that_is_wrong_is_named(control: Control) -> None:
    settings = {"a": {"mtu": 1}, "queue": 3}
    answer = control.curl("/v1/interfaces", data={"name": "epair", "settings": settings})
    assert (answer.status, answer.problem["errno"]) == (422, "EINVAL")
    assert [each["key"] for each in answer.problem["errors"]] == ["a.mtu", "queue"]


def test_what_the_machine_does_not_tell_is_a_problem_too(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read() -> Reading:
        raise KernelError(errno.ENOBUFS, "the kernel has no room for the answer")

    monkeypatch.setattr(control.operations, "reading", read)
    answer = control.curl("/v1/stats")
    assert (answer.status, answer.problem["errno"]) == (503, "ENOBUFS")


@pytest.mark.parametrize(
    ("data", "status", "detail"),
    [
        ("", 422, "body: is missing"),
        ("[]", 422, "body: a list is not an object"),
        ("null", 422, "body: null is not an object"),
        ('{"name": 5}', 422, "name: 5 is not text"),
        ('{"name": "\\ud800"}', 422, '"\\ud800" is not a name, as in "epair0"'),
        ('{"name": ', 400, "the body is not JSON: Expecting value at character 9"),
        ("[" * 100_000, 400, "the body cannot be read as JSON"),
        ('{"name": ' + "9" * 5000 + "}", 400, "the body cannot be read as JSON"),
        (b'{"name": "\xff"}'.decode("latin-1"), 422, '"\u00ff" is not a name, as in "epair0"'),
    ],
)
def test_what_is_no_request_is_told_what_is_wrong(
    control: Control, tmp_path: Path, data: str, status: int, detail: str
) -> None:
    file = tmp_path / "body"
    file.write_text(data)
    answer = control.curl("/v1/interfaces", "--data-binary", f"@{file}")
    assert (answer.status, answer.problem["errno"]) == (status, "EINVAL")
    assert answer.problem["detail"].replace("the body is missing", "body: is missing") == detail


def test_bytes_that_are_not_utf8_are_not_json(control: Control, tmp_path: Path) -> None:
    file = tmp_path / "body"
    file.write_bytes(b'{"name": "\xff"}')
    answer = control.curl("/v1/interfaces", "--data-binary", f"@{file}")
    assert (answer.status, answer.problem["detail"]) == (400, "the body cannot be read as JSON")


@pytest.mark.parametrize("name", ["nix", "epair0a%0aroot", "%ff", "%F0%9F%92%A9", "..%2f"])
def test_an_unknown_name_is_not_found(control: Control, name: str) -> None:
    for method in ("GET", "DELETE"):
        answer = control.curl(f"/v1/interfaces/{name}", "--path-as-is", "-X", method)
        assert answer.status == 404
        assert answer.problem["errno"] in ("ENXIO", "ENOENT")


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/v1/interfaces/", "/v2/interfaces", "//", "/docs"])
def test_an_unknown_place_is_told_where_the_places_are(control: Control, path: str) -> None:
    answer = control.curl(path)
    assert (answer.status, answer.problem["errno"]) == (404, "ENOENT")
    assert "/v1/openapi.json" in answer.problem["detail"]


def test_a_method_that_is_not_there_is_told_which_are(control: Control) -> None:
    answer = control.curl("/v1/interfaces/epair0", "-X", "POST")
    assert (answer.status, answer.headers["allow"]) == (405, "delete, get, patch")
    assert answer.problem["detail"] == "/v1/interfaces/epair0 takes DELETE, GET, PATCH"


def test_another_content_type_is_refused(control: Control) -> None:
    answer = control.curl("/v1/interfaces", "-H", "content-type: text/toml", data="name = 1")
    assert (answer.status, answer.problem["detail"]) == (415, "the body is not application/json")


def test_what_is_not_http_is_a_problem_document_too(control: Control) -> None:
    with control.connect(b"hello\r\n\r\n") as connection:
        head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert b"application/problem+json" in head
    assert json.loads(body)["errno"] == "EINVAL"


def test_a_bug_of_ours_is_told_and_logged_and_costs_only_its_own_answer(
    control: Control, caplog: pytest.LogCaptureFixture
) -> None:
    control.operations.fails = ZeroDivisionError("of ours")
    answer = control.curl("/v1/interfaces", data={"name": "epair"})
    assert (answer.status, answer.problem["errno"]) == (500, "EIO")
    assert "of ours" not in answer.body
    until(lambda: "ZeroDivisionError: of ours" in caplog.text)
    control.operations.fails = None
    assert create(control) == "epair0"


# Who did what


def test_every_change_is_logged_with_its_uid(control: Control, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "epaird")
    uid = Path("/proc/self").stat().st_uid
    create(control, "epair", a={"mtu": 9000})
    control.curl("/v1/interfaces/epair0a", "-X", "PATCH", data={"mtu": 1400, "up": False})
    control.curl("/v1/interfaces/epair0a/peer", "-X", "PUT", data={"peer": "epair0b", "force": True})
    control.curl("/v1/interfaces/epair0a/peer", "-X", "DELETE")
    control.curl("/v1/interfaces/epair0", "-X", "DELETE")
    for path in ("/v1/interfaces", "/v1/stats", "/v1/interfaces/nix"):
        control.curl(path)
    assert caplog.messages == [
        f'epair0: created a={{"mtu": 9000}}, by uid {uid}',
        f"epair0a: set mtu=1400 up=false, by uid {uid}",
        f"epair0a: patched into epair0b, by uid {uid}",
        f"epair0a: unpatched, by uid {uid}",
        f"epair0: destroyed, by uid {uid}",
    ]


def test_a_line_of_the_log_stays_one_line(control: Control, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "epaird")
    create(control)
    control.curl("/v1/interfaces/epair0%0alo0:%20destroyed", "-X", "DELETE")
    control.curl("/v1/interfaces/epair0a", "-X", "PATCH", data={"x\ny" * 1000: "\n" * 1000, "b": "\x1b[2J"})
    control.curl("/v1/interfaces/epair0a/peer", "-X", "PUT", data={"peer": "\n", "force": True})
    assert len(caplog.messages) >= 3
    for line in caplog.messages:
        assert line.isprintable()
        assert len(line) < 700


# Events


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


def test_events_are_server_sent_for_those_who_ask(control: Control) -> None:
    process = _follow(control, "-H", "accept: text/event-stream")
    create(control)
    assert _line(process) == "event: created\n"
    assert json.loads(_line(process).removeprefix("data: "))["interface"] == "epair0"
    assert _line(process) == "\n"
    _end(process)


def test_a_reader_that_goes_is_forgotten(control: Control) -> None:
    _end(_follow(control))
    until(lambda: control.operations.readers == 0)


def test_a_slow_reader_loses_events_with_a_count_and_slows_nobody(control: Control) -> None:
    deaf = control.connect(b"GET /v1/events HTTP/1.1\r\nhost: epaird\r\n\r\n")
    until(lambda: control.operations.readers)
    told = 0

    def tell() -> None:
        nonlocal told
        for _ in range(100):
            control.operations.bus.publish("up", "epair0a", f"{told:06d}" + "x" * 1000)
            told += 1

    # More than the socket's buffers hold, and the server's.
    for _ in range(40):
        control.on_loop(tell)
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
    assert arrived[-1] == told - 1
    assert len(arrived) + lost == told


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


# What it costs


def test_check_does_not_pay_for_the_api() -> None:
    program = (
        "import sys; from epaird import cli; cli.main(['--version']); cli.main(['check', '/nowhere']);"
        "print(*{'fastapi', 'starlette', 'uvicorn', 'epaird.control.api.application'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1:] == [""]


def test_the_bound_of_a_body_is_far_above_what_settings_take(control: Control) -> None:
    addresses: list[Any] = [f"10.{high}.{low}.1/24" for high in range(4) for low in range(250)]
    settings = {"addresses": addresses, "routes": []}
    data = {"name": "epair", "settings": {"a": settings, "b": settings}}
    assert len(json.dumps(data)) < guard.BODY_MAX / 5
    assert control.curl("/v1/interfaces", "--max-time", str(DEADLINE_S), data=data).status == 201


# The configuration as a whole


ACTIONS = (
    Action("create", "epair", "epair1", (Detail("a.mtu", "", "9000"),)),
    Action("adopt", "lo", "lo1"),
)


def test_a_reload_answers_with_what_it_did_and_a_dry_run_with_what_it_would(control: Control) -> None:
    control.reloads.actions = ACTIONS
    answer = control.curl("/v1/reload", data={})
    assert answer.status == 200
    assert answer.json["changes"] is True
    assert answer.json["actions"][0] == {
        "verb": "create", "kind": "epair", "name": "epair1", "note": "",
        "details": [{"key": "a.mtu", "old": "", "new": "9000", "note": ""}],
    }  # fmt: skip
    control.reloads.actions = ACTIONS[1:]
    assert control.curl("/v1/reload", data={"dry_run": True}).json["changes"] is False
    assert control.reloads.asked == [("reload", False), ("reload", True)]


def test_everything_wrong_with_a_file_is_told_by_key(control: Control) -> None:
    control.reloads.problems = ("epair.epair0.a.mtu: 1 is less", "daemon.workers: 0 is less")
    for path, data in (("/v1/reload", {}), ("/v1/plan", {"text": "x"})):
        answer = control.curl(path, data=data)
        assert (answer.status, answer.problem["errno"]) == (422, "EINVAL")
        assert [each["key"] for each in answer.problem["errors"]] == ["epair.epair0.a.mtu", "daemon.workers"]


def test_a_plan_is_of_the_text_that_was_sent(control: Control) -> None:
    assert control.curl("/v1/plan", data={"text": "[lo]\n", "name": "x.toml"}).json == {
        "changes": False, "actions": [],
    }  # fmt: skip
    assert control.reloads.asked == [("plan", "[lo]\n", "x.toml")]


def test_the_configuration_is_toml(control: Control) -> None:
    answer = control.curl("/v1/configuration")
    assert answer.headers["content-type"] == "application/toml"
    assert answer.body == "# r\u00e9d\n[epair.epair0]\n"
