"""SSH: to a bastion, through it to fleetd's socket, and on to the machines.

Answers for keys, host keys, ssh_config, time limits, and for every error being a sentence. The
modules below import asyncssh, which takes a tenth of a second; this one imports them when it is
called. `docs/ssh.md` is the user's side of it.
"""

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from cli.settings import Settings
from cli.tunnel.target import Target, parse_target

if TYPE_CHECKING:
    from cli.tunnel.forward import Tunnel
    from cli.tunnel.session import MachineLine
    from cli.tunnel.terminal import Console

__all__ = ["connect_machine", "open_tunnel", "parse_target"]


def open_tunnel(
    settings: Settings, *, console: "Console | None" = None
) -> "AbstractAsyncContextManager[Tunnel]":
    """An SSH connection to the host that `settings.tunnel` names, open while the context lasts.

    `await tunnel.socket_for(endpoint)` is the path of a local socket that leads to the endpoint.
    Raises FleetError: Denied for keys on either side, Unavailable, InvalidRequest.
    """
    from cli.tunnel import forward
    from cli.tunnel.terminal import Console

    return forward.open_tunnel(settings, console or Console())


def connect_machine(
    settings: Settings,
    address: str,
    port: int | None = None,
    via: "Tunnel | None" = None,
    *,
    forward_agent: bool = False,
    console: "Console | None" = None,
) -> "AbstractAsyncContextManager[MachineLine]":
    """An SSH connection to a machine, straight or through the tunnel, while the context lasts.

    The port is for an address without one; None leaves it to ssh_config. Raises FleetError.
    """
    from cli.tunnel import session
    from cli.tunnel.terminal import Console

    target = parse_target(address)
    return session.connect_machine(
        settings,
        Target(host=target.host, port=target.port or port, user=target.user),
        via=via,
        forward_agent=forward_agent,
        console=console or Console(),
    )
