"""The heartbeat: this machine's lease and its registration, in a thread of its own.

Busy is not dead: the thread has its own event loop and its own connection to the store, so that no
scheduling pass, D-Bus storm or large answer in the main loop delays a renewal.

A registration left by an earlier run of this machine (same boot, or same address) is superseded
at once; the earlier lease is left to lapse, since states that are not yet published anew lie
under it. Any other registration is waited out: if it is still there after its lease must have
ended, another machine has the same id, which is said until it is put right.
"""

import asyncio
import json
import logging
import threading
from collections.abc import Awaitable, Callable

from agent.fence import Fence
from fleet.errors import MALFORMED, Unavailable
from fleet.keys import Keys
from fleet.machine import Machine, decode_machine
from fleet.registry import Registry
from fleet.store.port import Entry, LeaseId, LeaseLost, Store

_log = logging.getLogger(__name__)

DEFAULT_TTL_S = 6.0
# The lease is renewed after this part of it: often enough for two tries, and a little more rarely
# than a third, so that an idle machine stays below one request in two seconds. What it looked like
# when it was registered is looked at again only every so many renewals, about once a minute.
RENEW_PART = 0.35
CHECK_ROUNDS = 30
RETRY_S = 0.2
POLL_S = 0.5
GRACE_S = 2.0
LEAVE_S = 2.0
# A store that takes longer than this part of a lease to renew it is in trouble.
SLOW_PART = 6
JOIN_S = 5.0
# How long it is known that a machine left on purpose: any engine has taken over by then.
DEPARTURE_S = 60.0
# fleet 1.0's words: its users search their journals for them.
OVERDUE = "Server monitor triggered: Monitor timed out before successful heartbeat"

OnSession = Callable[[LeaseId | None], None]


class Membership:
    """The machine's lease and registration as coroutines; `Heartbeat` gives them their thread.

    `session` is called with every new lease, once the machine is registered under it, and with
    None when it has none any more; `renewed` with the moment before each renewal that succeeded,
    by the loop's clock.
    """

    def __init__(
        self,
        store: Store,
        keys: Keys,
        machine: Callable[[], Machine],
        *,
        ttl_s: float = DEFAULT_TTL_S,
        session: OnSession,
        renewed: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._tell_renewed = renewed
        self._registry = Registry(store, keys)
        self._machine = machine
        self._ttl_s = ttl_s
        self._session = session
        self._lease: LeaseId | None = None
        self._registered: Machine | None = None
        self._overdue = False
        self._asked_s: float | None = None
        self._trouble_s: float | None = None
        self._wake = asyncio.Event()
        self.problem = "this machine is not registered yet"
        """Why the machine is not registered, empty if it is."""
        self.renewed_s: float | None = None
        """When the lease was last known to be good, by the loop's clock."""

    def refresh(self) -> None:
        """Look at the machine's address and metadata again now."""
        self._wake.set()

    def trouble_s(self, now_s: float) -> float | None:
        """When the store was last found slow or silent, None if never, by the loop's clock."""
        asked_s = self._asked_s
        if asked_s is not None and self._is_slow(now_s - asked_s):
            return now_s
        return self._trouble_s

    def _is_slow(self, took_s: float) -> bool:
        return took_s > self._ttl_s / SLOW_PART

    async def run(self) -> None:
        """Be a member for ever."""
        while True:
            try:
                await self._stay(await self._join())
            except LeaseLost as error:
                self._lost(f"the machine's lease was lost: {error}")
            except Unavailable as error:
                self._lost(f"the store does not answer: {error}")
                await asyncio.sleep(RETRY_S)

    async def leave(self, *, revoke: bool) -> None:
        """End, with the lease given up at once or renewed once more; bounded by LEAVE_S.

        A lease that is given up is told of before, so that it does not pass for a loss.
        """
        lease = self._lease
        if lease is None:
            return
        try:
            async with asyncio.timeout(LEAVE_S):
                if not revoke:
                    began_s = asyncio.get_running_loop().time()
                    await self._store.renew(lease)
                    self._tell_renewed(began_s)
                    return
                departure = await self._store.grant(DEPARTURE_S)
                await self._registry.depart(self._machine().id, departure)
                await self._store.revoke(lease)
        except (Unavailable, LeaseLost, TimeoutError) as error:
            _log.warning("the machine's lease ends by itself: %r", error)

    async def _join(self) -> LeaseId:
        """The lease under which the machine is registered, when it is."""
        clock = asyncio.get_running_loop().time
        since_s = clock()
        lease = await self._store.grant(self._ttl_s)
        deadline_s = since_s + self._ttl_s + GRACE_S
        while (stranger := await self._register(lease)) is not None:
            if clock() >= deadline_s:
                self._lost(_duplicate(self._machine(), stranger))
            await asyncio.sleep(POLL_S)
            if clock() - since_s >= self._ttl_s / 3:
                asked_s = clock()
                await self._store.renew(lease)
                since_s = asked_s
        self._lease, self.renewed_s, self._overdue = lease, since_s, False
        self.problem = ""
        _log.info("this machine is registered in the cluster")
        self._session(lease)
        self._tell_renewed(since_s)
        return lease

    async def _register(self, lease: LeaseId) -> Machine | None:
        """Register, or return the machine that is in the way."""
        machine = self._machine()
        while True:
            entry = await self._registry.machine_entry(machine.id)
            other = _decode(entry)
            ours = entry is not None and entry.lease == lease
            if other is not None and not ours and not _is_same(machine, other):
                return other
            over = entry.modified if entry else 0
            if await self._registry.register(machine, lease, over=over):
                self._registered = machine
                return None

    async def _stay(self, lease: LeaseId) -> None:
        """Renew until the lease is lost; raises LeaseLost."""
        rounds = 0
        while True:
            await self._pause(self._ttl_s * RENEW_PART)
            await self._renew(lease)
            rounds += 1
            if rounds % CHECK_ROUNDS == 0 or self._machine() != self._registered:
                await self._check_registration(lease)

    async def _renew(self, lease: LeaseId) -> None:
        """Renew, again and again until it works; raises LeaseLost.

        Even when the lease's time is over by our clock: the store may have lengthened it.
        """
        clock = asyncio.get_running_loop().time
        while True:
            began_s = self._asked_s = clock()
            try:
                async with asyncio.timeout(self._ttl_s / 3):
                    await self._store.renew(lease)
            except (Unavailable, TimeoutError) as error:
                self._trouble_s = clock()
                self._worry(f"the machine's lease cannot be renewed: {error!r}")
                self._watch_the_time(clock())
                await asyncio.sleep(RETRY_S)
                continue
            finally:
                if self._is_slow(clock() - began_s):
                    self._trouble_s = clock()
                self._asked_s = None
            if self.problem:
                _log.info("the machine's lease is renewed again")
            self.problem, self.renewed_s, self._overdue = "", began_s, False
            self._tell_renewed(began_s)
            return

    def _watch_the_time(self, now_s: float) -> None:
        """Say once that the lease's time is over, as far as one can tell from here."""
        if self._overdue or self.renewed_s is None or now_s < self.renewed_s + self._ttl_s:
            return
        self._overdue = True
        _log.error("%s; units stay as they are, and it is tried again", OVERDUE)

    async def _check_registration(self, lease: LeaseId) -> None:
        """Register anew if the machine changed or the entry is not what it was."""
        machine = self._machine()
        try:
            entry = await self._registry.machine_entry(machine.id)
            if entry is not None and entry.lease == lease and machine == self._registered:
                return
            stranger = await self._register(lease)
        except Unavailable as error:
            self._worry(f"the machine's registration cannot be checked: {error}")
            return
        if stranger is not None:
            raise LeaseLost(_duplicate(machine, stranger))

    def _worry(self, problem: str) -> None:
        if not self.problem:
            _log.warning("%s; it is tried again", problem)
        self.problem = problem

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    def _lost(self, problem: str) -> None:
        if problem != self.problem:
            _log.warning("%s", problem)
        self.problem = problem
        if self._lease is not None:
            self._lease = None
            self._session(None)


class Heartbeat:
    """The membership in a thread. Made and used in the main loop, where `on_session` is called."""

    def __init__(
        self,
        *,
        connect: Callable[[], Store],
        machine: Callable[[], Machine],
        keys: Keys,
        on_session: OnSession,
        ttl_s: float = DEFAULT_TTL_S,
        fence: Fence | None = None,
    ) -> None:
        self._fence = fence
        self._connect = connect
        self._machine = machine
        self._keys = keys
        self._on_session = on_session
        self._ttl_s = ttl_s
        self._main = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._membership: Membership | None = None
        self._ending: asyncio.Event | None = None
        self._revoke = False
        self._ready = threading.Event()

    @property
    def problem(self) -> str:
        """Why this machine is not a member of the cluster, or may soon not be; "" if it is."""
        membership = self._membership
        return "this machine is not registered yet" if membership is None else membership.problem

    def trouble_s(self) -> float | None:
        """When the store was last found slow or silent, by the monotonic clock; None if never."""
        return self._membership.trouble_s(self._main.time()) if self._membership else None

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def refresh(self) -> None:
        """Have a changed address or changed metadata registered now."""
        if self._loop is not None and self._membership is not None:
            self._loop.call_soon_threadsafe(self._membership.refresh)

    async def stop(self, *, leave: bool) -> None:
        """End within JOIN_S: leave the cluster at once, or let the lease run out its time."""
        if not self._thread.is_alive():
            return
        await asyncio.to_thread(self._ready.wait, JOIN_S)
        self._revoke = leave
        if self._loop is not None and self._ending is not None:
            self._loop.call_soon_threadsafe(self._ending.set)
        await asyncio.to_thread(self._thread.join, JOIN_S)

    def _run(self) -> None:
        asyncio.run(self._beat())

    async def _beat(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        self._ready.set()
        store = self._connect()
        self._membership = Membership(
            store,
            self._keys,
            self._machine,
            ttl_s=self._ttl_s,
            session=self._tell,
            renewed=self._fence.renewed if self._fence else lambda _: None,
        )
        member = asyncio.create_task(_for_ever(self._membership.run))
        fencing = [asyncio.create_task(_for_ever(self._fence.run))] if self._fence else []
        await self._ending.wait()
        await _ended(member)
        await self._membership.leave(revoke=self._revoke)
        if self._fence is not None:
            await self._fence.catch_up(LEAVE_S)
        await _ended(*fencing)
        await store.close()

    def _tell(self, lease: LeaseId | None) -> None:
        self._main.call_soon_threadsafe(self._on_session, lease)


async def _ended(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _for_ever(run: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await run()
        except Exception:
            _log.exception("the heartbeat failed, beginning anew")
            await asyncio.sleep(1.0)


def _decode(entry: Entry | None) -> Machine | None:
    """The machine of a registration; None if there is none or it is malformed."""
    if entry is None:
        return None
    try:
        return decode_machine(json.loads(entry.value))
    except MALFORMED:
        return None


def _is_same(machine: Machine, other: Machine) -> bool:
    """Whether the other registration is of an earlier run of this very machine."""
    same_boot = bool(machine.boot_id) and machine.boot_id == other.boot_id
    return same_boot or (bool(machine.address) and machine.address == other.address)


def _duplicate(machine: Machine, other: Machine) -> str:
    return (
        f"machine id {machine.id} is in use twice: by {other.address or 'an unknown address'} and "
        f"by this machine, {machine.address or 'of unknown address'}; give one of them another "
        "/etc/machine-id (systemd-machine-id-setup) and reboot it"
    )
