"""Every fuzz target, for ``make test`` and ``make fuzz`` alike."""

from __future__ import annotations

from typing import Any, Final

from tests.fuzz import configuration, devices, frames, messages, requests, statefile, wire
from tests.fuzz.target import Target

TARGETS: Final[tuple[Target[Any, Any], ...]] = (
    configuration.TOML,
    configuration.TOML_BOMBS,
    requests.API,
    wire.HTTP_SPLIT,
    wire.HTTP_BYTES,
    frames.FRAMES,
    frames.SEGMENTS,
    frames.LOOPBACKS,
    devices.DEVICES,
    messages.WORKER_MESSAGES,
    statefile.STATE_FILE,
)
