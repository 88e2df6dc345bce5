"""The effects of a kernel on the addresses, routes and rules of a device, without a kernel."""

from __future__ import annotations

from dataclasses import replace

from epaird.kernel.convergence import Scope, Target
from epaird.kernel.difference import network_route
from epaird.kernel.link import LinkSettings
from epaird.kernel.policy import missing_rules, policy_routes, policy_rules
from epaird.kernel.state import DeviceState, PresentAddress, PresentRoute


def set_up(settings: LinkSettings, up: bool) -> LinkSettings:
    """Return what a device has after it was set up or down: IPv6 addresses and all routes go with it."""
    if up:
        return replace(settings, up=True)
    ipv4 = tuple(each for each in settings.addresses if ":" not in each.address)
    return replace(settings, up=False, addresses=ipv4, routes=())


def converged(settings: LinkSettings, target: Target) -> LinkSettings:
    """Return what a device has after it was given what it is to have, and lost what was released."""
    wanted, released = target.wanted, target.released or LinkSettings(0, 0)
    addresses = [*wanted.addresses]
    if target.scope is Scope.TAKEN_ALONG:
        addresses = [each for each in addresses if ":" in each.address or each in settings.addresses]
    addresses += [each for each in settings.addresses if each not in (*addresses, *released.addresses)]
    routes = [*wanted.routes] if settings.up else []
    routes += [each for each in settings.routes if each not in (*routes, *released.routes)]
    return replace(
        settings, addresses=tuple(addresses), routes=tuple(routes), policy_table=wanted.policy_table
    )


def state(name: str, settings: LinkSettings) -> DeviceState:
    """Return the state of a device as the kernel would."""
    addresses, table = settings.addresses, settings.policy_table
    return DeviceState(
        name=name,
        up=settings.up,
        qdisc="noqueue",
        addresses=tuple(PresentAddress(each) for each in addresses),
        routes=(
            *(PresentRoute(each) for each in settings.routes),
            *(PresentRoute(network_route(each), automatic=True) for each in addresses),
            *(PresentRoute(each, table=table or 0) for each in policy_routes(addresses, table)),
        ),
        rules=missing_rules((), policy_rules(addresses, table)),
    )
