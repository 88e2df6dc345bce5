"""A configuration that is saved and read again is the same."""

from __future__ import annotations

import json
import tomllib

from hypothesis import given, settings

from epaird.config.reading import decode, parse
from epaird.config.saving import text
from epaird.config.settings import Configuration
from epaird.plan.diff import plan
from tests.plan.configurations import configurations


@settings(max_examples=50, deadline=None)
@given(configurations())
def test_a_saved_configuration_is_read_back_unchanged(configuration: Configuration) -> None:
    written = text(configuration)
    again = decode(written.encode(), "saved.toml")
    assert again == configuration
    assert parse(json.loads(configuration.model_dump_json())) == configuration
    assert plan(configuration, again).empty


def test_a_plain_address_is_a_text_and_others_are_inline_tables() -> None:
    addresses = ["10.0.0.1/24", {"address": "10.0.0.1/32", "peer": "10.9.0.2", "nodad": True}]
    routes = [{"to": "10.1.0.0/16", "metric": 7}]
    written = text(parse({"epair": {"epair0": {"a": {"addresses": addresses, "routes": routes}}}}))
    assert (
        """[epair.epair0.a]
addresses = [
    "10.0.0.1/24",
    { address = "10.0.0.1/32", peer = "10.9.0.2", nodad = true },
]
routes = [
    { to = "10.1.0.0/16", metric = 7 },
]
"""
        in written
    )


def test_defaults_are_left_out() -> None:
    routes = [{"to": "default", "via": "10.0.0.2"}, {"to": "10.1.0.0/16", "via": "10.0.0.3"}]
    document = {
        "daemon": {"workers": 2, "control_socket": "/run/x.sock", "worker_timeout": 0.0},
        "epair": {"epair0": {"a": {"addresses": ["10.0.0.1/24"], "routes": routes}}, "epair1": {}},
        "lo": {},
    }
    assert tomllib.loads(text(parse(document))) == document
