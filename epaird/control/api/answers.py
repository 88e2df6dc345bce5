"""What the routes of the API have in common: how they answer, and which refusals they announce."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter
from starlette.responses import Response

from epaird.control.api import problems

T = TypeVar("T")

SCHEMAS: Final = "#/components/schemas/"
"""Where the OpenAPI document has its models."""

_WHY: Final = {
    HTTPStatus.BAD_REQUEST: "Not HTTP, or not JSON (EINVAL)",
    HTTPStatus.FORBIDDEN: "Neither root nor of the group epaird, or never allowed (EPERM)",
    HTTPStatus.NOT_FOUND: "No such interface (ENXIO)",
    HTTPStatus.CONFLICT: "The name is taken (EEXIST), or the interface is busy (EBUSY)",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large (EMSGSIZE)",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is not JSON (EINVAL)",
    HTTPStatus.UNPROCESSABLE_ENTITY: "A value that cannot be (EINVAL, ENOSPC, ENODEV)",
    HTTPStatus.INTERNAL_SERVER_ERROR: "A bug of ours, or a worker is lost (EIO)",
    HTTPStatus.SERVICE_UNAVAILABLE: "The machine has no more to give (ENOMEM, EMFILE, EAGAIN), "
    "or the daemon is stopping (ESHUTDOWN)",
}
_ALWAYS: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.INTERNAL_SERVER_ERROR)
OF_CHANGES: Final = (
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
"""What a change of something may be refused with, beside what anything may."""


def refusals(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """The problem documents that an operation may answer with."""
    content = {problems.MEDIA_TYPE: {"schema": {"$ref": SCHEMAS + "Problem"}}}
    return {
        int(status): {"description": _WHY[status], "content": content} for status in (*_ALWAYS, *statuses)
    }


def answer(
    adapter: TypeAdapter[T],
    value: T,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A value as JSON."""
    # Not FastAPI's own way, which would look at each of some thousand interfaces twice.
    return Response(adapter.dump_json(value) + b"\n", status, headers, "application/json")
