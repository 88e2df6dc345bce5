"""What a client of the API is told when it cannot have what it asks for: RFC 9457 problem documents.

Each carries the name of an errno, as the manual pages of the BSDs have it; several things that are
wrong with one request are told at once, each with its key.
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

from epaird.config.values import dotted, shown
from epaird.control.operations import Refused
from epaird.kernel.errors import KernelError

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
"""By errno; whatever else the machine says is a conflict with its state."""

_ERRNOS: Final[Mapping[int, int]] = {
    HTTPStatus.BAD_REQUEST: errno.EINVAL,
    HTTPStatus.NOT_FOUND: errno.ENOENT,
    HTTPStatus.METHOD_NOT_ALLOWED: errno.EOPNOTSUPP,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: errno.EMSGSIZE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: errno.EINVAL,
}
"""Of what is wrong with the HTTP itself; anything else is EIO."""


class KeyProblem(BaseModel):
    """One of several things wrong with a request."""

    key: str = Field(examples=["settings.a.mtu"])
    """Where."""
    detail: str = Field(examples=["70000 is more than a TAP's 65521"])
    """What, and what is allowed."""


class Problem(BaseModel):
    """A problem document of RFC 9457."""

    type: str = "about:blank"
    title: str = Field(examples=["Conflict"])
    status: int = Field(examples=[409])
    detail: str = Field(examples=["epair7: exists already"])
    """One line for a person."""
    errno: str = Field(examples=["EEXIST"])
    """The error's name."""
    errors: list[KeyProblem] = Field(default=[])
    """Each thing that is wrong, when several values or keys were refused."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """A key of the request, and what is wrong with its value."""

    key: str
    detail: str

    def __str__(self) -> str:
        return f"{self.key}: {self.detail}"


def problem(
    status: int,
    code: int,
    detail: str,
    *,
    wrong: Sequence[Wrong] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The response that carries a problem document."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": detail,
        "errno": errno.errorcode.get(code, str(code)),
    }
    if wrong:
        document["errors"] = [{"key": each.key, "detail": each.detail} for each in wrong]
    # In ASCII: a request can put into a message what UTF-8 cannot carry.
    body = json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n"
    return Response(body, status, headers, MEDIA_TYPE)


def of_refusal(refusal: Refused) -> Response:
    """What an operation would not do."""
    wrong = [Wrong(*each.split(": ", 1)) for each in refusal.problems if ": " in each]
    return _of_errno(refusal.errno, str(refusal), wrong)


def of_body(refusal: Refused, key: str) -> Response:
    """What an operation would not do because of this key of the request's body."""
    wrong = [Wrong(key, str(refusal))]
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, refusal.errno, str(refusal), wrong=wrong)


def of_kernel(error: KernelError) -> Response:
    """What the machine would not tell."""
    return _of_errno(error.errno, str(error), ())


def _of_errno(code: int, detail: str, wrong: Sequence[Wrong]) -> Response:
    return problem(STATUSES.get(code, HTTPStatus.CONFLICT), code, detail, wrong=wrong)


def of_status(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """What is wrong with the HTTP itself."""
    return problem(status, _ERRNOS.get(status, errno.EIO), detail, headers=headers)


def of_validation(errors: Iterable[Mapping[str, Any]]) -> Response:
    """What pydantic found wrong with a request, all of it."""
    errors = list(errors)
    syntax = next((each for each in errors if each["type"] == "json_invalid"), None)
    if syntax is not None:
        why, place = syntax["ctx"]["error"], syntax["loc"][-1]
        return of_status(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {why} at character {place}")
    wrong = [_wrong(each) for each in errors]
    detail = "; ".join(map(str, wrong))
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, errno.EINVAL, detail, wrong=wrong)


_SAID: Final = {
    "missing": "is missing",
    "string_type": "{} is not text",
    "bool_type": "{} is not true or false",
    "dict_type": "{} is not an object",
    "model_attributes_type": "{} is not an object",
    "extra_forbidden": "unknown key",
}
"""pydantic's kinds of errors in our own words, with the value."""


def _wrong(error: Mapping[str, Any]) -> Wrong:
    place, *location = error["loc"]
    key = dotted(tuple(location)) or str(place)
    value = error.get("input")
    said = _SAID.get(error["type"])
    return Wrong(key, f"{shown(value)}: {error['msg']}" if said is None else said.format(_json_words(value)))


def _json_words(value: object) -> str:
    """A value as JSON's words tell it."""
    match value:
        case None:
            return "null"
        case dict():
            return "an object"
        case _:
            return shown(value)
