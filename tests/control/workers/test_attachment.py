"""A cable for a worker, and the refusal of a request."""

from __future__ import annotations

import errno

from epaird.control.workers.attachment import Attachment, WorkerRefused
from epaird.ipc.messages import CableSpec, PortSpec


def test_an_attachment_has_the_name_of_its_cable() -> None:
    spec = CableSpec("epair0", (PortSpec("epair0a", 1, 1500), PortSpec("epair0b", 2, 1500)))
    assert Attachment(spec, (7, 8)).cable == "epair0"


def test_a_refusal_without_a_number_is_an_io_error() -> None:
    assert WorkerRefused("no").errno == errno.EIO
    assert WorkerRefused("too many files", errno.EMFILE).errno == errno.EMFILE
    assert str(WorkerRefused("no")) == "no"
