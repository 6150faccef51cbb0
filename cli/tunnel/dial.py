"""Opens SSH connections: every hop on the way, each with its own handshake and host key check."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import asyncssh

from cli.known_hosts import Entry
from cli.settings import DEFAULT_SSH_USERNAME, Settings
from cli.tunnel.faults import Stage, explain
from cli.tunnel.host_keys import Guard, no_common_key, read_entries, settle
from cli.tunnel.route import Route, find_route, require_keys
from cli.tunnel.target import Target
from cli.tunnel.terminal import Console
from fleet.errors import FleetError, InvalidRequest, Unavailable

# A ProxyJump that leads back to itself must end somewhere; ssh(1) has no such limit.
_MAX_HOPS = 8
_CLOSE_LIMIT_S = 2.0
_HUNG_UP = (ConnectionResetError, asyncssh.ConnectionLost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An open SSH connection; `place` is how errors name its far end."""

    connection: asyncssh.SSHClientConnection
    guard: Guard
    place: str
    user: str
    limit_s: float

    def stage(self, doing: str) -> Stage:
        """A step on this connection, for its errors."""
        return Stage(place=self.place, doing=doing, limit_s=self.limit_s, user=self.user)

    @property
    def fault(self) -> FleetError | None:
        """Why the connection ended, None while it stands."""
        lost = self.guard.lost
        return explain(lost, self.stage("the connection was in use")) if lost else None


@asynccontextmanager
async def dial(
    settings: Settings,
    target: Target,
    *,
    console: Console,
    via: Line | None = None,
    forward_agent: bool = False,
) -> AsyncIterator[Line]:
    """An SSH connection to the target, straight, over ssh_config's hops, or through `via`.

    Raises FleetError: Denied for keys that do not fit, on either side, and Unavailable.
    """
    async with AsyncExitStack() as stack:
        yield await _Dialer(settings, console, stack).reach(
            target,
            via=via,
            user_flag=settings.ssh_username,
            default_user=DEFAULT_SSH_USERNAME,
            forward_agent=forward_agent,
        )


class _Dialer:
    """Opens one connection and those it lies on; the stack closes them, last one first."""

    def __init__(self, settings: Settings, console: Console, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._console = console
        self._stack = stack
        self._hops = 0

    async def reach(
        self,
        target: Target,
        *,
        via: Line | None,
        user_flag: str | None,
        default_user: str | None,
        forward_agent: bool = False,
    ) -> Line:
        self._hops += 1
        if self._hops > _MAX_HOPS:
            raise InvalidRequest(f"ProxyJump to {target} has more than {_MAX_HOPS} hops: a loop?")
        try:
            route = find_route(
                self._settings, target, user_flag=user_flag, default_user=default_user
            )
        except (OSError, asyncssh.Error, ValueError) as error:
            raise explain(error, self._stage(str(target), "reading ssh_config")) from error
        require_keys(route)
        if via is None:
            # As with ssh(1), neither -l nor fleet's default user is for the hops.
            for jump in route.jumps:
                via = await self.reach(jump, via=via, user_flag=None, default_user=None)
        line = await self._connect(route, via, forward_agent=forward_agent)
        self._stack.push_async_callback(_close, line.connection)
        return line

    async def _connect(self, route: Route, via: Line | None, *, forward_agent: bool) -> Line:
        """Shake hands, and once more for a host key that the user has just accepted."""
        entries = read_entries(route) if self._settings.strict_host_key_checking else ()
        while True:
            guard = Guard(route, entries)
            try:
                connection = await self._handshake(route, guard, via, forward_agent=forward_agent)
            except asyncssh.HostKeyNotVerifiable:
                entries = (*entries, await self._settle(guard, route))
                continue
            return Line(
                connection=connection,
                guard=guard,
                place=route.place,
                user=route.user,
                limit_s=self._settings.ssh_timeout_s,
            )

    async def _settle(self, guard: Guard, route: Route) -> Entry:
        return await settle(guard, route, self._console, limit_s=self._settings.ssh_timeout_s)

    async def _handshake(
        self, route: Route, guard: Guard, via: Line | None, *, forward_agent: bool
    ) -> asyncssh.SSHClientConnection:
        through = f" through {via.place}" if via else ""
        stage = self._stage(route.place, f"initiating the SSH connection to {route.place}{through}")
        offer = route.offer
        try:
            async with asyncio.timeout(self._settings.ssh_timeout_s):
                return await asyncssh.connect(
                    route.target.host,
                    route.port,
                    tunnel=via.connection if via else None,
                    config=list(route.config),
                    client_factory=lambda: guard,
                    known_hosts=guard.trusted if self._settings.strict_host_key_checking else None,
                    username=route.user,
                    client_keys=list(offer.pairs),
                    agent_path=offer.agent,
                    agent_identities=list(offer.agent_keys) if offer.agent_keys else None,
                    agent_forwarding=_agent_to_forward(route) if forward_agent else False,
                    keepalive_interval=route.keepalive_s,
                    x509_trusted_certs=None,
                    connect_timeout=None,
                )
        except asyncssh.HostKeyNotVerifiable:
            raise
        except asyncssh.KeyExchangeFailed as error:
            if guard.known and "host key" in error.reason.lower():
                raise no_common_key(guard, route) from error
            raise explain(error, stage) from error
        except (OSError, asyncssh.Error, ValueError) as error:
            if isinstance(error, _HUNG_UP) and await self._has_another_key(route, guard, via):
                raise no_common_key(guard, route) from error
            refused = Stage(
                place=route.place + through,
                doing=stage.doing,
                limit_s=stage.limit_s,
                user=route.user,
                offered=offer.describe(),
            )
            raise explain(error, refused) from error

    async def _has_another_key(self, route: Route, guard: Guard, via: Line | None) -> bool:
        """Whether the host has a key, and of a type that is not known of it.

        OpenSSH hangs up on who asks for a type that it has not, often before it says so.
        """
        known = {entry.algorithm for entry in guard.known}
        if not known:
            return False
        try:
            async with asyncio.timeout(self._settings.ssh_timeout_s):
                key = await asyncssh.get_server_host_key(
                    route.target.host,
                    route.port,
                    tunnel=via.connection if via else None,
                    config=list(route.config),
                )
        except (OSError, asyncssh.Error, ValueError):
            return False
        return key is not None and key.get_algorithm() not in known

    def _stage(self, place: str, doing: str) -> Stage:
        return Stage(place=place, doing=doing, limit_s=self._settings.ssh_timeout_s)


def _agent_to_forward(route: Route) -> str:
    if route.agent is None:
        raise Unavailable("no agent to forward: SSH_AUTH_SOCK names no running ssh-agent")
    return route.agent


async def _close(connection: asyncssh.SSHClientConnection) -> None:
    connection.close()
    try:
        async with asyncio.timeout(_CLOSE_LIMIT_S):
            await connection.wait_closed()
    except TimeoutError:
        connection.abort()
