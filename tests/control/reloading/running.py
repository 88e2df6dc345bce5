"""A daemon that runs on a machine without a kernel, and its configuration file."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from epaird.control import daemon
from epaird.control.operations import Refused
from epaird.plan.actions import Action
from tests.control.fake import FakeHost

RED = {"netns": "red", "addresses": ["10.0.0.1/24"]}
BLUE = {"netns": "blue", "addresses": ["10.0.0.2/24"], "routes": [{"to": "default", "via": "10.0.0.1"}]}


log_formats: list[str] = []
"""The log format that was set up last."""


class Running:
    """A daemon, its machine and its file."""

    def __init__(self, path: Path, host: FakeHost) -> None:
        self.path = path
        self.host = host
        self.daemon: daemon.Daemon
        self.base: dict[str, Any] = {
            "daemon": {"workers": 1, "control_socket": str(path.parent / "run" / "control.sock")},
            "metrics": {"listen": ""},
            "namespaces": {"create": ["red", "blue"]},
            "epair": {"epair0": {"a": RED, "b": BLUE}},
        }

    def write(self, **tables: Any) -> None:  # noqa: ANN401
        """Write the file: the one of the start with other tables, and other keys of [daemon]."""
        tables["daemon"] = self.base["daemon"] | tables.get("daemon", {})
        self.path.write_text(tomli_w.dumps(self.base | tables))

    async def reload(self, *, dry_run: bool = False, **tables: Any) -> dict[str, str]:  # noqa: ANN401
        """Reload such a file; return the verb of each name."""
        self.write(**tables)
        return verbs(await self.daemon.reloads.reload(dry_run=dry_run))

    async def reload_all(self, **tables: Any) -> tuple[Action, ...]:  # noqa: ANN401
        """Reload such a file; return all actions."""
        self.write(**tables)
        return await self.daemon.reloads.reload()

    async def refused(self, **tables: Any) -> Refused:  # noqa: ANN401
        """Reload such a file; return the refusal."""
        with pytest.raises(Refused) as refused:
            await self.reload(**tables)
        return refused.value

    def state(self) -> dict[str, object]:
        """Return everything that a reload may change, except indices of devices."""
        registry = self.daemon._registry
        return {
            "devices": {
                name: (link.place.name, link.place.netns, replace(link.settings, mac=None), link.carrier)
                for name, link in self.host.links.items()
                if link.settings is not None
            },
            "namespaces": sorted(self.host.namespaces),
            "settings": {pair.name: (pair.settings, pair.origin) for pair in registry.pairs},
            "macs": {half.device: half.mac for half in registry.pairs.ifnets},
            "peers": {half.device: half.peer and half.peer.device for half in registry.pairs.ifnets},
            "workers": [worker.reading().queue_limit for worker in self.daemon._workers],
            "cables": sorted(cable for worker in self.daemon._workers for cable in worker.attachments),
            "level": logging.getLogger().level,
        }

    def carries(self, device: str = "epair0a", to: str = "epair0b") -> Callable[[], bool]:
        """Send a frame; return a function that returns whether it was delivered."""
        receiver = self.host.links[to].owner
        before = len(receiver.receives())
        self.host.links[device].owner.sends()
        return lambda: len(receiver.receives()) > before


Begin = Callable[..., contextlib.AbstractAsyncContextManager[Running]]


def verbs(actions: tuple[Action, ...]) -> dict[str, str]:
    """Return the verb of each name."""
    return {action.name: action.verb for action in actions}


def pair(**settings: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the table of epair0 with other keys."""
    return {"a": RED, "b": BLUE} | settings
