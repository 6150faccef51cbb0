"""fleetd, wired: store, heartbeat, agent, engine and API in one process.

The heartbeat has a thread and a connection of its own; the rest shares one event loop. A part that
ends, which none does by itself, ends fleetd, and systemd starts it anew: that touches no unit.
"""

import asyncio
import json
import logging
import signal
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace

from agent.binding import runtime_directory
from agent.bridge import Bridge
from agent.dbus import DbusSystemd
from agent.fence import Fence
from agent.heartbeat import Heartbeat
from agent.local import LocalUnits
from agent.loop import Agent
from cli.crossing import lease_note
from cli.identity import describe_machine, read_boot_id, read_machine_id
from cli.telemetry import engine_metrics
from engine.election import ElectionSettings
from engine.foresee import foresee
from engine.leading import EngineSettings
from engine.loop import Engine
from engine.moving import Rebalancer
from engine.plan import PlanSettings
from fleet import __version__
from fleet.api.server import ApiServer
from fleet.api.tcp import ServerFiles, server_context
from fleet.config import Config, OnStop
from fleet.errors import FleetError, Unavailable
from fleet.keys import Keys
from fleet.names import UnitName
from fleet.notify import listen_sockets, notify, watchdog_interval_s
from fleet.registry import Registry
from fleet.store.connect import StoreFactory, etcd_settings, store_factory
from fleet.store.port import LeaseId
from fleet.sync.follower import Follower

_log = logging.getLogger(__name__)

DATABASE = "fleet.db"
# How often a machine without a public_ip looks whether its address has changed, as fleet 1.0 did.
_ADDRESS_S = 60.0
# How long the units of a machine that leaves may take to stop: as long as fleet 1.0 gave them.
DEPART_S = 60.0

# What SIGHUP applies; the rest takes a restart.
RELOADABLE = ("metadata", "public_ip", "verbosity", "on_stop")

Reload = Callable[[], tuple[Config, tuple[str, ...]]]


class Daemon:
    """One fleetd. `run()` serves until SIGTERM or SIGINT and gives the exit status."""

    def __init__(self, config: Config, *, reload: Reload, bridge: Bridge | None = None) -> None:
        """`bridge` keeps what the fleetd before had until this one serves."""
        self._config = config
        self._bridge = bridge
        self._reload = reload
        self._machine_id = read_machine_id()
        self._boot_id = read_boot_id()
        self._machine = describe_machine(config, self._machine_id, self._boot_id)
        self._note = lease_note(config, self._boot_id)
        self._lease: LeaseId | None = None
        self._parts: _Parts | None = None
        self._main: asyncio.AbstractEventLoop | None = None
        self._is_member = asyncio.Event()
        self._stop = asyncio.Event()

    def warn(self, warnings: Iterable[str]) -> None:
        """Log what the configuration says that means nothing."""
        for warning in warnings:
            _log.warning("%s", warning)

    async def run(self) -> int:
        """Serve until a signal; raises FleetError if this machine cannot."""
        factory = store_factory(etcd_settings(self._config), self._config.data_directory / DATABASE)
        try:
            store = factory.connect()
            try:
                await self._serve(factory, Registry(store, Keys(self._config.etcd_key_prefix)))
            finally:
                await store.close()
        finally:
            factory.close()
        return 0

    async def _serve(self, factory: StoreFactory, registry: Registry) -> None:
        config = self._config
        systemd = DbusSystemd(user=config.systemd_user)
        fence = Fence(
            DbusSystemd(user=config.systemd_user, follow=False),
            config.units_directory.parent / "fence",
            ttl_s=config.agent_ttl_s,
            margin_s=config.fence_margin_s,
            changed=self._fence_changed,
        )
        heartbeat = Heartbeat(
            connect=factory.connect,
            machine=lambda: self._machine,
            keys=registry.keys,
            ttl_s=config.agent_ttl_s,
            on_session=self._use_lease,
            fence=fence,
        )
        self._main = asyncio.get_running_loop()
        engine = Engine(
            registry,
            machine=self._machine_id,
            settings=_engine_settings(config),
            trouble_s=heartbeat.trouble_s,
        )
        parts = _Parts(
            systemd=systemd,
            agent=Agent(
                registry=registry,
                systemd=systemd,
                units=LocalUnits(
                    config.units_directory,
                    boot_id=self._boot_id,
                    drop_ins=runtime_directory(user=config.systemd_user),
                ),
                machine=self._machine_id,
                fence=fence,
            ),
            engine=engine,
            follower=Follower(registry, config.data_directory / "sync", lambda: engine.leader),
            heartbeat=heartbeat,
        )
        self._parts = parts
        api = ApiServer(
            registry,
            version=__version__,
            token_limit=config.token_limit,
            may_serve=self._unable,
            gather=lambda: engine_metrics(parts.engine.stats),
            tls=_api_tls(config),
            insecure_tcp=config.api_insecure,
            foresee=foresee,
            rebalancer=Rebalancer(registry),
        )
        self._handle_signals()
        sockets = listen_sockets()
        await api.start(unix_path=None if sockets else config.socket, sockets=sockets)
        parts.heartbeat.start()
        if self._bridge is not None:
            self._bridge.end()
        notify("READY=1")
        _log.info("fleetd %s serves machine %s", __version__, self._machine_id)
        try:
            await self._run_parts(parts)
        finally:
            notify("STOPPING=1")
            await api.stop()

    async def _run_parts(self, parts: "_Parts") -> None:
        """Run every part until a signal says so, or one of them ends, which is an error."""
        running = [
            asyncio.create_task(parts.agent.run(), name="agent"),
            asyncio.create_task(parts.follower.run(), name="sync"),
            asyncio.create_task(self._keep_address(), name="address"),
            asyncio.create_task(self._keep_watchdog(), name="watchdog"),
        ]
        engine = asyncio.create_task(self._lead(parts.engine), name="engine")
        running.append(engine)
        stop = asyncio.create_task(self._stop.wait(), name="stop")
        leave = False
        try:
            done, _ = await asyncio.wait([stop, *running], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stop}:
                task.result()
                raise Unavailable(f"the {task.get_name()} ended by itself")
            leave = await self._may_leave(parts, engine)
        finally:
            for task in (stop, *running):
                task.cancel()
            await asyncio.gather(stop, *running, return_exceptions=True)
            await parts.heartbeat.stop(leave=leave)

    async def _lead(self, engine: Engine) -> None:
        """Stand for election once this machine is known to be the only one of its id."""
        await self._is_member.wait()
        if self._config.disable_engine:
            await asyncio.Event().wait()
        await engine.run()

    async def _may_leave(self, parts: "_Parts", engine: "asyncio.Task[None]") -> bool:
        """Whether the units here are to start elsewhere at once, now that fleetd stops.

        If that is so by on_stop, none is left here when this returns. If the machine goes down,
        systemd stops them meanwhile.
        """
        if await self._goes_down(parts):
            _log.info("the machine goes down, and leaves the cluster")
            return not (parts.agent.has_fenced and await self._depart(parts, fenced_only=True))
        if self._config.on_stop is OnStop.KEEP:
            return False
        engine.cancel()
        await self._depart(parts)
        return True

    async def _depart(self, parts: "_Parts", *, fenced_only: bool = False) -> tuple[UnitName, ...]:
        """Stop all units here, or the fenced ones; those that have not stopped in time."""
        notify(f"EXTEND_TIMEOUT_USEC={int((DEPART_S + 10) * 1e6)}")
        left = await parts.agent.depart(DEPART_S, fenced_only=fenced_only)
        if left:
            _log.warning("fleetd leaves, and these have not stopped yet: %s", ", ".join(left))
        return left

    async def _goes_down(self, parts: "_Parts") -> bool:
        try:
            return await parts.systemd.is_stopping()
        except FleetError as error:
            _log.warning("whether the machine shuts down is unknown: %s", error)
            return False

    def _use_lease(self, lease: LeaseId | None) -> None:
        self._lease = lease
        self._note.write(lease)
        if lease is not None:
            self._is_member.set()
        if self._parts:
            self._parts.agent.use_lease(lease)

    def _fence_changed(self) -> None:
        """From the heartbeat's thread: the agent is to look again."""
        if self._parts is not None and self._main is not None:
            self._main.call_soon_threadsafe(self._parts.agent.nudge)

    def _unable(self) -> str | None:
        """Why the API cannot answer for the cluster now, or None."""
        if self._lease is not None:
            return None
        return self._parts.heartbeat.problem if self._parts else "fleetd is starting"

    # What goes on beside

    async def _keep_address(self) -> None:
        while True:
            await asyncio.sleep(_ADDRESS_S)
            self._look_at_machine()

    def _look_at_machine(self) -> None:
        machine = describe_machine(self._config, self._machine_id, self._boot_id)
        if machine != self._machine:
            self._machine = machine
            if self._parts:
                self._parts.heartbeat.refresh()

    async def _keep_watchdog(self) -> None:
        interval_s = watchdog_interval_s()
        while True:
            await asyncio.sleep(interval_s / 2 if interval_s else _ADDRESS_S)
            notify("WATCHDOG=1")

    # Signals

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._read_configuration_again)
        loop.add_signal_handler(signal.SIGUSR1, self._print_state)

    def _read_configuration_again(self) -> None:
        """Apply what can be applied without a restart; a mistake changes nothing."""
        _log.info("Reloading configuration")
        try:
            config, warnings = self._reload()
        except FleetError as error:
            _log.error("the configuration stays as it was: %s", error)
            return
        self.warn(warnings)
        for option in needs_restart(self._config, config):
            _log.warning(
                "%s has changed and takes a restart of fleetd, which touches no unit", option
            )
        self._config = with_reloadable(self._config, config)
        logging.getLogger().setLevel(logging.DEBUG if config.verbosity else logging.INFO)
        self._look_at_machine()

    def _print_state(self) -> None:
        """Tell, as one line of JSON on stdout, what fleetd knows; for whoever debugs it."""
        parts = self._parts
        document = {
            "machine": self._machine_id,
            "address": self._machine.address,
            "metadata": dict(self._machine.metadata),
            "registered": self._lease is not None,
            "leading": bool(parts and parts.engine.is_leading),
            "problem": self._unable() or (parts.agent.problem if parts else ""),
            "units": parts.agent.describe() if parts else {},
        }
        print(json.dumps(document), flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    systemd: DbusSystemd
    agent: Agent
    engine: Engine
    follower: Follower
    heartbeat: Heartbeat


def needs_restart(old: Config, new: Config) -> tuple[str, ...]:
    """The options that differ and that a running fleetd does not take over."""
    return tuple(
        option.name.removesuffix("_s")
        for option in fields(Config)
        if option.name not in RELOADABLE and getattr(old, option.name) != getattr(new, option.name)
    )


def with_reloadable(old: Config, new: Config) -> Config:
    """The old configuration with what can change at run time taken from the new one."""
    return replace(old, **{name: getattr(new, name) for name in RELOADABLE})


def _api_tls(config: Config) -> ssl.SSLContext | None:
    """What TCP sockets are served with, if anything; raises InvalidRequest naming a file."""
    if not (config.api_certfile and config.api_keyfile and config.api_cafile):
        return None
    files = ServerFiles(
        certfile=config.api_certfile, keyfile=config.api_keyfile, cafile=config.api_cafile
    )
    return server_context(files)


def _engine_settings(config: Config) -> EngineSettings:
    """The engine's settings; its own lease is two thirds of a machine's, and at least 2 s."""
    ttl_s = max(2.0, config.agent_ttl_s * 2 / 3)
    return EngineSettings(
        plan=PlanSettings(
            machine_ttl_s=config.agent_ttl_s,
            mass_loss_hold_s=config.mass_loss_hold_s,
            mass_loss_part=config.mass_loss_part,
        ),
        election=ElectionSettings(ttl_s=ttl_s, renew_s=ttl_s / 3, margin_s=ttl_s / 4),
        reconcile_interval_s=config.engine_reconcile_interval_s,
    )
