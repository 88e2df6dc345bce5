"""Routes of interfaces: list, create, show, change, patch and destroy them."""

from __future__ import annotations

import errno
from http import HTTPStatus
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import Body, FastAPI, Path, Query, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from epaird.client.models import CreatedInterface, Interface, InterfaceDetails, MissingInterface
from epaird.control.api import problems, views
from epaird.control.api.bodies import CreateRequest, InterfaceSettings, PatchRequest
from epaird.control.api.changes import Changes, logged, one_word
from epaird.control.api.responses import CHANGE_REFUSALS, json_response, refusals
from epaird.control.api.selection import DropsQuery, NetnsQuery, Selection
from epaird.control.operations import Operations, Refused
from epaird.names.cloners import cloner_of

Name = Annotated[
    str,
    Path(description="Name of a half, a pair or a loopback.", examples=["epair0a", "epair0", "lo1"]),
]

_CREATED: Final = TypeAdapter(CreatedInterface)
_INTERFACES: Final = TypeAdapter(list[Interface])
_MISSING: Final = TypeAdapter(list[MissingInterface])
_DETAILS: Final = TypeAdapter(list[InterfaceDetails])


KindQuery = Annotated[str | None, Query(description="Only interfaces of this kind: epair, lo.")]

MissingQuery = Annotated[
    bool, Query(description="Only what is in the configuration and does not exist, with the reason.")
]


def add_routes(app: FastAPI, operations: Operations, changes: Changes) -> None:
    """Add the routes of interfaces."""
    _add_collection(app, operations, changes)
    _add_interface(app, operations, changes)
    _add_peer(app, operations, changes)


def _add_collection(app: FastAPI, operations: Operations, changes: Changes) -> None:
    @app.get(
        "/v1/interfaces",
        response_model=list[Interface] | list[MissingInterface],
        responses=refusals(HTTPStatus.UNPROCESSABLE_ENTITY),
    )
    async def list_interfaces(
        kind: KindQuery = None,
        netns: NetnsQuery = None,
        drops: DropsQuery = False,
        missing: MissingQuery = False,
    ) -> Response:
        """List interfaces, in the order of their kinds and numbers.

        With `missing`: those that are in the configuration and do not exist, whatever `drops` is."""
        if kind is not None:
            _check_kind(kind, operations.cloners())
        if missing:
            lost = Selection(kind, netns).missing(operations.missing())
            return json_response(_MISSING, [views.missing(each) for each in lost])
        found = Selection(kind, netns, drops).of(operations.reading().interfaces)
        return json_response(_INTERFACES, [views.interface(each) for each in found])

    @app.post(
        "/v1/interfaces",
        status_code=HTTPStatus.CREATED,
        response_model=CreatedInterface,
        responses={
            201: {
                "headers": {
                    "Location": {"description": "Path of the interface.", "schema": {"type": "string"}}
                }
            },
            **refusals(*CHANGE_REFUSALS),
        },
    )
    async def create_interface(request: Request, wanted: CreateRequest) -> Response:
        """Create an interface, by its name or by its kind for the lowest free number."""
        create = operations.create(wanted.name, wanted.settings)
        name = await changes.run(request, f"created{logged(wanted.settings)}", create)
        location = {"location": f"/v1/interfaces/{quote(name)}"}
        created = CreatedInterface(name, list(cloner_of(name).devices_of(name)))
        return json_response(_CREATED, created, HTTPStatus.CREATED, location)


def _add_interface(app: FastAPI, operations: Operations, changes: Changes) -> None:
    @app.get(
        "/v1/interfaces/{name}",
        response_model=list[InterfaceDetails],
        responses=refusals(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY),
    )
    async def show_interface(name: Name) -> Response:
        """Show an interface, or both halves of a pair, with the counters."""
        return _details(operations, name)

    @app.patch(
        "/v1/interfaces/{name}",
        response_model=list[InterfaceDetails],
        responses=refusals(*CHANGE_REFUSALS),
    )
    async def change_interface(
        request: Request, name: Name, settings: Annotated[InterfaceSettings, Body()]
    ) -> Response:
        """Change an interface in place. Settings that are not in the body stay as they are."""
        await changes.run(request, f"set{logged(settings)}", operations.change(name, settings), name)
        return _details(operations, name)

    @app.delete(
        "/v1/interfaces/{name}",
        status_code=HTTPStatus.NO_CONTENT,
        response_model=None,
        responses=refusals(*CHANGE_REFUSALS),
    )
    async def destroy_interface(request: Request, name: Name) -> Response:
        """Destroy a loopback, or a pair by its name or the name of either half."""
        await changes.run(request, "destroyed", operations.destroy(name), name)
        return Response(status_code=HTTPStatus.NO_CONTENT)


def _add_peer(app: FastAPI, operations: Operations, changes: Changes) -> None:
    @app.put(
        "/v1/interfaces/{name}/peer",
        status_code=HTTPStatus.NO_CONTENT,
        response_model=None,
        responses=refusals(*CHANGE_REFUSALS),
    )
    async def patch_interface(request: Request, name: Name, to: PatchRequest) -> Response:
        """Patch a half to another one. Each of the two leaves its old peer."""
        operations.interface(name)
        try:
            operations.interface(to.peer)
        except Refused as unknown:
            # Not 404, because the interface in the path exists.
            return problems.of_body(unknown, "peer")
        patch = operations.patch(name, to.peer, force=to.force)
        await changes.run(request, f"patched into {one_word(to.peer)}", patch, name)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    @app.delete(
        "/v1/interfaces/{name}/peer",
        status_code=HTTPStatus.NO_CONTENT,
        response_model=None,
        responses=refusals(*CHANGE_REFUSALS),
    )
    async def unpatch_interface(request: Request, name: Name) -> Response:
        """Separate a half from its peer. Neither of the two has a carrier afterwards."""
        await changes.run(request, "unpatched", operations.unpatch(name), name)
        return Response(status_code=HTTPStatus.NO_CONTENT)


def _details(operations: Operations, name: str) -> Response:
    return json_response(_DETAILS, [views.details(each) for each in operations.interface(name)])


def _check_kind(kind: str, cloners: tuple[str, ...]) -> None:
    if kind not in cloners:
        raise Refused(errno.EINVAL, f"kind: {one_word(kind)} is none of {', '.join(cloners)}")
