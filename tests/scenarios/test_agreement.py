"""The kernel accepts every value that the configuration permits."""

from __future__ import annotations

import pytest

from epaird.config.reading import InvalidConfiguration, parse
from epaird.control.tasks import together
from epaird.kernel.errors import KernelError
from tests.scenarios.agreement import Document, documents
from tests.scenarios.control_plane import ControlPlane, control_plane, on_loop_in_lab
from tests.scenarios.lab import Lab

pytestmark = pytest.mark.real


async def refusal(plane: ControlPlane, document: Document) -> str:
    """Create what a configuration has; return why the kernel refuses it, or nothing."""
    try:
        configuration = parse(document)
    except InvalidConfiguration:
        return ""
    try:
        await together(*(
            plane.registry.create(name, settings)
            for name, settings in configuration.settings_by_name().items()
            if name != "lo0"
        ))  # fmt: skip
    except KernelError as error:
        return f"{document}: {error}"
    finally:
        await together(*(plane.registry.destroy(clone) for clone in plane.registry if clone.name != "lo0"))
    return ""


@on_loop_in_lab
async def test_the_kernel_accepts_what_the_check_passes(lab: Lab) -> None:
    async with control_plane(lab, loopbacks=False) as plane:
        refused = [found for each in documents() if (found := await refusal(plane, each))]
    assert not refused, "\n".join(refused)
