"""The daemon's API, served over HTTP on its control socket.

    curl --unix-socket /run/epaird/control.sock http://epaird/v1/interfaces

All paths begin with ``/v1``. ``/v1/openapi.json`` describes them.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from http import HTTPMethod, HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Match

from epaird import __version__
from epaird.client.events import Event
from epaird.config.settings import HalfSettings, LoopbackSettings, PairSettings
from epaird.control.api import configuration, daemon, impairment, interfaces, problems
from epaird.control.api.acceptable import NotAcceptable, check_acceptable
from epaird.control.api.changes import Changes
from epaird.control.api.credentials import Peer
from epaird.control.api.guard import Guard
from epaird.control.api.problems import Problem, problem
from epaird.control.api.responses import SCHEMAS
from epaird.control.api.streams import Streams
from epaird.control.operations import Operations, Refused, Reloading
from epaird.kernel.errors import LACKING, KernelError

DESCRIPTION: Final = (
    "Interfaces with the BSDs' names and errors: the pairs of epair(4) and the loopbacks of lo(4). "
    "A request that cannot be granted is answered with a problem document (RFC 9457) that has the name of an "
    "errno."
)

_SETTINGS: Final = (PairSettings, HalfSettings, LoopbackSettings)
"""Tables of the configuration: an interface's settings have the keys of one of them."""


class Api(FastAPI):
    """The ASGI application."""

    def __init__(
        self,
        operations: Operations,
        reloads: Reloading | None = None,
        *,
        allowed: Callable[[Peer], bool],
        clock: Callable[[], float],
    ) -> None:
        """Serve ``operations`` to the clients that are ``allowed``.

        Without ``reloads`` every request about the configuration as a whole is refused. ``clock`` returns
        seconds and is never set."""
        super().__init__(
            title="epaird",
            version=__version__,
            description=DESCRIPTION,
            openapi_url="/v1/openapi.json",
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            servers=[{"url": "http://epaird", "description": "On the control socket, under any host name."}],
            generate_unique_id_function=lambda route: route.name,
            middleware=[Middleware(Guard, allowed=allowed)],
            dependencies=[Depends(check_acceptable)],
            exception_handlers={
                Refused: _refused,
                KernelError: _kernel_error,
                OSError: _os_error,
                RequestValidationError: _not_valid,
                NotAcceptable: _not_acceptable,
                HTTPException: self._http_error,
                Exception: _internal_error,
            },
        )
        self.changes: Final = Changes()
        self.streams: Final = Streams(operations.events)
        interfaces.add_routes(self, operations, self.changes)
        impairment.add_routes(self, operations, self.changes)
        daemon.add_routes(self, operations, self.changes, clock)
        daemon.add_events(self, self.streams)
        configuration.add_routes(self, reloads, self.changes)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, with the models that FastAPI does not find."""
        if self.openapi_schema:
            return self.openapi_schema
        document = super().openapi()
        schemas = document["components"]["schemas"]
        schemas.update(_schemas())
        # pydantic describes the fields that a class defines, not those that it inherits.
        schemas["InterfaceDetails"]["properties"] |= schemas["Interface"]["properties"]
        patch = document["paths"]["/v1/interfaces/{name}"]["patch"]["requestBody"]
        tables = {"anyOf": [{"$ref": SCHEMAS + table.__name__} for table in _SETTINGS]}
        schemas["Settings"] = patch["content"]["application/json"]["schema"] | tables
        schemas["CreateRequest"]["properties"]["settings"] = {"$ref": SCHEMAS + "Settings"}
        patch["content"]["application/json"]["schema"] = {"$ref": SCHEMAS + "Settings"}
        return document

    async def _http_error(self, request: Request, exception: Exception) -> Response:
        """Answer a request for an unknown path or with a wrong method."""
        if not isinstance(exception, HTTPException):
            raise exception
        if exception.status_code == HTTPStatus.NOT_FOUND:
            return problems.of_status(404, f"there is no {_shown_path(request)}, see /v1/openapi.json")
        if exception.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            methods = ", ".join(self._methods(request))
            detail = f"{_shown_path(request)} takes {methods}"
            return problems.of_status(405, detail, {"allow": methods})
        return problems.of_status(exception.status_code, "the body cannot be read as JSON", exception.headers)

    def _methods(self, request: Request) -> list[str]:
        """Return the methods of a request's path. (Starlette returns those of the first route only.)"""
        scope = dict(request.scope)
        methods = []
        for method in HTTPMethod:
            scope["method"] = method.value
            if any(route.matches(scope)[0] is Match.FULL for route in self.router.routes):
                methods.append(method.value)
        return methods


def _schemas() -> dict[str, Any]:
    """Return the schemas of the models that no route names, with what they refer to."""
    adapters: list[tuple[str, Any, TypeAdapter[Any]]] = [
        *((model.__name__, "serialization", TypeAdapter(model)) for model in (Problem, Event)),
        *((table.__name__, "validation", TypeAdapter(table)) for table in _SETTINGS),
    ]
    _, found = TypeAdapter.json_schemas(adapters, ref_template=SCHEMAS + "{model}")
    schemas: dict[str, Any] = found["$defs"]
    return schemas


def _shown_path(request: Request) -> str:
    return quote(request.url.path)


async def _refused(_request: Request, exception: Exception) -> Response:
    if not isinstance(exception, Refused):
        raise exception
    return problems.of_refusal(exception)


async def _kernel_error(_request: Request, exception: Exception) -> Response:
    if not isinstance(exception, KernelError):
        raise exception
    return problems.of_kernel(exception)


async def _os_error(_request: Request, exception: Exception) -> Response:
    """Answer a request for which descriptors or memory are lacking. Other errors are internal ones."""
    if not isinstance(exception, OSError) or exception.errno not in LACKING:
        raise exception
    return problems.of_kernel(KernelError.about("the daemon", exception.errno))


async def _not_valid(_request: Request, exception: Exception) -> Response:
    if not isinstance(exception, RequestValidationError):
        raise exception
    return problems.of_validation(exception.errors())


async def _not_acceptable(_request: Request, exception: Exception) -> Response:
    return problems.of_status(HTTPStatus.NOT_ACCEPTABLE, str(exception))


async def _internal_error(_request: Request, _exception: Exception) -> Response:
    """Answer after an internal error; the server logs its traceback."""
    detail = "internal error: the daemon's log has the details"
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, errno.EIO, detail)
