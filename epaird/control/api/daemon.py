"""Routes of the daemon as a whole: upgrade, cloners, counters and events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from epaird.client.statistics import Statistics
from epaird.client.workers import WorkerInfo
from epaird.control.api import views
from epaird.control.api.changes import Changes
from epaird.control.api.responses import SCHEMAS, json_response, refusals
from epaird.control.api.selection import DropsQuery, NetnsQuery, Selection
from epaird.control.api.streams import NDJSON, SERVER_SENT, Streams
from epaird.control.operations import Operations

_NAMES: Final = TypeAdapter(list[str])
_WORKERS: Final = TypeAdapter(list[WorkerInfo])
_STATISTICS: Final = TypeAdapter(Statistics)


def add_routes(app: FastAPI, operations: Operations, changes: Changes, clock: Callable[[], float]) -> None:
    """Add the routes of the daemon, without the events. ``clock`` returns seconds and is never set."""

    @app.post(
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
        """Upgrade the running daemon in place, to the installed program. The cables keep forwarding."""
        await changes.run(request, "upgrading", operations.upgrade(), "epaird")
        return Response(status_code=HTTPStatus.NO_CONTENT)

    @app.get("/v1/cloners", response_model=list[str], responses=refusals())
    async def list_cloners() -> Response:
        """List the kinds of interfaces that can be created."""
        return json_response(_NAMES, list(operations.cloners()))

    @app.get("/v1/workers", response_model=list[WorkerInfo], responses=refusals())
    async def list_workers() -> Response:
        """List the worker processes: their sandbox, cables, queue and processor time."""
        return json_response(_WORKERS, [views.process(each) for each in operations.workers()])

    @app.get("/v1/stats", response_model=Statistics, responses=refusals(HTTPStatus.UNPROCESSABLE_ENTITY))
    async def read_statistics(netns: NetnsQuery = None, drops: DropsQuery = False) -> Response:
        """Read all counters at one moment, interfaces in the order of their kinds and numbers."""
        reading = operations.reading()
        selected = tuple(Selection(netns=netns, drops=drops).of(reading.interfaces))
        return json_response(_STATISTICS, views.statistics(replace(reading, interfaces=selected), clock()))


def add_events(app: FastAPI, streams: Streams) -> None:
    """Add the route of events."""

    @app.get(
        "/v1/events",
        response_class=Response,
        responses={
            200: {
                "description": "Events without an end: a line of JSON each, or server-sent events.",
                "content": {
                    NDJSON: {"schema": {"$ref": SCHEMAS + "Event"}},
                    SERVER_SENT: {"schema": {"type": "string"}},
                },
            },
            **refusals(HTTPStatus.SERVICE_UNAVAILABLE),
        },
    )
    async def follow_events(request: Request) -> Response:
        """Follow events from now on. A reader that is too slow loses some, and gets their number."""
        root = request.state.connection.peer.uid == 0
        return streams.response(",".join(request.headers.getlist("accept")), root=root)
