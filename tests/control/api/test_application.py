"""The application as a whole: its OpenAPI document, unknown paths and internal errors."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.control.control_server import Control, create
from tests.waiting import until


def test_the_document_describes_every_place(control: Control) -> None:
    document = control.curl("/v1/openapi.json").json
    assert set(document["paths"]) == {
        "/v1/interfaces", "/v1/interfaces/{name}", "/v1/interfaces/{name}/peer", "/v1/cloners", "/v1/stats",
        "/v1/workers", "/v1/interfaces/{name}/impairment", "/v1/interfaces/{name}/impairment/log",
        "/v1/interfaces/{name}/impairment/replay",
        "/v1/events", "/v1/upgrade", "/v1/reload", "/v1/plan", "/v1/configuration",
    }  # fmt: skip
    schemas = document["components"]["schemas"]
    assert "mtu" in schemas["HalfSettings"]["properties"]
    text, table = schemas["AddressSettings"]["anyOf"]
    assert text["type"] == "string"
    assert set(table["properties"]) == {"address", "peer", "nodad"}


def test_the_document_describes_every_field_of_the_api(control: Control) -> None:
    schemas = control.curl("/v1/openapi.json").json["components"]["schemas"]
    tables = {
        "PairSettings", "HalfSettings", "LoopbackSettings", "RouteSettings", "LossSettings", "PhaseSettings",
        "ImpairSettings", "CarrierPhase",
    }  # fmt: skip
    for name in schemas.keys() - tables:
        for key, field in schemas[name].get("properties", {}).items():
            assert "description" in field or "$ref" in field, f"{name}.{key}"


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/v1/interfaces/", "/v2/interfaces", "//", "/docs"])
def test_an_unknown_path_is_answered_with_where_to_look(control: Control, path: str) -> None:
    answer = control.curl(path)
    assert (answer.status, answer.problem["errno"]) == (404, "ENOENT")
    assert "/v1/openapi.json" in answer.problem["detail"]


def test_an_unknown_method_is_answered_with_the_known_ones(control: Control) -> None:
    answer = control.curl("/v1/interfaces/epair0", "-X", "POST")
    assert (answer.status, answer.headers["allow"]) == (405, "delete, get, patch")
    assert answer.problem["detail"] == "/v1/interfaces/epair0 takes DELETE, GET, PATCH"


def test_an_internal_error_is_answered_and_logged_and_fails_only_its_own_request(
    control: Control, caplog: pytest.LogCaptureFixture
) -> None:
    control.operations.fails = ZeroDivisionError("sample")
    answer = control.curl("/v1/interfaces", data={"name": "epair"})
    assert (answer.status, answer.problem["errno"]) == (500, "EIO")
    assert "sample" not in answer.body
    until(lambda: "ZeroDivisionError: sample" in caplog.text)
    control.operations.fails = None
    assert create(control) == "epair0"


def test_check_does_not_import_the_api() -> None:
    program = (
        "import sys; from epaird import cli; cli.main(['--version']); cli.main(['check', '/nowhere']);"
        "print(*{'fastapi', 'starlette', 'uvicorn', 'epaird.control.api.application'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1:] == [""]
