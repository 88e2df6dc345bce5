"""Changes by clients: they are logged, and survive their client."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from epaird.control.api import server as apiserver
from tests.control.control_server import Control, create, serving
from tests.waiting import DEADLINE_S, until, until_closed


def test_every_change_is_logged_with_its_uid(control: Control, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "epaird")
    uid = Path("/proc/self").stat().st_uid
    create(control, "epair", a={"mtu": 9000})
    control.curl("/v1/interfaces/epair0a", "-X", "PATCH", data={"mtu": 1400, "up": False})
    control.curl("/v1/interfaces/epair0a/peer", "-X", "PUT", data={"peer": "epair0b", "force": True})
    control.curl("/v1/interfaces/epair0a/peer", "-X", "DELETE")
    control.curl("/v1/interfaces/epair0", "-X", "DELETE")
    control.curl("/v1/reload", data={})
    control.curl("/v1/upgrade", "-X", "POST")
    for path in ("/v1/interfaces", "/v1/stats", "/v1/interfaces/nix"):
        control.curl(path)
    assert caplog.messages == [
        f'epair0: created a={{"mtu": 9000}}, by uid {uid}',
        f"epair0a: set mtu=1400 up=false, by uid {uid}",
        f"epair0a: patched into epair0b, by uid {uid}",
        f"epair0a: unpatched, by uid {uid}",
        f"epair0: destroyed, by uid {uid}",
        f"configuration: reloaded, by uid {uid}",
        f"epaird: upgrading, by uid {uid}",
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


def test_a_client_that_disconnects_does_not_stop_its_change(control: Control) -> None:
    control.on_loop(control.operations.gate.clear)
    body = b'{"name": "epair5"}'
    control.connect(b"POST /v1/interfaces HTTP/1.1\r\nhost: a\r\ncontent-length: 18\r\n\r\n" + body).close()
    until(lambda: control.operations.waiting == 1)
    control.on_loop(control.operations.gate.set)
    until(lambda: control.operations.requested == [("create", "epair5", {})])


def test_a_change_without_time_before_the_daemons_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apiserver, "LIMITS", replace(apiserver.LIMITS, stop_seconds=0.05))
    with serving(tmp_path / "control.sock") as control:
        control.on_loop(control.operations.gate.clear)
        change = control.connect(b"DELETE /v1/interfaces/nix HTTP/1.1\r\nhost: a\r\n\r\n")
        until(lambda: control.operations.waiting == 1)
    until_closed(change)


def test_requests_that_come_too_late_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apiserver, "LIMITS", replace(apiserver.LIMITS, stop_seconds=DEADLINE_S))
    with serving(tmp_path / "control.sock") as control:
        control.on_loop(control.operations.gate.clear)
        change = control.connect(b"DELETE /v1/interfaces/nix HTTP/1.1\r\nhost: a\r\n\r\n")
        half = control.connect(b"DELETE /v1/interfaces/nix HTTP/1.1\r\nhost: a\r\n")
        until(lambda: control.operations.waiting == 1)
        late = control.connect(b"DELETE /v1/interfaces/nix HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n")
        until(lambda: control.on_loop(lambda: len(control.server.connections)) == 3)
        control.stop_soon()
        until(lambda: not control.path.exists())
        late.sendall(b"x")
        answer = until_closed(late)
        control.on_loop(control.operations.gate.set)
        assert until_closed(change).startswith(b"HTTP/1.1 404")
    assert until_closed(half) == b""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503")
    assert json.loads(body)["errno"] == "ESHUTDOWN"
