"""Bodies of requests are strict."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from epaird.control.api.bodies import CreateRequest, PatchRequest, PlanRequest, ReloadRequest, RequestBody


@pytest.mark.parametrize(
    ("body", "document", "expected"),
    [
        (CreateRequest, {"name": "epair"}, {"name": "epair", "settings": {}}),
        (PatchRequest, {"peer": "epair0a"}, {"peer": "epair0a", "force": False}),
        (ReloadRequest, {}, {"dry_run": False}),
        (PlanRequest, {"text": ""}, {"text": "", "name": "the file"}),
    ],
)
def test_omitted_keys_have_their_defaults(
    body: type[RequestBody], document: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert body.model_validate(document).model_dump() == expected


@pytest.mark.parametrize(
    ("body", "document", "error"),
    [
        (CreateRequest, {}, "missing"),
        (CreateRequest, {"name": 7}, "string_type"),
        (PatchRequest, {"peer": "epair0a", "force": 1}, "bool_type"),
        (ReloadRequest, {"dry-run": True}, "extra_forbidden"),
        (PlanRequest, {"text": b""}, "string_type"),
    ],
)
def test_another_key_or_type_is_an_error(
    body: type[RequestBody], document: dict[str, Any], error: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        body.model_validate(document)
    assert [each["type"] for each in caught.value.errors()] == [error]
