"""A control socket for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control.control_server import Control, serving


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    """The API on a control socket of the test's own."""
    with serving(tmp_path / "control.sock") as running:
        yield running
