"""Checks that a daemon has taken everything down."""

from __future__ import annotations

from pathlib import Path

from tests.control.fake import FakeHost
from tests.loop import has_children


def nothing_left(host: FakeHost, tmp_path: Path) -> bool:
    """Check that no device, namespace, process or file is left."""
    assert host.closed
    assert not host.links
    assert not host.namespaces
    assert not has_children()
    run = tmp_path / "run"
    assert not (list(run.iterdir()) if run.exists() else [])
    return True
