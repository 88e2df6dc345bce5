"""Routes of the configuration as a whole: reload, plan and read it."""

from __future__ import annotations

import errno
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from epaird.client.plans import PlanReport
from epaird.control.api import views
from epaird.control.api.bodies import PlanRequest, ReloadRequest
from epaird.control.api.changes import Changes
from epaird.control.api.responses import CHANGE_REFUSALS, json_response, refusals
from epaird.control.operations import Refused, Reloading
from epaird.control.tasks import in_thread

TOML: Final = "application/toml"

_PLAN: Final = TypeAdapter(PlanReport)


def add_routes(app: FastAPI, reloads: Reloading | None, changes: Changes) -> None:
    """Add the routes of the configuration. Without ``reloads`` every request to them is refused."""

    @app.post("/v1/reload", response_model=PlanReport, responses=refusals(*CHANGE_REFUSALS))
    async def reload_configuration(request: Request, how: ReloadRequest) -> Response:
        """Reload the configuration file and apply what has changed."""
        reload = _available(reloads).reload(dry_run=how.dry_run)
        done = await (reload if how.dry_run else changes.run(request, "reloaded", reload, "configuration"))
        return json_response(_PLAN, await in_thread(views.plan, done))

    @app.post("/v1/plan", response_model=PlanReport, responses=refusals(*CHANGE_REFUSALS))
    async def plan_configuration(file: PlanRequest) -> Response:
        """Return what a reload would do if the configuration file had this text."""
        done = await _available(reloads).plan(file.text, file.name)
        return json_response(_PLAN, await in_thread(views.plan, done))

    @app.get(
        "/v1/configuration",
        response_class=Response,
        responses={
            200: {
                "description": "The running configuration.",
                "content": {TOML: {"schema": {"type": "string"}}},
            },
            **refusals(HTTPStatus.UNPROCESSABLE_ENTITY),
        },
    )
    async def read_configuration() -> Response:
        """Return the running configuration, TOML."""
        return Response(_available(reloads).text(), media_type=TOML)


def _available(reloads: Reloading | None) -> Reloading:
    if reloads is None:
        raise Refused(errno.EOPNOTSUPP, "this daemon has no configuration to read again")
    return reloads
