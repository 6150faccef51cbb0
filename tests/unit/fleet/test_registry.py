"""The registry: what it writes, in which transactions, and what it refuses to write."""

from dataclasses import replace

import pytest

from fleet.batch import Decision
from fleet.cluster import Assignment, Leader, Refusal
from fleet.errors import Conflict, InvalidUnit, NotFound, Unavailable
from fleet.events import KEPT_OF_A_UNIT, Event, encode_events, read_events
from fleet.keys import Keys
from fleet.machine import Cordon, Machine, MachineId
from fleet.names import UnitName
from fleet.registry import Registry, UnitChange, text_digest
from fleet.snapshot import decode_schedule
from fleet.states import TargetState, UnitState
from fleet.store.memory import MemoryStore
from fleet.store.port import Delete, Guard, LeaseLost, Put
from fleet.unit import UnitFile, parse_unit, unit_from_options
from fleet.writes import decode_stored_unit

KEYS = Keys()
M1 = MachineId("1" * 32)
M2 = MachineId("2" * 32)
WEB = UnitName("web.service")
LAUNCHED, LOADED, INACTIVE = TargetState.LAUNCHED, TargetState.LOADED, TargetState.INACTIVE


def unit(command: str = "/bin/sleep inf", extra: str = "") -> UnitFile:
    return parse_unit(f"# by hand\n[Service]\nExecStart={command}\n{extra}")


def new(
    name: str = WEB, file: UnitFile | None = None, target: TargetState | None = None
) -> UnitChange:
    return UnitChange(name=UnitName(name), file=file or unit(), target=target)


def registry(store: MemoryStore | None = None) -> Registry:
    return Registry(store or MemoryStore(), KEYS)


async def events(of: Registry) -> list[tuple[str, str, str]]:
    entries = (await of.store.read(KEYS.events)).entries.values()
    told = [event for entry in entries for event in read_events(entry)]
    return [(event.by, event.unit, event.what) for event in told]


async def keys_below(of: Registry, prefix: str) -> list[str]:
    return [key.removeprefix(prefix) for key in (await of.store.read(prefix)).entries]


# Users' changes


async def test_apply_stores_the_unit_with_its_options_its_text_and_who_asked() -> None:
    reg = registry()
    file = unit(extra="[X-Fleet]\nMachineMetadata=disk=ssd\nConflicts=web*\n")
    assert await reg.apply([new(file=file, target=LAUNCHED)], by="alice") == {WEB: True}
    cluster, files = await reg.cluster_with_files()
    record = cluster.units[WEB]
    assert (record.hash, record.file, record.target) == (
        file.hash,
        text_digest(file.text),
        LAUNCHED,
    )
    assert record.options == (("MachineMetadata", "disk=ssd"), ("Conflicts", "web*"))
    assert record.requirements.metadata == {"disk": frozenset({"ssd"})}
    assert (record.by, record.created) == ("alice", record.revision)
    assert files[record.file].text == file.text
    assert await events(reg) == [("alice", WEB, "stored, target state launched")]


async def test_apply_without_a_target_state_stores_it_inactive() -> None:
    reg = registry()
    await reg.apply([new()], by="alice")
    assert (await reg.cluster()).units[WEB].target is INACTIVE


async def test_apply_of_a_target_state_keeps_the_contents() -> None:
    reg = registry()
    await reg.apply([new()], by="alice")
    assert await reg.apply([UnitChange(name=WEB, target=LAUNCHED)], by="bob") == {WEB: False}
    record = (await reg.cluster()).units[WEB]
    assert (record.target, record.hash, record.by) == (LAUNCHED, unit().hash, "bob")
    assert (await events(reg))[-1] == ("bob", WEB, "target state launched")


async def test_apply_of_new_contents_alone_makes_the_unit_inactive_as_ever() -> None:
    reg = registry()
    await reg.apply([new(target=LAUNCHED)], by="alice")
    assert await reg.apply([new(file=unit("/bin/true"))], by="alice") == {WEB: True}
    record = (await reg.cluster()).units[WEB]
    assert (record.target, record.hash) == (INACTIVE, unit("/bin/true").hash)


@pytest.mark.parametrize(
    ("in_file", "said", "counts"),
    [
        pytest.param("", 0, 0, id="nobody says anything"),
        pytest.param("", 2, 2, id="the change alone"),
        pytest.param("MaxUnavailable=3", 0, 3, id="the file alone"),
        pytest.param("MaxUnavailable=3", 2, 2, id="the change says less"),
        pytest.param("MaxUnavailable=1", 2, 1, id="the file says less"),
    ],
)
async def test_limit_of_a_change_counts_until_there_are_other_contents(
    in_file: str, said: int, counts: int
) -> None:
    reg = registry()

    async def limit() -> int:
        return (await reg.cluster()).units[WEB].requirements.max_unavailable

    file = unit(extra=f"[X-Fleet]\n{in_file}\n")
    await reg.apply([replace(new(file=file), max_unavailable=said)], by="alice")
    assert await limit() == counts
    await reg.apply([UnitChange(name=WEB, target=LAUNCHED)], by="alice")
    await reg.apply([new(file=file, target=LAUNCHED)], by="alice")
    assert await limit() == counts
    await reg.apply([new(file=unit("/bin/true"), target=LAUNCHED)], by="alice")
    assert await limit() == 0


async def test_apply_of_what_is_so_already_writes_nothing() -> None:
    reg = registry()
    await reg.apply([new(target=LAUNCHED)], by="alice")
    before = (await reg.store.read()).revision
    assert await reg.apply([new(target=LAUNCHED)], by="bob") == {WEB: False}
    assert (await reg.store.read()).revision == before


async def test_apply_of_other_comments_stores_them_and_changes_nothing_else() -> None:
    reg = registry()
    await reg.apply([new(target=LAUNCHED)], by="alice")
    reworded = parse_unit("# another hand\n[Service]\n\nExecStart = /bin/sleep inf\n")
    assert reworded.hash == unit().hash
    assert await reg.apply([UnitChange(name=WEB, file=reworded)], by="bob") == {WEB: False}
    cluster, files = await reg.cluster_with_files()
    record = cluster.units[WEB]
    assert (record.hash, record.target, record.by) == (reworded.hash, LAUNCHED, "bob")
    assert files[record.file].text == reworded.text
    assert (await events(reg))[-1] == ("bob", WEB, "comments stored, target state launched")


async def test_options_that_say_the_same_leave_the_authors_text_alone() -> None:
    reg = registry()
    await reg.apply([new(target=LOADED)], by="alice")
    options = unit_from_options(unit().options)
    change = UnitChange(name=WEB, file=options, target=LAUNCHED, rendered=True)
    assert await reg.apply([change], by="an original client") == {WEB: False}
    cluster, files = await reg.cluster_with_files()
    record = cluster.units[WEB]
    assert (record.target, files[record.file].text) == (LAUNCHED, unit().text)


async def test_apply_writes_nothing_if_one_unit_does_not_exist() -> None:
    reg = registry()
    asked = [new(f"a{n}.service", target=LAUNCHED) for n in range(200)]
    asked.append(UnitChange(name=UnitName("missing.service"), target=LAUNCHED))
    with pytest.raises(NotFound, match=r"unit does not exist: missing\.service"):
        await reg.apply(asked, by="alice")
    assert await keys_below(reg, KEYS.root) == []


async def test_apply_of_one_unit_twice_counts_as_both_together() -> None:
    reg = registry()
    both = [new(), UnitChange(name=WEB, target=LOADED), UnitChange(name=WEB, target=LAUNCHED)]
    assert await reg.apply(both, by="alice") == {WEB: True}
    record = (await reg.cluster()).units[WEB]
    assert (record.target, record.hash) == (LAUNCHED, unit().hash)


async def test_apply_destroys_beside_other_changes_and_says_what_was_there() -> None:
    reg = registry()
    other, gone = UnitName("other.service"), UnitName("gone.service")
    await reg.apply([new(), new(other)], by="alice")
    asked = [
        UnitChange(name=WEB, destroy=True),
        UnitChange(name=gone, destroy=True),
        UnitChange(name=other, target=LAUNCHED),
    ]
    assert await reg.apply(asked, by="bob") == {WEB: True, gone: False, other: False}
    assert await keys_below(reg, KEYS.units) == [other]
    assert ("bob", WEB, "destroyed") in await events(reg)
    assert ("bob", gone, "destroyed") not in await events(reg)


async def test_apply_destroys_nothing_if_another_unit_does_not_exist() -> None:
    reg = registry()
    await reg.apply([new()], by="alice")
    missing = UnitChange(name=UnitName("missing.service"), target=LAUNCHED)
    with pytest.raises(NotFound, match=r"missing\.service"):
        await reg.apply([UnitChange(name=WEB, destroy=True), missing], by="bob")
    assert await keys_below(reg, KEYS.units) == [WEB]


async def test_last_word_on_a_unit_counts_if_one_of_them_destroys_it() -> None:
    reg = registry()
    destroy = UnitChange(name=WEB, destroy=True)
    assert await reg.apply([new(), destroy], by="alice") == {WEB: False}
    assert await keys_below(reg, KEYS.units) == []
    assert await reg.apply([destroy, new(target=LOADED)], by="alice") == {WEB: True}
    assert (await reg.cluster()).units[WEB].target is LOADED


async def test_destroying_hundreds_takes_few_transactions() -> None:
    store = CountingStore()
    reg = registry(store)
    names = [UnitName(f"job@{number}.service") for number in range(300)]
    await reg.apply([new(name) for name in names], by="alice")
    store.sizes.clear()
    await reg.apply([UnitChange(name=name, destroy=True) for name in names], by="alice")
    assert await keys_below(reg, KEYS.units) == []
    assert len(store.sizes) == 4


async def test_apply_of_nothing_is_nothing() -> None:
    assert await registry().apply([], by="alice") == {}


class CountingStore(MemoryStore):
    """Remembers the sizes of transactions."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    async def commit(self, guards, operations):  # type: ignore[no-untyped-def]
        self.sizes.append(len(operations))
        return await super().commit(guards, operations)


async def test_apply_of_a_thousand_instances_takes_few_transactions_and_one_file() -> None:
    store = CountingStore()
    reg = registry(store)
    await reg.apply([new(f"job@{n}.service", target=LAUNCHED) for n in range(1000)], by="alice")
    assert len(await keys_below(reg, KEYS.units)) == 1000
    assert len(await keys_below(reg, KEYS.files)) == 1
    assert len(store.sizes) <= 18


async def test_apply_of_large_units_keeps_to_the_size_of_a_transaction() -> None:
    reg = registry()
    large = [new(f"a{n}.service", unit("/bin/true", f"# {n}" + "x" * 400_000)) for n in range(5)]
    await reg.apply(large, by="alice")
    assert len((await reg.cluster()).units) == 5


class RacingStore(MemoryStore):
    """Lets something happen between a read and the commit that follows it."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: list[tuple[list[Guard], list[Put | Delete]]] = []

    async def commit(self, guards, operations):  # type: ignore[no-untyped-def]
        for earlier in self.meanwhile:
            await super().commit(*earlier)
        self.meanwhile = []
        return await super().commit(guards, operations)


async def test_apply_refuses_to_overwrite_what_changed_meanwhile() -> None:
    store = RacingStore()
    reg = registry(store)
    await reg.apply([new()], by="alice")
    store.meanwhile = [([], [Delete(KEYS.unit(WEB))])]
    with pytest.raises(Conflict, match=r"web\.service was changed by somebody else"):
        await reg.apply([UnitChange(name=WEB, target=LAUNCHED)], by="bob")
    assert await keys_below(reg, KEYS.units) == []


async def test_destroy_removes_the_unit_and_says_who_did() -> None:
    reg = registry()
    await reg.apply([new()], by="alice")
    await reg.destroy(WEB, by="bob")
    assert (await reg.cluster()).units == {}
    assert (await events(reg))[-1] == ("bob", WEB, "destroyed")
    with pytest.raises(NotFound, match="unit does not exist"):
        await reg.destroy(WEB, by="bob")


async def test_removal_of_an_unused_file_loses_against_submitting_it_again() -> None:
    store = RacingStore()
    reg = registry(store)
    await reg.apply([new()], by="alice")
    await reg.destroy(WEB, by="alice")
    leader = await leading(reg)
    digest, revision = next(iter((await reg.cluster_with_files())[0].files.items()))
    store.meanwhile = [
        ([], [Put(KEYS.file(digest), unit().text.encode()), Put(KEYS.unit(WEB), b"{}")])
    ]
    key = KEYS.file(digest)
    with pytest.raises(Conflict):
        await reg.leadership.commit(
            leader, [Decision([Delete(key)], [Guard(key, modified=revision)])], since=0
        )
    assert (await reg.file(digest)).hash == unit().hash


async def test_submitting_again_writes_a_file_again_that_others_share() -> None:
    reg = registry()
    await reg.apply([new("a.service")], by="alice")
    before = (await reg.cluster_with_files())[0].files
    await reg.apply([new("b.service")], by="alice")
    after = (await reg.cluster_with_files())[0].files
    assert before.keys() == after.keys()
    assert max(after.values()) > max(before.values())


# Files


async def test_file_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound, match="abc"):
        await registry().file("abc")


async def test_malformed_file_is_named_and_hides_no_other() -> None:
    reg = registry()
    other = unit("/bin/false")
    await reg.apply([new(), new("other.service", other)], by="alice")
    good, bad = text_digest(unit().text), text_digest(other.text)
    malformed = [Put(KEYS.file(digest), b"[Unit]\nsecret \xff\n") for digest in (bad, "unnamed")]
    await reg.store.commit([], malformed)
    cluster, files = await reg.cluster_with_files()
    assert files.keys() == {good}
    assert [KEYS.file(bad) in problem for problem in cluster.problems] == [True]
    assert "secret" not in str(cluster.problems)
    assert (await reg.files([good, bad, "none"])).keys() == {good}
    with pytest.raises(InvalidUnit, match=KEYS.file(bad)):
        await reg.file(bad)


async def test_files_of_hundreds_of_digests_are_all_found() -> None:
    reg = registry()
    many = [unit(f"/bin/echo {number}") for number in range(300)]
    await reg.apply([new(f"a{n}.service", file) for n, file in enumerate(many)], by="alice")
    digests = [text_digest(file.text) for file in many]
    found = await reg.files(digests)
    assert [found[digest].hash for digest in digests] == [file.hash for file in many]
    assert await reg.files([]) == {}


# Metadata and machines


async def test_metadata_is_laid_over_the_machine_s_own_and_none_takes_away() -> None:
    reg = registry()
    lease = await reg.store.grant(60)
    machine = Machine(id=M1, metadata={"disk": "ssd", "zone": "a"})
    assert await reg.register(machine, lease, over=0)
    await reg.set_metadata([(M1, "zone", "b"), (M1, "disk", None), (M2, "x", "1")], by="alice")
    assert (await reg.cluster()).machines[M1].metadata == {"zone": "b"}
    assert [what for _, _, what in await events(reg)] == [
        f"metadata {M1}/zone = b",
        f"metadata {M1}/disk = (removed)",
        f"metadata {M2}/x = 1",
    ]


async def test_register_gives_way_to_another_registration() -> None:
    reg = registry()
    one, two = await reg.store.grant(60), await reg.store.grant(60)
    assert await reg.register(Machine(id=M1), one, over=0)
    assert not await reg.register(Machine(id=M1), two, over=0)
    entry = await reg.machine_entry(M1)
    assert entry is not None
    assert entry.lease == one
    assert await reg.register(Machine(id=M1), two, over=entry.modified)
    await reg.store.revoke(one)
    assert M1 in (await reg.cluster()).machines
    await reg.store.revoke(two)
    assert await reg.machine_entry(M1) is None


async def test_states_live_and_end_with_the_lease() -> None:
    reg = registry()
    lease = await reg.store.grant(60)
    state = UnitState(
        unit=WEB,
        machine=M1,
        hash="h",
        load="loaded",
        active="active",
        sub="running",
        current=LAUNCHED,
    )
    names = [UnitName(f"a{number}.service") for number in range(300)]
    await reg.publish_states(M1, dict.fromkeys([*names, WEB], state), lease)
    assert len((await reg.cluster()).states) == 301
    await reg.publish_states(M1, dict.fromkeys(names), lease)
    assert [each.unit for each in (await reg.cluster()).states] == [WEB]
    await reg.store.revoke(lease)
    assert (await reg.cluster()).states == ()
    with pytest.raises(LeaseLost):
        await reg.publish_states(M1, {WEB: state}, lease)


# The engine's writes


async def leading(reg: Registry, machine: MachineId = M1) -> Leader:
    leader = await reg.leadership.acquire(machine, await reg.store.grant(3600))
    assert leader is not None
    return leader


def row(name: str = WEB, machine: MachineId = M1) -> Assignment:
    return Assignment(
        unit=UnitName(name), machine=machine, hash="h", file="f", target=LAUNCHED, reason="room"
    )


async def test_leadership_is_one_machine_s_until_its_lease_ends() -> None:
    reg = registry()
    lease = await reg.store.grant(60)
    first = await reg.leadership.acquire(M1, lease)
    assert first is not None
    assert (await reg.cluster()).leader == first
    assert await reg.leadership.acquire(M2, await reg.store.grant(60)) is None
    await reg.store.revoke(lease)
    second = await reg.leadership.acquire(M2, await reg.store.grant(60))
    assert second is not None
    assert second.created > first.created


async def test_commit_as_writes_rows_refusals_and_events() -> None:
    reg = registry()
    leader = await leading(reg)
    refusal = Refusal(unit=UnitName("b.service"), reasons={M1: "no disk"})
    event = Event(at_s=1.0, by=f"engine on {M1}", unit=WEB, what="scheduled on 1111: room")
    await reg.leadership.commit(
        leader,
        [
            Decision([reg.assignment_put(row())]),
            Decision([reg.refusal_put(refusal)], events=[event]),
        ],
        since=0,
    )
    cluster = await reg.cluster()
    assert [(each.unit, each.machine, each.reason) for each in cluster.schedule] == [
        (WEB, M1, "room")
    ]
    assert cluster.refusals[UnitName("b.service")].reasons == {M1: "no disk"}
    assert await events(reg) == [(f"engine on {M1}", WEB, "scheduled on 1111: room")]


async def test_commit_as_writes_a_thousand_decisions_in_few_transactions() -> None:
    store = CountingStore()
    reg = registry(store)
    leader = await leading(reg)
    guards = {n: Guard(KEYS.unit(UnitName(f"a{n}.service")), modified=0) for n in range(1000)}
    await reg.leadership.commit(
        leader,
        [Decision([reg.assignment_put(row(f"a{n}.service"))], [guards[n]]) for n in guards],
        since=0,
    )
    assert len((await reg.cluster()).schedule) == 1000
    assert len(store.sizes) == 9
    assert max(store.sizes[1:]) == 127


async def test_deposed_leader_cannot_write() -> None:
    reg = registry()
    lease = await reg.store.grant(60)
    old = await reg.leadership.acquire(M1, lease)
    assert old is not None
    await reg.store.revoke(lease)
    await leading(reg, M2)
    before = (await reg.store.read()).revision
    with pytest.raises(Conflict):
        await reg.leadership.commit(old, [Decision([reg.assignment_put(row())])], since=0)
    assert (await reg.store.read()).revision == before


async def test_leader_deposed_between_two_batches_writes_no_further() -> None:
    store = RacingStore()
    reg = registry(store)
    leader = await leading(reg)
    since = await reg.leadership.commit(leader, [Decision([reg.assignment_put(row())])], since=0)
    store.meanwhile = [([], [Delete(KEYS.engine)])]
    puts = [reg.assignment_put(row(f"a{n}.service")) for n in range(300)]
    with pytest.raises(Conflict):
        await reg.leadership.commit(leader, [Decision([put]) for put in puts], since=since)
    assert [each.unit for each in (await reg.cluster()).schedule] == [WEB]


async def test_whoever_decided_without_knowing_of_another_decision_writes_nothing() -> None:
    store = RacingStore()
    reg = registry(store)
    leader = await leading(reg)
    since = await reg.leadership.commit(leader, [Decision([reg.assignment_put(row())])], since=0)
    assert (await reg.cluster()).latest_rows == since
    puts = [reg.assignment_put(row(f"a{n}.service")) for n in range(300)]
    with pytest.raises(Conflict):
        await reg.leadership.commit(leader, [Decision([put]) for put in puts], since=0)
    store.meanwhile = [([], [Put(KEYS.latest_rows, b"")])]
    with pytest.raises(Conflict):
        await reg.leadership.commit(leader, [Decision([put]) for put in puts], since=since)
    assert [each.unit for each in (await reg.cluster()).schedule] == [WEB]
    since = (await reg.cluster()).latest_rows
    since = await reg.leadership.commit(leader, [Decision([put]) for put in puts], since=since)
    assert ((await reg.cluster()).latest_rows, len((await reg.cluster()).schedule)) == (since, 301)


async def test_decision_whose_ground_has_moved_is_not_written() -> None:
    reg = registry()
    leader = await leading(reg)
    await reg.apply([new()], by="alice")
    record = (await reg.cluster()).units[WEB]
    await reg.apply([UnitChange(name=WEB, target=LAUNCHED)], by="alice")
    guard = Guard(KEYS.unit(WEB), modified=record.revision)
    with pytest.raises(Conflict):
        await reg.leadership.commit(
            leader, [Decision([reg.assignment_put(row())], [guard])], since=0
        )
    assert (await reg.cluster()).schedule == ()


async def test_two_guards_of_one_key_both_count() -> None:
    reg = registry()
    leader = await leading(reg)
    await reg.apply([new()], by="alice")
    created = (await reg.cluster()).units[WEB].created
    await reg.apply([UnitChange(name=WEB, target=LAUNCHED)], by="alice")
    key = KEYS.unit(WEB)
    stale, right = Guard(key, modified=created), Guard(key, created=created)
    for first, second in ((stale, right), (right, stale)):
        one = Decision([Delete("/fleet/x")], [first])
        two = Decision([Delete("/fleet/y")], [second])
        with pytest.raises(Conflict):
            await reg.leadership.commit(leader, [one, two], since=0)


# Events, and what cannot be read


async def test_trim_events_keeps_the_newest() -> None:
    reg = registry()
    names = [UnitName(f"a{n}.service") for n in range(150)]
    await reg.apply([new(name) for name in names], by="alice")
    await reg.apply([UnitChange(name=name, destroy=True) for name in names], by="bob")
    assert await reg.trim_events(10) == 3  # an entry goes with the last of its events
    assert [by for by, _, _ in await events(reg)] == ["bob"] * 50
    assert await reg.trim_events(10) == 0
    assert await reg.trim_events(0) == 1


async def test_last_events_of_a_unit_outlast_the_noise_of_others() -> None:
    reg = registry()
    await reg.apply([new()], by="alice")
    gone = UnitName("gone.service")
    for _ in range(20):
        await reg.apply([new(gone, target=LAUNCHED)], by="bob")
        await reg.destroy(gone, by="bob")
    await reg.trim_events(5)
    assert [each.by for each in (await reg.events(100, unit=WEB)).events] == ["alice"]
    assert len((await reg.events(100, unit=gone)).events) == 5
    for _ in range(KEPT_OF_A_UNIT):
        for target in (LOADED, INACTIVE):
            await reg.apply([UnitChange(name=WEB, target=target)], by="carol")
    await reg.trim_events(0)
    assert {each.by for each in (await reg.events(100, unit=WEB)).events} == {"carol"}
    assert len((await reg.events(100)).events) == KEPT_OF_A_UNIT


async def test_events_come_in_the_order_of_their_writing_whatever_the_clocks_say() -> None:
    reg = registry()
    for at_s, what in ((300.0, "first"), (100.0, "second"), (200.0, "third")):
        event = Event(at_s=at_s, by="alice", unit=WEB, what=what)
        await reg.store.commit([], [Put(f"{KEYS.events}{at_s}", encode_events([event]))])
        await reg.store.commit([], [Put(f"{KEYS.events}{at_s}-bad", b"[]")])
    assert [event.what for event in (await reg.events(10)).events] == ["first", "second", "third"]
    assert [event.what for event in (await reg.events(2)).events] == ["second", "third"]
    assert (await reg.events(1)).events[0].at_s == 200.0


async def test_departure_is_told_of_until_the_machine_is_back() -> None:
    reg = registry()
    machine = Machine(id=M1)
    assert await reg.register(machine, await reg.store.grant(60), over=0)
    await reg.depart(M1, await reg.store.grant(60))
    assert await keys_below(reg, KEYS.departures) == [M1]
    assert (await reg.events(1)).events[0].by == f"machine {M1}"
    entry = await reg.machine_entry(M1)
    assert entry is not None
    assert not await reg.register(machine, await reg.store.grant(60), over=0)
    assert await keys_below(reg, KEYS.departures) == [M1]
    assert await reg.register(machine, await reg.store.grant(60), over=entry.modified)
    assert await keys_below(reg, KEYS.departures) == []


async def test_hold_that_cannot_be_read_is_none_and_can_be_released() -> None:
    reg = registry()
    await reg.store.commit([], [Put(KEYS.hold, b"{")])
    assert await reg.hold() is None
    await reg.release_hold(by="alice")
    with pytest.raises(NotFound, match="no machines are held"):
        await reg.release_hold(by="alice")


async def test_stored_unit_that_is_malformed_says_what_to_do() -> None:
    store = MemoryStore()
    await store.commit([], [Put(KEYS.unit(WEB), b"not json")])
    entry = (await store.read(KEYS.unit(WEB))).entries[KEYS.unit(WEB)]
    with pytest.raises(Conflict, match=r"destroy web\.service and submit it again"):
        decode_stored_unit(WEB, entry)


async def test_schedule_that_is_malformed_in_one_row_shows_the_others() -> None:
    reg = registry()
    bad = Put(KEYS.assignment(M1, UnitName("bad.service")), b"\xff")
    await reg.store.commit([], [reg.assignment_put(row()), bad])
    entries = (await reg.store.read(KEYS.schedule_of(M1))).entries.values()
    rows, problems = decode_schedule(KEYS, M1, entries)
    assert [each.unit for each in rows] == [WEB]
    assert [bad.key in problem for problem in problems] == [True]


async def test_every_method_passes_on_that_the_store_is_gone() -> None:
    store = MemoryStore()
    reg = registry(store)
    leader = await leading(reg)
    store.fail_with(Unavailable("no quorum"))
    for call in (
        reg.cluster(),
        reg.cluster_with_files(),
        reg.apply([new()], by="alice"),
        reg.destroy(WEB, by="alice"),
        reg.leadership.commit(leader, [Decision([reg.assignment_put(row())])], since=0),
        reg.trim_events(1),
        reg.events(1),
        reg.hold(),
        reg.release_hold(by="alice"),
    ):
        with pytest.raises(Unavailable, match="no quorum"):
            await call


async def test_cordon_is_written_renewed_and_taken_back_with_events() -> None:
    reg = registry()
    await reg.cordon(M1, Cordon(by="alice", why="new disks"))
    await reg.cordon(M1, Cordon(by="bob", drain=True))
    assert (await reg.cluster()).cordons == {M1: Cordon(by="bob", drain=True)}
    await reg.uncordon(M1, by="carol")
    assert (await reg.cluster()).cordons == {}
    with pytest.raises(NotFound, match="is not cordoned"):
        await reg.uncordon(M1, by="carol")
    assert await events(reg) == [
        ("alice", "", f"cordons machine {M1}: new disks"),
        ("bob", "", f"drains machine {M1}"),
        ("carol", "", f"uncordons machine {M1}"),
    ]
