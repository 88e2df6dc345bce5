"""Fixtures of the tests of the control plane."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from epaird.config.reading import parse
from epaird.config.settings import Configuration
from epaird.control import resources
from tests.control import metrics_server
from tests.control.control_server import Control, serving
from tests.control.fake import FakeHost
from tests.control.samples import pair


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    """Serve the API on a control socket."""
    with serving(tmp_path / "run" / "control.sock") as running:
        yield running


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return a function that returns the warnings and errors logged since its last call."""
    caplog.set_level(logging.INFO)

    def take() -> list[str]:
        lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        caplog.clear()
        return lines

    return take


@pytest.fixture
def page() -> Iterator[metrics_server.Serving]:
    """A running metrics server over an idle pair."""
    with metrics_server.serving(pair) as running:
        yield running


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    """Replace the machine of daemons by a fake one."""
    host = FakeHost()
    monkeypatch.setattr(resources, "Host", lambda _descriptors: host)
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    return host


@pytest.fixture
def configured(tmp_path: Path) -> Callable[..., Configuration]:
    """Return a function that makes a configuration: two namespaces, a pair between them, and other tables."""

    def make(**tables: Any) -> Configuration:  # noqa: ANN401
        document = {
            "daemon": {"workers": 2, "control_socket": str(tmp_path / "run" / "control.sock")},
            "metrics": {"listen": "127.0.0.1:0"},
            "namespaces": {"create": ["red", "blue"]},
            "epair": {
                "epair0": {
                    "a": {"netns": "red", "addresses": ["10.0.0.1/24"]},
                    "b": {"netns": "blue", "addresses": ["10.0.0.2/24"]},
                }
            },
        }
        return parse(document | tables)

    return make


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[int], list[str]]:
    """Return a function that returns the daemon's log lines of a level and above."""
    caplog.set_level(logging.INFO, "epaird")

    def take(level: int = logging.INFO) -> list[str]:
        return [
            record.getMessage()
            for record in caplog.records
            if record.levelno >= level and record.name.startswith("epaird")
        ]

    return take
