"""What has to be true of a cluster at rest: read from etcd and systemd, judged without fleetd.

`observe` gathers without disturbing anything: it asks systemd only for what it has in memory, so
that nothing is mended by being looked at. `faults` judges what was seen, one sentence each.
"""

import json
import re
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from cli.sandbox.cluster import MachineView, Sandbox
from cli.sandbox.layout import Kind
from engine.losses import EngineMemory
from engine.plan import PlanSettings, plan
from fleet.cluster import Assignment, Cluster
from fleet.constraints import able_to_run, first_match
from fleet.keys import Keys
from fleet.machine import MachineId
from fleet.names import UnitName, split_name
from fleet.options import Requirements
from fleet.snapshot import decode_cluster
from fleet.states import TargetState, UnitState
from fleet.store.port import Entry

Words = tuple[str, str, str]
"""systemd's load, active and sub state."""

AT_REST: Words = ("loaded", "inactive", "dead")
_LIVE = frozenset({"active", "activating", "deactivating", "reloading"})
# Units of this name come and go by themselves, so two looks at them never agree.
RESTLESS = "*loop*"
# What fleetd says when something went wrong in fleetd itself.
_BAD_LINES = re.compile(
    r" fleetd\[.*(?:Traceback|stumbled|heartbeat failed|never (?:retrieved|awaited)"
    r"|Task was destroyed|ended by itself|had left out|CRITICAL)"
    r"|fleet\.service: (?:Start request repeated|Failed with result '(?!signal))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineTruth:
    """What is on one machine: fleet's files and notes, systemd's links to them, and its units."""

    id: MachineId
    name: str
    files: frozenset[str]
    notes: frozenset[str]
    links: frozenset[str]
    units: Mapping[str, Words]

    def words(self, unit: str) -> Words:
        """The unit's state; a unit that systemd keeps nothing of is at rest."""
        return self.units.get(unit, AT_REST)

    def is_live(self, unit: str) -> bool:
        return self.words(unit)[1] in _LIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A cluster at one moment, more or less."""

    cluster: Cluster
    machines: tuple[MachineTruth, ...]


def read_store(sandbox: Sandbox, through: str) -> tuple[list[Entry], int]:
    """Everything below fleet's key, and the revision."""
    members = ",".join(f"http://{n.address}:2379" for n in sandbox.spec.of_kind(Kind.ETCD))
    argv = ["env", "ETCDCTL_API=3", "etcdctl", f"--endpoints={members}"]
    argv += ["get", "/fleet/", "--prefix", "--write-out=json"]
    answer = json.loads(sandbox.run(through, argv, check=True).stdout)
    entries = [
        Entry(
            key=b64decode(kv["key"]).decode(),
            value=b64decode(kv.get("value", "")),
            created=kv["create_revision"],
            modified=kv["mod_revision"],
            lease=kv.get("lease", 0),
        )
        for kv in answer.get("kvs", ())
    ]
    return entries, answer["header"]["revision"]


_LOOK = """
cd /run/fleet; ls units; echo --; ls loaded; echo --
find /run/systemd/system /etc/systemd/system -lname '/run/fleet/units/*' -printf '%f\\n'; echo --
systemctl list-units --all --full --output=json
"""


def look(sandbox: Sandbox, view: MachineView) -> MachineTruth:
    """What is on the machine now."""
    said = sandbox.run(view.name, ["sh", "-c", _LOOK], check=True).stdout
    files, notes, links, units = said.split("--\n", 3)
    return MachineTruth(
        id=MachineId(view.id),
        name=view.name,
        files=frozenset(files.split()),
        notes=frozenset(notes.split()),
        links=frozenset(links.split()),
        units={u["unit"]: (u["load"], u["active"], u["sub"]) for u in json.loads(units)},
    )


def observe(sandbox: Sandbox) -> Scene:
    """The scene now; every machine has to be on."""
    views = sandbox.machines
    entries, revision = read_store(sandbox, views[0].name)
    return Scene(
        cluster=decode_cluster(Keys(), entries, revision),
        machines=tuple(look(sandbox, view) for view in views),
    )


def faults(scene: Scene, *, prefix: str) -> list[str]:
    """What is wrong with the scene, whose fleet units have names that begin with `prefix`."""
    parts = (
        _of_store(scene.cluster),
        _of_placement(scene),
        *(_of_machine(machine, scene.cluster, prefix) for machine in scene.machines),
        _of_numbers(scene),
    )
    return [fault for part in parts for fault in part]


def _of_store(cluster: Cluster) -> Iterator[str]:
    yield from cluster.problems
    if cluster.leader is None:
        yield "no engine leads"
    named = {record.file for record in cluster.units.values()}
    if named != cluster.files.keys():
        yield f"files without units: {cluster.files.keys() - named}"
        yield f"files that are lost: {named - cluster.files.keys()}"
    for row in cluster.schedule:
        if row.leaving:
            yield f"{row.unit} is still leaving {row.machine}"
    made = plan(cluster, EngineMemory(), 0.0, PlanSettings(file_stay_s=0.0))
    for task in made.tasks:
        yield f"the engine has yet to do: {task}"


def _of_placement(scene: Scene) -> Iterator[str]:
    cluster = scene.cluster
    if cluster.machines.keys() != {machine.id for machine in scene.machines}:
        yield f"the cluster's machines are {sorted(cluster.machines)}"
    rows: dict[MachineId, dict[UnitName, Requirements]] = {m: {} for m in cluster.machines}
    for row in cluster.schedule:
        record = cluster.units.get(row.unit)
        if record is None or row.machine not in rows:
            yield f"a row for nothing: {row.unit} on {row.machine}"
        else:
            rows[row.machine][row.unit] = record.requirements
    for name, record in cluster.units.items():
        wanted = record.target is not TargetState.INACTIVE and not split_name(name).is_template
        homes = {row.machine for row in cluster.assignments_of(name)}
        if not wanted and homes:
            yield f"{name} is not wanted, and has a row"
        if record.is_global or not wanted:
            continue
        if len(homes) > 1:
            yield f"{name} has {len(homes)} rows"
        if bool(homes) == (name in cluster.refusals):
            yield f"{name} has {len(homes)} rows, and refusal: {cluster.refusals.get(name)}"
        for machine, others in rows.items():
            verdict = able_to_run(name, record.requirements, cluster.machines[machine], others)
            if not homes and verdict.able and not verdict.displaces:
                yield f"{name} is refused, but fits on {machine}"
            if machine in homes and not verdict.able:
                yield f"{name} is on {machine}, where {verdict.reason}"
    for machine, others in rows.items():
        for name, asked in others.items():
            foes = [o for o in others if o != name and first_match(asked.conflicts, o)]
            if foes:
                yield f"{name} and {foes} conflict on {machine}"


def _of_machine(machine: MachineTruth, cluster: Cluster, prefix: str) -> Iterator[str]:
    here = f"on {machine.name}"
    rows = {row.unit: row for row in cluster.schedule if row.machine == machine.id}
    states = {state.unit: state for state in cluster.states if state.machine == machine.id}
    for what, found in (("files", machine.files), ("notes", machine.notes), ("states", states)):
        if rows.keys() != set(found):
            odd = sorted(rows.keys() ^ set(found))
            yield f"{len(found)} {what} and {len(rows)} rows {here}: {odd[:5]}"
    if machine.links - machine.files:
        yield f"links to nothing {here}: {sorted(machine.links - machine.files)}"
    for unit in sorted(u for u in machine.units if u.startswith(prefix) and u not in rows):
        words = machine.words(unit)
        if machine.is_live(unit) or words[1] == "failed":
            yield f"{unit} has no row {here} and is {words}"
    for unit, row in rows.items():
        state = states.get(unit)
        if state is not None:
            yield from (f"{unit} {here}: {fault}" for fault in _of_unit(row, state, machine))


def _of_unit(row: Assignment, state: UnitState, machine: MachineTruth) -> Iterator[str]:
    if state.hash != row.hash:
        yield f"has hash {state.hash}, and {row.hash} is wanted"
    if state.current is not row.target:
        yield f"is {state.current}, and {row.target} is wanted"
    words, told = machine.words(row.unit), (state.load, state.active, state.sub)
    if words != told and not first_match((RESTLESS,), row.unit):
        yield f"is {words}, and fleet says {told}"
    underway = state.active in _LIVE or state.sub.startswith("auto")
    if row.target is TargetState.LAUNCHED and not (state.is_up or state.has_failed or underway):
        yield f"is neither up nor failed: {state}"


def _of_numbers(scene: Scene) -> Iterator[str]:
    """A unit that is not global lives on one machine at most."""
    single = {u for u, record in scene.cluster.units.items() if not record.is_global}
    live = Counter(u for m in scene.machines for u in single if m.is_live(u))
    yield from (f"{unit} lives on {count} machines" for unit, count in live.items() if count > 1)


def bad_lines(journal: Iterable[str]) -> list[str]:
    """What fleetd should not have said."""
    return [line for line in journal if _BAD_LINES.search(line)]
