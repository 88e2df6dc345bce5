"""The daemon's API: what can be asked of it, over HTTP on its control socket.

    curl --unix-socket /run/epaird/control.sock http://epaird/v1/interfaces

Everything is under ``/v1``, and described by ``/v1/openapi.json``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Coroutine
from http import HTTPMethod, HTTPStatus
from typing import Any, Final, Literal, TypeVar
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Match

from epaird import __version__
from epaird.config.settings import HalfSettings, LoopbackSettings, PairSettings
from epaird.control.api import interfaces, models, problems
from epaird.control.api.answers import OF_CHANGES, SCHEMAS, answer, refusals
from epaird.control.api.changes import Changes
from epaird.control.api.credentials import Peer
from epaird.control.api.guard import Guard
from epaird.control.api.problems import problem
from epaird.control.api.streams import NDJSON, SERVER_SENT, Streams
from epaird.control.operations import Operations, Refused, Reloading
from epaird.kernel.errors import KernelError

T = TypeVar("T")

TOML: Final = "application/toml"

_Models = list[tuple[type[BaseModel], Literal["validation", "serialization"]]]

DESCRIPTION: Final = (
    "Interfaces with the BSDs' names, rules and errors: the pairs of epair(4) and the loopbacks of lo(4). "
    "What cannot be done is answered with a problem document of RFC 9457 that has the name of an errno."
)

_SAID: Final[_Models] = [(problems.Problem, "serialization"), (models.Happened, "serialization")]
"""Where FastAPI does not see it."""

_TABLES: Final[_Models] = [(table, "validation") for table in (PairSettings, HalfSettings, LoopbackSettings)]
"""Of the configuration: an interface's settings are those of one of them."""

_SETTINGS: Final = {"anyOf": [{"$ref": SCHEMAS + table.__name__} for table, _ in _TABLES]}

_NAMES: Final = TypeAdapter(list[str])
_STATISTICS: Final = TypeAdapter(models.Statistics)
_PLAN: Final = TypeAdapter(models.Plan)


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
        """``clock`` tells the seconds of a clock that is never set.  Without ``reloads`` every question
        about the configuration as a whole is refused."""
        super().__init__(
            title="epaird",
            version=__version__,
            description=DESCRIPTION,
            openapi_url="/v1/openapi.json",
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            servers=[{"url": "http://epaird", "description": "On the control socket; any host will do."}],
            generate_unique_id_function=lambda route: route.name,
            middleware=[Middleware(Guard, allowed=allowed)],
            exception_handlers={
                Refused: _refused,
                KernelError: _machine_failed,
                RequestValidationError: _not_valid,
                HTTPException: self._not_served,
                Exception: _failed,
            },
        )
        self.changes: Final = Changes()
        self.streams: Final = Streams(operations.events)
        self.operations: Final = operations
        self._reloads = reloads
        self._clock = clock
        interfaces.add(self)
        self._add_looking()
        self._add_reloading()

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, with what FastAPI does not know of."""
        if self.openapi_schema:
            return self.openapi_schema
        document = super().openapi()
        schemas = document["components"]["schemas"]
        template = SCHEMAS + "{model}"
        for models_and_modes in (_SAID, _TABLES):
            _, found = models_json_schema(models_and_modes, ref_template=template)
            schemas.update(found["$defs"])
        patch = document["paths"]["/v1/interfaces/{name}"]["patch"]["requestBody"]
        schemas["Settings"] = patch["content"]["application/json"]["schema"] | _SETTINGS
        schemas["Create"]["properties"]["settings"] = {"$ref": SCHEMAS + "Settings"}
        patch["content"]["application/json"]["schema"] = {"$ref": SCHEMAS + "Settings"}
        return document

    def _add_looking(self) -> None:
        operations = self.operations

        @self.post(
            "/v1/upgrade",
            status_code=HTTPStatus.NO_CONTENT,
            response_model=None,
            responses=refusals(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                HTTPStatus.UNPROCESSABLE_ENTITY,
                HTTPStatus.SERVICE_UNAVAILABLE,
            ),
        )
        async def upgrade_daemon(request: Request) -> Response:
            """Execute the program as it is installed now, while the cables go on carrying."""
            await self.change(request, "upgrading", operations.upgrade(), "epaird")
            return Response(status_code=HTTPStatus.NO_CONTENT)

        @self.get("/v1/cloners", response_model=list[str], responses=refusals())
        async def list_cloners() -> Response:
            """The kinds of interfaces that can be made."""
            return answer(_NAMES, list(operations.cloners()))

        @self.get("/v1/stats", response_model=models.Statistics, responses=refusals())
        async def read_statistics() -> Response:
            """Every counter there is, at one moment."""
            return answer(_STATISTICS, models.statistics(operations.reading(), self._clock()))

        @self.get(
            "/v1/events",
            response_class=Response,
            responses={
                200: {
                    "description": "Events without an end, a line of JSON each, or server-sent events.",
                    "content": {
                        NDJSON: {"schema": {"$ref": SCHEMAS + "Happened"}},
                        SERVER_SENT: {"schema": {"type": "string"}},
                    },
                },
                **refusals(HTTPStatus.SERVICE_UNAVAILABLE),
            },
        )
        async def follow_events(request: Request) -> Response:
            """Events from now on.  A reader that is too slow is told how many it has lost."""
            return self.streams.answer(",".join(request.headers.getlist("accept")))

    def _add_reloading(self) -> None:
        @self.post("/v1/reload", response_model=models.Plan, responses=refusals(*OF_CHANGES))
        async def reload_configuration(request: Request, how: models.Reload) -> Response:
            """Read the configuration's file again, and apply what is different."""
            reload = self._configuration().reload(dry_run=how.dry_run)
            if how.dry_run:
                return answer(_PLAN, models.plan(await reload))
            return answer(_PLAN, models.plan(await self.change(request, "reloaded", reload, "configuration")))

        @self.post("/v1/plan", response_model=models.Plan, responses=refusals(*OF_CHANGES))
        async def plan_configuration(file: models.File) -> Response:
            """What a reload would do if the configuration's file had this text."""
            return answer(_PLAN, models.plan(await self._configuration().plan(file.text, file.name)))

        @self.get(
            "/v1/configuration",
            response_class=Response,
            responses={
                200: {
                    "description": "The file that would make what there is.",
                    "content": {TOML: {"schema": {"type": "string"}}},
                },
                **refusals(HTTPStatus.UNPROCESSABLE_ENTITY),
            },
        )
        async def read_configuration() -> Response:
            """The configuration that would make what there is, TOML."""
            return Response(self._configuration().text(), media_type=TOML)

    def _configuration(self) -> Reloading:
        if self._reloads is None:
            raise Refused(errno.EOPNOTSUPP, "this daemon has no configuration to read again")
        return self._reloads

    async def change(
        self, request: Request, what: str, change: Coroutine[Any, Any, T], name: str | None
    ) -> T:
        """Make a change of the interface ``name``; None is the one that is its result."""
        peer = request.state.connection.peer
        return await self.changes.run(peer, what, change, lambda made: str(made) if name is None else name)

    async def _not_served(self, request: Request, exception: Exception) -> Response:
        """Wrong HTTP: no such place, or not this method."""
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
        """What can be done at a request's path; Starlette knows only of the first route there."""
        scope = dict(request.scope)
        methods = []
        for method in HTTPMethod:
            scope["method"] = method.value
            if any(route.matches(scope)[0] is Match.FULL for route in self.router.routes):
                methods.append(method.value)
        return methods


def _shown_path(request: Request) -> str:
    return quote(request.url.path)


async def _refused(_request: Request, exception: Exception) -> Response:
    if not isinstance(exception, Refused):
        raise exception
    return problems.of_refusal(exception)


async def _machine_failed(_request: Request, exception: Exception) -> Response:
    if not isinstance(exception, KernelError):
        raise exception
    return problems.of_kernel(exception)


async def _not_valid(_request: Request, exception: Exception) -> Response:
    if not isinstance(exception, RequestValidationError):
        raise exception
    return problems.of_validation(exception.errors())


async def _failed(_request: Request, _exception: Exception) -> Response:
    """A bug of ours; the log has its traceback."""
    detail = "the daemon has failed here, which is a bug; its log says more"
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, errno.EIO, detail)
