"""The API conforms to its OpenAPI document: schemathesis finds nothing."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.control.control_server import Control

EXAMPLES = int(os.environ.get("EPAIRD_SCHEMATHESIS_EXAMPLES", "25"))
"""Test cases for each operation."""

CONFIGURATION = f"""
[generation]
max-examples = {EXAMPLES}

[checks.positive_data_acceptance]
# A name or a value may have the right form and still be invalid: epair07, an MTU of 1.
expected-statuses = ["2xx", "404", "409", "422", "403"]

[[operations]]
include-path = "/v1/interfaces/{{name}}/impairment"
# Every interface has one: DELETE removes its keys, and GET then shows that nothing is impaired.
checks.use_after_free.enabled = false
"""


async def _bridge(control: Control) -> asyncio.Server:
    """Return a TCP port that leads to the control socket, because schemathesis needs one."""

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await asyncio.open_unix_connection(str(control.path))
        await asyncio.gather(pipe(reader, upstream[1]), pipe(upstream[0], writer))

    return await asyncio.start_server(connected, "127.0.0.1", 0)


def test_schemathesis_finds_nothing(control: Control, tmp_path: Path) -> None:
    control.operations.events_end = True
    for name in ("epair0", "epair1", "lo0"):
        asyncio.run_coroutine_threadsafe(control.operations.create(name, {}), control.loop).result()
    bridge = asyncio.run_coroutine_threadsafe(_bridge(control), control.loop).result()
    port = bridge.sockets[0].getsockname()[1]
    file = tmp_path / "schemathesis.toml"
    file.write_text(CONFIGURATION)
    url = f"http://127.0.0.1:{port}"
    try:
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(file),
                "run", f"{url}/v1/openapi.json", "--url", url, "--checks", "all", "--max-failures", "5",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )  # fmt: skip
    finally:
        control.on_loop(bridge.close)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Test cases:\n +(\d+) generated, \1 passed\n", done.stdout), done.stdout
    assert "Operations:       21 selected / 21 total" in done.stdout
