"""Responses that the API's routes have in common, and the refusals that they document."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter
from starlette.responses import Response

from epaird.control.api import problems

T = TypeVar("T")

SCHEMAS: Final = "#/components/schemas/"
"""Place of the models in the OpenAPI document."""

_DESCRIPTIONS: Final = {
    HTTPStatus.BAD_REQUEST: "Not HTTP, or not JSON (EINVAL)",
    HTTPStatus.FORBIDDEN: "Not permitted: never, or only to root and the group epaird (EPERM)",
    HTTPStatus.NOT_FOUND: "No such interface (ENXIO)",
    HTTPStatus.NOT_ACCEPTABLE: "The Accept headers exclude every form of the answer (EINVAL)",
    HTTPStatus.CONFLICT: "The name is taken (EEXIST), or the interface is busy (EBUSY)",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large (EMSGSIZE)",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is not JSON (EINVAL)",
    HTTPStatus.UNPROCESSABLE_ENTITY: "A value is not valid (EINVAL, ENOSPC, ENODEV)",
    HTTPStatus.INTERNAL_SERVER_ERROR: "Internal error, or a worker was lost (EIO)",
    HTTPStatus.SERVICE_UNAVAILABLE: "The machine is out of resources (ENOMEM, EMFILE, EAGAIN), "
    "or the daemon is stopping (ESHUTDOWN)",
}
_ALWAYS: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_ACCEPTABLE,
    HTTPStatus.INTERNAL_SERVER_ERROR,
)
CHANGE_REFUSALS: Final = (
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
"""Statuses with which a change can be refused, besides those of every request."""


def refusals(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI descriptions of the problem documents that a route may answer with."""
    content = {problems.MEDIA_TYPE: {"schema": {"$ref": SCHEMAS + "Problem"}}}
    return {
        int(status): {"description": _DESCRIPTIONS[status], "content": content}
        for status in (*_ALWAYS, *statuses)
    }


def json_response(
    adapter: TypeAdapter[T],
    value: T,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a response with a value as JSON."""
    # FastAPI's own way validates and serializes each of some thousand interfaces.
    return Response(adapter.dump_json(value) + b"\n", status, headers, "application/json")
