from __future__ import annotations

import json
from typing import get_args

import pytest

from epaird.ipc.encoding import decode, encode
from epaird.ipc.messages import Adopt, CableSpec, Detach, Done, End, Message, PortSpec


def test_every_kind_of_message_has_its_own_name() -> None:
    kinds = get_args(Message)
    assert len({kind.__name__ for kind in kinds}) == len(kinds)


def test_requests_of_protocol_1_keep_exactly_its_fields() -> None:
    """A worker of epaird 0.1.0 dies of a field that it does not know, and of one that is missing."""
    assert json.loads(encode(Adopt(0))) == {"type": "Adopt", "id": 0}
    assert json.loads(encode(Detach(5, "epair0", 1.0))) == {
        "type": "Detach", "id": 5, "cable": "epair0", "patience": 1.0,
    }  # fmt: skip
    assert json.loads(encode(End())) == {"type": "End"}


def test_an_answer_reports_success_by_default() -> None:
    assert decode(b'{"type": "Done", "id": 7}') == Done(7, "")


def test_a_resized_cable_differs_in_its_mtus_only() -> None:
    cable = CableSpec("epair0", (PortSpec("epair0a", 2, 1500), PortSpec("epair0b", 3, 1500, pmtu=False)))
    resized = cable.resized((9000, 1400))
    assert (resized.slots, resized.mtus) == ((2, 3), (9000, 1400))
    assert resized.resized(cable.mtus) == cable
    with pytest.raises(ValueError, match="zip"):
        cable.resized((9000,))
