"""Fixtures of the tests of the control plane."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.control.control_server import Control, serving


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    """The API on a control socket of the test's own."""
    with serving(tmp_path / "run" / "control.sock") as running:
        yield running


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the warnings and errors that were logged since the last call."""
    caplog.set_level(logging.INFO)

    def take() -> list[str]:
        lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        caplog.clear()
        return lines

    return take
