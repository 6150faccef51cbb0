"""The brake and the amnesty, as scripts of which machines live when."""

from fractions import Fraction

import pytest

from engine.losses import (
    FADING_S,
    MOST_ASKED,
    EngineMemory,
    Hold,
    Losses,
    LossRules,
    asked_of,
    fading_of,
    has_fresh_loss,
    weigh_losses,
)
from fleet.machine import MachineId

RULES = LossRules(machine_ttl_s=6.0, hold_s=60.0)


def ids(names: str) -> frozenset[MachineId]:
    return frozenset(MachineId(name) for name in names)


def weigh(
    memory: EngineMemory, live: str, now_s: float, *, rows: str = "abcdef", fading: str = ""
) -> Losses:
    """The verdict when these machines live and those have rows of units."""
    return weigh_losses(
        memory,
        live=ids(live),
        with_rows=ids(rows),
        at_stake=ids(rows),
        now_s=now_s,
        rules=RULES,
        fading=ids(fading),
    )


def script(*steps: tuple[float, str], memory: EngineMemory | None = None) -> list[str]:
    """Which machines are held after each step of (time, machines that live).

    Those that fade stand behind a slash.
    """
    told: list[str] = []
    state = memory or EngineMemory(is_new=False)
    for now_s, machines in steps:
        live, _, fading = machines.partition("/")
        verdict = weigh(state, live + fading, now_s, fading=fading)
        state = verdict.memory
        told.append("".join(sorted(verdict.held)))
    return told


@pytest.mark.parametrize(
    ("steps", "held"),
    [
        pytest.param([(0, "abc"), (1, "ab")], ["", ""], id="one of three is believed"),
        pytest.param([(0, "ab"), (1, "a")], ["", ""], id="one of two is believed"),
        pytest.param([(0, "abc"), (1, "a")], ["", "bc"], id="two of three are not"),
        pytest.param([(0, "abcd"), (1, "ab")], ["", "cd"], id="two of four are not"),
        pytest.param([(0, "abcdef"), (1, "abcd")], ["", ""], id="a third is not too many"),
        pytest.param([(0, "abcdef"), (1, "abc")], ["", "def"], id="half is"),
        pytest.param([(0, "abc"), (1, "")], ["", "abc"], id="all"),
        pytest.param(
            [(0, "abc"), (1, "ab"), (4, "a")], ["", "", "bc"], id="one soon after another"
        ),
        pytest.param([(0, "abc"), (1, "ab"), (8, "a")], ["", "", ""], id="one long after another"),
        pytest.param(
            [(0, "abc"), (1, "a"), (60, "a"), (61, "a"), (62, "a")],
            ["", "bc", "bc", "", ""],
            id="the hold ends by time",
        ),
        pytest.param(
            [(0, "abc"), (1, "a"), (9, "abc"), (10, "abc")], ["", "bc", "", ""], id="all return"
        ),
        pytest.param(
            [(0, "abcde"), (1, "ab"), (9, "abcd"), (14, "abcd"), (15, "abcd")],
            ["", "cde", "e", "e", ""],
            id="when enough are back the rest have one lease more",
        ),
        pytest.param(
            [(0, "abcdef"), (1, "abc"), (30, "ab"), (62, "ab"), (90, "ab")],
            ["", "def", "cdef", "cdef", ""],
            id="the hold begins anew when more vanish",
        ),
        pytest.param(
            [(0, "abcdef"), (1, "abc"), (62, "abc"), (63, "ab"), (64, "a")],
            ["", "def", "", "", "bc"],
            id="machines given up do not count the next time",
        ),
        pytest.param(
            [(0, "abc"), (1, "ab"), (2, "abc"), (3, "ac")],
            ["", "", "", ""],
            id="one that came back is not missing",
        ),
    ],
)
def test_the_brake_holds_when_too_many_vanish_together(
    steps: list[tuple[float, str]], held: list[str]
) -> None:
    assert script(*steps) == held


@pytest.mark.parametrize(
    ("steps", "held"),
    [
        pytest.param(
            [(0, "abcd"), (1, "ab/c"), (1.3, "ab/c"), (2, "ab")],
            ["", "d", "d", "cd"],
            id="the second is missed a moment later",
        ),
        pytest.param(
            [(0, "abcd"), (1, "ab/c"), (1.3, "abc")], ["", "d", ""], id="it was only late"
        ),
        pytest.param(
            [(0, "abcd"), (1, "ab/c"), (3.9, "ab/c"), (4, "ab/c")],
            ["", "d", "d", ""],
            id="it is late for ever, which counts for half a lease",
        ),
        pytest.param([(0, "abcdef"), (1, "abcd/e")], ["", ""], id="it would not be too many"),
        pytest.param([(0, "abcd"), (1, "ab/cd")], ["", ""], id="nobody is missing yet"),
        pytest.param(
            [(0, "abcd"), (1, "ab/c"), (2, "ab/cd")], ["", "d", ""], id="the missing one is back"
        ),
    ],
)
def test_one_missing_is_held_while_those_that_fade_make_it_too_many(
    steps: list[tuple[float, str]], held: list[str]
) -> None:
    assert script(*steps) == held


def test_fading_machines_are_looked_at_again_soon_and_told_of_only_when_missing() -> None:
    first = weigh(EngineMemory(is_new=False, known=ids("abcd")), "abc", 10, fading="c")
    assert (first.held, first.begun, first.wake_at_s) == (ids("d"), "", 10 + FADING_S)
    second = weigh(first.memory, "ab", 11)
    assert "2 of 4 machines vanished" in second.begun


@pytest.mark.parametrize(
    ("lost_at_s", "fresh"),
    [
        pytest.param({}, True, id="just now"),
        pytest.param({"c": 8}, True, id="a moment ago"),
        pytest.param({"c": 7}, False, id="half a lease ago"),
    ],
)
def test_leases_are_looked_up_for_half_a_lease_after_a_loss(
    lost_at_s: dict[MachineId, float], fresh: bool
) -> None:
    memory = EngineMemory(is_new=False, known=ids("abc"), lost_at_s=lost_at_s)

    def asked(live: str) -> bool:
        return has_fresh_loss(memory, live=ids(live), with_rows=ids("abc"), now_s=10, rules=RULES)

    assert asked("ab") is fresh
    assert not asked("abc")


def test_a_hold_is_told_once_with_its_numbers_and_its_end() -> None:
    first = weigh(EngineMemory(), "abcdef", 0)
    second = weigh(first.memory, "abcd", 1)
    third = weigh(second.memory, "abc", 2)
    assert (first.begun, second.begun) == ("", "")
    assert third.begun == (
        "3 of 6 machines vanished within 6 s: their units stay theirs until they are back, "
        "or for 60 s: d, e, f"
    )
    assert third.wake_at_s == 62
    fourth = weigh(third.memory, "abc", 3)
    assert (fourth.begun, fourth.ended, fourth.wake_at_s) == ("", "", 62)
    last = weigh(fourth.memory, "abc", 62)
    assert last.ended == "3 machines are still missing and given up: d, e, f"
    assert (last.held, last.wake_at_s) == (frozenset(), None)


# Machines that leave on purpose


def leaving(memory: EngineMemory, live: str, departed: str, now_s: float) -> Losses:
    """The verdict when of the missing machines these said that they leave."""
    return weigh_losses(
        memory,
        live=ids(live),
        with_rows=ids("abcdef"),
        at_stake=ids("abcdef"),
        departed=ids(departed),
        now_s=now_s,
        rules=RULES,
    )


@pytest.mark.parametrize(
    ("live", "departed", "held"),
    [
        pytest.param("ab", "cdef", "", id="all that are missing said so"),
        pytest.param("abc", "de", "", id="one did not"),
        pytest.param("ab", "cd", "ef", id="two of four did not"),
        pytest.param("abc", "c", "def", id="who lives has not left yet"),
        pytest.param("", "abcdef", "", id="all"),
    ],
)
@pytest.mark.parametrize("is_new", [True, False])
def test_machines_that_leave_on_purpose_are_given_up_and_do_not_count(
    live: str, departed: str, held: str, is_new: bool
) -> None:
    memory = EngineMemory(is_new=is_new, known=ids("" if is_new else "abcdef"))
    verdict = leaving(memory, live, departed, 1)
    assert verdict.held == ids(held)
    assert bool(verdict.begun) is bool(held)
    # And so it stays when the departure is no longer told of.
    assert leaving(verdict.memory, live, "", 5).held == ids(held)


def test_machines_that_left_are_given_up_even_after_an_outage() -> None:
    memory = EngineMemory(is_new=False, known=ids("abc")).after_outage(amnesty_until_s=106)
    assert leaving(memory, "a", "bc", 101).held == ids("def")


def test_departure_calls_for_no_look_at_leases() -> None:
    memory = EngineMemory(is_new=False, known=ids("abc"))
    for departed, needed in (("", True), ("c", False)):
        asked = has_fresh_loss(
            memory,
            live=ids("ab"),
            with_rows=ids("abc"),
            departed=ids(departed),
            now_s=1,
            rules=RULES,
        )
        assert asked is needed


# A new leader


def test_a_machine_missing_at_a_takeover_is_given_up_at_once() -> None:
    assert weigh(EngineMemory(), "ab", 100, rows="abc").held == frozenset()


def test_machines_missing_at_a_takeover_count_in_the_brake() -> None:
    assert weigh(EngineMemory(), "ab", 100, rows="abcd").held == ids("cd")


def test_machines_whose_loss_was_dealt_with_do_not_count_at_a_takeover() -> None:
    verdict = weigh_losses(
        EngineMemory(),
        live=ids("ab"),
        with_rows=ids("abcd"),
        at_stake=ids("ab"),
        now_s=0,
        rules=RULES,
    )
    assert verdict.held == frozenset()


def test_a_hold_that_a_new_leader_finds_keeps_its_end() -> None:
    memory = EngineMemory().with_hold(Hold(machines=ids("bc"), until_s=20))
    verdict = weigh(memory, "a", 0, rows="abc")
    assert (verdict.held, verdict.begun, verdict.wake_at_s) == (ids("bc"), "", 20)
    assert weigh(verdict.memory, "a", 20, rows="abc").held == frozenset()


# Outages and operators


def test_after_an_outage_nobody_is_given_up_for_one_lease() -> None:
    memory = weigh(EngineMemory(), "abc", 0).memory.after_outage(amnesty_until_s=106)
    during = weigh(memory, "ab", 101)
    assert during.held == ids("cdef")
    assert during.wake_at_s == 106
    assert weigh(during.memory, "ab", 106).held == frozenset()


def test_what_is_missing_after_the_amnesty_counts_as_lost_together() -> None:
    memory = weigh(EngineMemory(is_new=False), "abc", 0).memory.after_outage(amnesty_until_s=106)
    during = weigh(memory, "a", 101)
    after = weigh(during.memory, "a", 106)
    assert after.held == ids("bc")
    assert after.begun


def test_an_operator_ends_a_hold() -> None:
    memory = weigh(EngineMemory(is_new=False), "abc", 0).memory
    holding = weigh(memory, "a", 1)
    assert weigh(holding.memory.released(5), "a", 5).held == frozenset()


def test_an_outage_does_not_end_a_hold() -> None:
    memory = weigh(EngineMemory(is_new=False), "abc", 0).memory
    holding = weigh(memory, "a", 1).memory.after_outage(amnesty_until_s=20)
    assert weigh(holding, "a", 10).held >= ids("bc")
    assert weigh(holding, "a", 21).held == ids("bc")


@pytest.mark.parametrize(
    ("part", "lost", "is_mass"),
    [
        pytest.param(Fraction(1, 3), "ab", True, id="two of five are more than a third"),
        pytest.param(Fraction(1, 2), "ab", False, id="and less than half"),
        pytest.param(Fraction(0), "a", False, id="one alone never is"),
        pytest.param(Fraction(0), "ab", True, id="two always are"),
        pytest.param(Fraction(1), "abcde", False, id="nothing is ever held"),
    ],
)
def test_how_many_are_a_mass_can_be_set(part: Fraction, lost: str, *, is_mass: bool) -> None:
    rules = LossRules(machine_ttl_s=6.0, hold_s=60.0, part=part)

    assert rules.is_mass(set(map(MachineId, lost)), set(map(MachineId, "abcde"))) is is_mass


def test_every_lease_of_a_few_machines_is_looked_at() -> None:
    machines = {MachineId(f"m{number}") for number in range(5)}
    asked = asked_of(machines)
    assert set(asked) == machines
    assert fading_of(machines, asked, {asked[0]}) == {asked[0]}


def test_of_many_machines_some_stand_for_all() -> None:
    machines = {MachineId(f"m{number:04}") for number in range(1000)}
    asked = asked_of(machines)
    assert len(set(asked)) == MOST_ASKED
    assert max(asked) > "m0980"
    fading = fading_of(machines, asked, set(asked[:64]))
    assert len(fading) == 500
    assert fading_of(machines, asked, set()) == frozenset()


def test_no_machine_has_no_lease_to_look_at() -> None:
    assert asked_of(set()) == ()
    assert fading_of(set(), (), set()) == frozenset()
