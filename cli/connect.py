"""Opens the connection to the cluster that the global flags describe."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import click

from cli.settings import DEFAULT_ENDPOINT, Settings
from fleet.errors import FleetError, InvalidRequest, Unavailable

if TYPE_CHECKING:
    from cli.tunnel.forward import Tunnel
    from fleet.api.client import FleetClient


class NoClient(FleetError):
    """The flags that say how to reach the cluster lead nowhere."""

    def __init__(self, cause: object) -> None:
        super().__init__(f"Unable to initialize client: {cause}")


def run_connected(settings: Settings, work: "Callable[[FleetClient], Awaitable[int]]") -> int:
    """Do the work with a client of the cluster, and give its exit status. Raises FleetError."""

    async def session() -> int:
        async with connect(settings) as client:
            return await work(client)

    return asyncio.run(session())


def run_comparing(settings: Settings, work: "Callable[[FleetClient], Awaitable[int]]") -> int:
    """Like run_connected where 1 is an answer: what fails is told on stderr, and is 2."""
    try:
        return run_connected(settings, work)
    except (FleetError, OSError) as error:
        click.echo(str(error), err=True)
        return 2


@asynccontextmanager
async def connect(
    settings: Settings, tunnel: "Tunnel | None" = None
) -> "AsyncIterator[FleetClient]":
    """A client of the API at `settings.endpoint`, through the tunnel if there is one.

    A tunnel that is open already is used and left open. Raises NoClient for an endpoint that means
    nothing, and what opening the tunnel raises.
    """
    if not settings.debug:
        # What asyncio notes about its own subprocesses and slow steps means nothing to a user.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    check_driver(settings.driver)
    if "," in settings.endpoint:
        first = settings.endpoint.partition(",")[0]
        click.echo(f"WARNING: only the first endpoint is used: {first}", err=True)
    async with AsyncExitStack() as stack:
        try:
            if settings.tunnel and tunnel is None:
                from cli.tunnel import open_tunnel

                tunnel = await stack.enter_async_context(open_tunnel(settings))
            client = await _client(settings, tunnel)
        except InvalidRequest as error:
            raise NoClient(error) from error
        try:
            yield await stack.enter_async_context(client)
        except Unavailable as error:
            if tunnel and tunnel.fault:
                raise tunnel.fault from error
            if tunnel is None and _is_no_machine(settings.endpoint):
                raise Unavailable(f"{error} Elsewhere, reach a cluster with --tunnel.") from error
            raise


def _is_no_machine(endpoint: str) -> bool:
    """Whether the endpoint was left as it is, and this is no machine of a cluster."""
    path = endpoint.removeprefix("unix://")
    return endpoint == DEFAULT_ENDPOINT and not os.path.exists(path)


async def _client(settings: Settings, tunnel: "Tunnel | None") -> "FleetClient":
    from fleet.api.client import FleetClient
    from fleet.api.endpoint import parse_endpoint, tls_context

    endpoint = parse_endpoint(settings.endpoint)
    timeout_s = settings.request_timeout_s
    tls = None
    if endpoint.is_tls:
        tls = tls_context(
            ca_file=settings.ca_file, cert_file=settings.cert_file, key_file=settings.key_file
        )
    socket = None
    if tunnel is not None:
        socket = await tunnel.socket_for(settings.endpoint)
    return FleetClient(
        settings.endpoint, socket=socket, tls=tls, connect_s=timeout_s, read_s=timeout_s
    )


def check_driver(driver: str) -> None:
    """Raise NoClient for a driver other than the API."""
    if driver.lower() == "etcd":
        raise NoClient(
            "the etcd driver is no more: fleetctl speaks to fleetd; give its --endpoint or --tunnel"
        )
    if driver.lower() != "api":
        raise NoClient(f'unrecognized driver "{driver}"')
