"""Problem documents of RFC 9457, with which the API refuses requests.

Each has the name of an errno, as the BSDs' manual pages do. All errors of one request are reported at once,
each with its key.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel, Field
from starlette.responses import Response

from epaird.config.reading import REPORTED_MAX
from epaird.config.values import dotted
from epaird.control.operations import Refused
from epaird.kernel.errors import KernelError
from epaird.names.grammar import shown

MEDIA_TYPE: Final = "application/problem+json"

STATUSES: Final[Mapping[int, HTTPStatus]] = {
    errno.EACCES: HTTPStatus.FORBIDDEN,
    errno.EPERM: HTTPStatus.FORBIDDEN,
    errno.ENOENT: HTTPStatus.NOT_FOUND,
    errno.ENXIO: HTTPStatus.NOT_FOUND,
    errno.EBUSY: HTTPStatus.CONFLICT,
    errno.EEXIST: HTTPStatus.CONFLICT,
    errno.EAFNOSUPPORT: HTTPStatus.UNPROCESSABLE_ENTITY,
    errno.EINVAL: HTTPStatus.UNPROCESSABLE_ENTITY,
    errno.ENOEXEC: HTTPStatus.UNPROCESSABLE_ENTITY,
    errno.ENODEV: HTTPStatus.UNPROCESSABLE_ENTITY,
    errno.ENOSPC: HTTPStatus.UNPROCESSABLE_ENTITY,
    errno.EOPNOTSUPP: HTTPStatus.UNPROCESSABLE_ENTITY,
    errno.EAGAIN: HTTPStatus.SERVICE_UNAVAILABLE,
    errno.EMFILE: HTTPStatus.SERVICE_UNAVAILABLE,
    errno.ENFILE: HTTPStatus.SERVICE_UNAVAILABLE,
    errno.ENOBUFS: HTTPStatus.SERVICE_UNAVAILABLE,
    errno.ENOMEM: HTTPStatus.SERVICE_UNAVAILABLE,
    errno.ESHUTDOWN: HTTPStatus.SERVICE_UNAVAILABLE,
    errno.EIO: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""HTTP status by errno; any other errno is a conflict with the machine's state."""

_ERRNOS: Final[Mapping[int, int]] = {
    HTTPStatus.BAD_REQUEST: errno.EINVAL,
    HTTPStatus.NOT_FOUND: errno.ENOENT,
    HTTPStatus.METHOD_NOT_ALLOWED: errno.EOPNOTSUPP,
    HTTPStatus.NOT_ACCEPTABLE: errno.EINVAL,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: errno.EMSGSIZE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: errno.EINVAL,
}
"""Errno by HTTP status, for errors of the HTTP request itself; any other status is EIO."""


class KeyProblem(BaseModel):
    """One of several errors of a request."""

    key: str = Field(
        description="Key of the value; empty in a last entry with the number of further errors.",
        examples=["settings.a.mtu"],
    )
    detail: str = Field(
        description="The error, and what is allowed.", examples=["70000 is more than a TAP's 65521"]
    )


class Problem(BaseModel):
    """A problem document of RFC 9457."""

    type: str = Field(default="about:blank", description="Always `about:blank`.")
    title: str = Field(description="Phrase of the HTTP status.", examples=["Conflict"])
    status: int = Field(description="HTTP status.", examples=[409])
    detail: str = Field(description="One line for the user.", examples=["epair7: exists already"])
    errno: str = Field(description="Name of the error.", examples=["EEXIST"])
    errors: list[KeyProblem] = Field(default=[], description="Each error, if values or keys were refused.")


@dataclass(frozen=True, slots=True)
class InvalidKey:
    """A key of the request whose value is refused."""

    key: str
    """Key, with dots: ``settings.a.mtu``; empty for the number of further errors."""
    detail: str
    """The error, and what is allowed."""

    def __str__(self) -> str:
        return f"{self.key}: {self.detail}" if self.key else self.detail


def problem(
    status: int,
    code: int,
    detail: str,
    *,
    errors: Sequence[InvalidKey] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a response with a problem document."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": detail,
        "errno": errno.errorcode.get(code, str(code)),
    }
    if errors:
        document["errors"] = [{"key": each.key, "detail": each.detail} for each in errors]
    # In ASCII: a message may quote a lone surrogate of the request, which UTF-8 cannot encode.
    body = json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n"
    return Response(body, status, headers, MEDIA_TYPE)


def of_refusal(refusal: Refused) -> Response:
    """Return the response to a refused operation."""
    parts = [each.partition(": ") for each in refusal.problems]
    errors = [InvalidKey(key if colon else "", detail if colon else key) for key, colon, detail in parts]
    return _of_errno(refusal.errno, str(refusal), errors)


def of_body(refusal: Refused, key: str) -> Response:
    """Return the response to an operation that is refused because of a key of the request's body."""
    errors = [InvalidKey(key, str(refusal))]
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, refusal.errno, str(refusal), errors=errors)


def of_kernel(error: KernelError) -> Response:
    """Return the response after an error of the kernel."""
    return _of_errno(error.errno, str(error), ())


def _of_errno(code: int, detail: str, errors: Sequence[InvalidKey]) -> Response:
    return problem(STATUSES.get(code, HTTPStatus.CONFLICT), code, detail, errors=errors)


def of_status(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response to an invalid HTTP request."""
    return problem(status, _ERRNOS.get(status, errno.EIO), detail, headers=headers)


def of_validation(found: Iterable[Mapping[str, Any]]) -> Response:
    """Return the response to a request with errors that pydantic ``found``."""
    found = list(found)
    syntax = next((each for each in found if each["type"] == "json_invalid"), None)
    if syntax is not None:
        why, place = syntax["ctx"]["error"], syntax["loc"][-1]
        return of_status(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {why} at character {place}")
    errors = [_invalid_key(each) for each in found[:REPORTED_MAX]]
    if (further := len(found) - len(errors)) > 0:
        errors.append(InvalidKey("", f"and {further:,} more errors"))
    detail = "; ".join(map(str, errors))
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, errno.EINVAL, detail, errors=errors)


_DETAILS: Final = {
    "missing": "is missing",
    "string_type": "{} is not text",
    "bool_type": "{} is not true or false",
    "dict_type": "{} is not an object",
    "model_attributes_type": "{} is not an object",
    "extra_forbidden": "unknown key",
}
"""Details by pydantic's type of error; {} is the value."""


def _invalid_key(error: Mapping[str, Any]) -> InvalidKey:
    place, *location = error["loc"]
    key = dotted(tuple(location)) or str(place)
    value = error.get("input")
    detail = _DETAILS.get(error["type"])
    if error["type"] == "value_error":  # one of ours, which repeats the value
        return InvalidKey(key, str(error["ctx"]["error"]))
    if detail is None:
        return InvalidKey(key, f"{shown(value)}: {error['msg']}")
    return InvalidKey(key, detail.format(_json_words(value)))


def _json_words(value: object) -> str:
    """Return a value in the words of JSON."""
    match value:
        case None:
            return "null"
        case dict():
            return "an object"
        case _:
            return shown(value)
