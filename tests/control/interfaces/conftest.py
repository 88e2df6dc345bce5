"""Fixtures of the tests of interfaces."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the warnings and errors that were logged since the last call."""
    caplog.set_level(logging.INFO)

    def take() -> list[str]:
        lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        caplog.clear()
        return lines

    return take
