"""May a unit run on a machine: the order of the checks, both directions of each, the reasons."""

import pytest

from fleet.constraints import Verdict, able_to_run, first_match
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.options import Requirements

_ID = "113f16a7c1d84d3ab2e4f5a6b7c8d9e0"
_MACHINE = Machine(id=MachineId(_ID), metadata={"region": "us-west", "disk": "ssd"})
_WEB = UnitName("web.service")


def _metadata(**wanted: str) -> dict[str, frozenset[str]]:
    return {key: frozenset(choices.split()) for key, choices in wanted.items()}


def _verdict(asked: Requirements, **others: Requirements) -> Verdict:
    neighbours = {UnitName(f"{name}.service"): theirs for name, theirs in others.items()}
    return able_to_run(_WEB, asked, _MACHINE, neighbours)


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(Requirements(), id="it asks for nothing"),
        pytest.param(Requirements(machine_id=_ID), id="this machine by its id"),
        pytest.param(Requirements(machine_id=_ID[:8]), id="this machine by its short id"),
        pytest.param(Requirements(metadata=_metadata(region="us-west")), id="metadata it has"),
        pytest.param(
            Requirements(metadata=_metadata(region="eu us-west")), id="one of several choices"
        ),
        pytest.param(
            Requirements(metadata=_metadata(region="us-west", disk="ssd")), id="two keys it has"
        ),
        pytest.param(Requirements(is_global=True), id="a global unit"),
        pytest.param(Requirements(conflicts=("other*",)), id="a conflict with nobody here"),
        pytest.param(Requirements(replaces=("other*",)), id="nobody here to replace"),
    ],
)
def test_unit_is_able_to_run_on_an_empty_machine(asked: Requirements) -> None:
    assert _verdict(asked) == Verdict()
    assert _verdict(asked).able


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        pytest.param(
            Requirements(machine_id="other"), "the unit asks for MachineID=other", id="another one"
        ),
        pytest.param(
            Requirements(machine_id=_ID[:7]),
            f"the unit asks for MachineID={_ID[:7]}",
            id="seven letters are no short id",
        ),
        pytest.param(
            Requirements(machine_id=_ID[:9]),
            f"the unit asks for MachineID={_ID[:9]}",
            id="nor are nine",
        ),
        pytest.param(
            Requirements(metadata=_metadata(region="eu")),
            "the unit asks for metadata region=eu, the machine has region=us-west",
            id="another value",
        ),
        pytest.param(
            Requirements(metadata=_metadata(region="asia eu")),
            "the unit asks for metadata region=asia or region=eu, the machine has region=us-west",
            id="none of the choices",
        ),
        pytest.param(
            Requirements(metadata=_metadata(rack="1")),
            "the unit asks for metadata rack=1, the machine has no rack",
            id="a key it lacks",
        ),
        pytest.param(
            Requirements(metadata=_metadata(region="us-west", disk="hdd")),
            "the unit asks for metadata disk=hdd, the machine has disk=ssd",
            id="one of two keys",
        ),
        pytest.param(
            Requirements(metadata=_metadata(region="us-*")),
            "the unit asks for metadata region=us-*, the machine has region=us-west",
            id="metadata are no globs",
        ),
        pytest.param(
            Requirements(machine_of=("db.service",)),
            "MachineOf=db.service, which is not here",
            id="a peer that is not here",
        ),
    ],
)
def test_unit_is_refused_by_an_empty_machine(asked: Requirements, reason: str) -> None:
    assert _verdict(asked) == Verdict(reason)
    assert not _verdict(asked).able


def test_peers_have_to_be_here_all_of_them() -> None:
    asked = Requirements(machine_of=("ping.service", "pong.service"))

    assert _verdict(asked, ping=Requirements(), pong=Requirements()).able
    assert (
        _verdict(asked, ping=Requirements()).reason == "MachineOf=pong.service, which is not here"
    )


def test_peer_is_no_glob() -> None:
    assert not _verdict(Requirements(machine_of=("p*.service",)), ping=Requirements()).able


@pytest.mark.parametrize(
    ("asked", "theirs", "reason"),
    [
        pytest.param(
            Requirements(conflicts=("db.service",)),
            Requirements(),
            "it conflicts with db.service here (Conflicts=db.service)",
            id="the unit minds",
        ),
        pytest.param(
            Requirements(),
            Requirements(conflicts=("w*",)),
            "db.service here conflicts with it (Conflicts=w*)",
            id="the neighbour minds",
        ),
        pytest.param(
            Requirements(conflicts=("x*", "d*")),
            Requirements(conflicts=("w*",)),
            "it conflicts with db.service here (Conflicts=d*)",
            id="both mind",
        ),
        pytest.param(
            Requirements(is_global=True, conflicts=("db.service",)),
            Requirements(),
            "it conflicts with db.service here (Conflicts=db.service)",
            id="a global unit minds",
        ),
        pytest.param(
            Requirements(),
            Requirements(is_global=True, conflicts=("web.service",)),
            "db.service here conflicts with it (Conflicts=web.service)",
            id="a global neighbour minds",
        ),
    ],
)
def test_conflict_holds_in_both_directions(
    asked: Requirements, theirs: Requirements, reason: str
) -> None:
    assert _verdict(asked, db=theirs) == Verdict(reason)


def test_conflict_with_itself_is_none() -> None:
    asked = Requirements(conflicts=("web*",), replaces=())

    assert _verdict(asked, web=asked).able
    assert _verdict(asked, web=asked, web2=Requirements()).reason.startswith("it conflicts with")


def test_instances_that_mind_each_other_share_no_machine() -> None:
    asked = Requirements(conflicts=("worker@*.service",))
    first, second = UnitName("worker@1.service"), UnitName("worker@2.service")

    assert able_to_run(first, asked, _MACHINE, {first: asked}).able
    assert not able_to_run(second, asked, _MACHINE, {first: asked}).able


@pytest.mark.parametrize(
    ("asked", "theirs", "verdict"),
    [
        pytest.param(
            Requirements(replaces=("db.service",)),
            Requirements(),
            Verdict(displaces=(UnitName("db.service"),)),
            id="the neighbour has to leave",
        ),
        pytest.param(
            Requirements(),
            Requirements(replaces=("web.service",)),
            Verdict("db.service is here and replaces it"),
            id="the neighbour would have it leave",
        ),
        pytest.param(
            Requirements(replaces=("db*",)),
            Requirements(replaces=("web*",)),
            Verdict(),
            id="mutual replacement is none",
        ),
    ],
)
def test_replacement_goes_one_way(
    asked: Requirements, theirs: Requirements, verdict: Verdict
) -> None:
    assert _verdict(asked, db=theirs) == verdict


def test_replacement_displaces_all_that_it_names_but_itself() -> None:
    asked = Requirements(replaces=("*",))

    assert _verdict(asked, a=Requirements(), b=Requirements(), web=asked).displaces == (
        "a.service",
        "b.service",
    )


_ALL_WRONG = Requirements(
    machine_id="other",
    metadata=_metadata(region="eu"),
    machine_of=("missing.service",),
    conflicts=("a.service",),
)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        pytest.param(_ALL_WRONG, "MachineID", id="machine first"),
        pytest.param(
            Requirements(metadata=_ALL_WRONG.metadata, machine_of=_ALL_WRONG.machine_of),
            "metadata",
            id="metadata before peers",
        ),
        pytest.param(
            Requirements(machine_of=_ALL_WRONG.machine_of, conflicts=_ALL_WRONG.conflicts),
            "MachineOf",
            id="peers before conflicts",
        ),
        pytest.param(
            Requirements(conflicts=("z.service",)),
            "it conflicts with z.service",
            id="conflicts with whomever before replacement by anybody",
        ),
    ],
)
def test_first_check_that_fails_gives_the_reason(asked: Requirements, reason: str) -> None:
    verdict = _verdict(asked, a=Requirements(replaces=("web.service",)), z=Requirements())

    assert reason in verdict.reason


def test_first_match_is_the_first_pattern() -> None:
    assert first_match(("x*", "w*", "web*"), "web.service") == "w*"
    assert first_match((), "web.service") is None
