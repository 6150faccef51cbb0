"""The judge of the fault suite: what it finds, and what it lets pass."""

import json
from dataclasses import replace

import pytest

from tests.cluster.steps import Life, Lives
from tests.faults.record import (
    STARTED,
    STOPPED,
    Allowed,
    Happening,
    parse_happenings,
    violations,
)

WEB, ALL = "f-web.service", "f-all.service"
RUN = Life(
    active="active", sub="running", invocation="a", pid="7", entered="10", left="0", restarts="0"
)
OTHER = replace(RUN, invocation="b", pid="9", entered="20", left="15")
BEFORE: Lives = {("fleet1", WEB): RUN, ("fleet1", ALL): RUN, ("fleet2", ALL): RUN}
MOVED: Lives = {("fleet2", WEB): OTHER, ("fleet1", ALL): RUN, ("fleet2", ALL): RUN}
LOST = Allowed(lost=frozenset({"fleet1"}), everywhere=frozenset({ALL}))
DEAD = replace(LOST, dead=frozenset({"fleet1"}))


def _happening(machine: str, unit: str, what: str, run: str = "b") -> Happening:
    return Happening(machine=machine, unit=unit, what=what, run=run)


@pytest.mark.parametrize(
    ("after", "happened", "allowed", "found"),
    [
        pytest.param(BEFORE, [], Allowed(), (), id="nothing happened"),
        pytest.param(
            {**BEFORE, ("fleet1", WEB): OTHER},
            [],
            Allowed(),
            ("f-web.service on fleet1 was touched",),
            id="a restart shows in the unit's life",
        ),
        pytest.param(
            {**BEFORE, ("fleet1", WEB): OTHER},
            [],
            LOST,
            ("f-web.service on fleet1 was touched",),
            id="a lost machine may lose units and not restart them",
        ),
        pytest.param(
            BEFORE,
            [_happening("fleet1", WEB, STARTED)],
            Allowed(),
            ("systemd started f-web.service on fleet1",),
            id="a oneshot that ran once more shows in the journal only",
        ),
        pytest.param(
            BEFORE,
            [_happening("fleet1", WEB, STOPPED)],
            Allowed(),
            ("systemd stopped f-web.service on fleet1",),
            id="a stop that was made good is a stop",
        ),
        pytest.param(
            {key: life for key, life in BEFORE.items() if key != ("fleet1", WEB)},
            [],
            Allowed(),
            ("f-web.service is gone from fleet1",),
            id="a unit is gone",
        ),
        pytest.param(
            MOVED,
            [_happening("fleet2", WEB, STARTED)],
            Allowed(),
            (
                "f-web.service is gone from fleet1",
                "f-web.service is on fleet2 and was not",
                "systemd started f-web.service on fleet2",
            ),
            id="a move without a loss",
        ),
        pytest.param(
            MOVED,
            [_happening("fleet2", WEB, STARTED), _happening("fleet1", WEB, STOPPED, "a")],
            LOST,
            (),
            id="a move from a lost machine",
        ),
        pytest.param(
            MOVED,
            [_happening("fleet2", WEB, STARTED, "c"), _happening("fleet2", WEB, STARTED, "b")],
            LOST,
            ("f-web.service was started 2 times on fleet2",),
            id="a move that took two starts",
        ),
        pytest.param(
            {**BEFORE, ("fleet1", ALL): OTHER},
            [_happening("fleet1", ALL, STARTED)],
            LOST,
            ("f-all.service on fleet1 was touched", "systemd started f-all.service on fleet1"),
            id="a global unit of a machine that was only cut off stays as it is",
        ),
        pytest.param(
            {**MOVED, ("fleet1", ALL): OTHER},
            [_happening("fleet1", ALL, STARTED), _happening("fleet2", WEB, STARTED)],
            DEAD,
            (),
            id="a machine that had no power starts its global units anew",
        ),
        pytest.param(
            {**BEFORE, ("fleet2", ALL): OTHER},
            [],
            DEAD,
            ("f-all.service on fleet2 was touched",),
            id="no power on one machine is no excuse on another",
        ),
        pytest.param(
            MOVED,
            [_happening("fleet2", WEB, STARTED)],
            Allowed(asked=("f-web*",)),
            (),
            id="what operators asked for",
        ),
    ],
)
def test_violations_are_what_nobody_asked_for(
    after: Lives, happened: list[Happening], allowed: Allowed, found: tuple[str, ...]
) -> None:
    told = violations(BEFORE, after, happened, allowed)

    assert len(told) == len(found), told
    for sentence, start in zip(told, found, strict=True):
        assert sentence.startswith(start)


def test_units_that_are_not_fleet_s_are_nobody_s_business() -> None:
    happened = [_happening("fleet1", "cron.service", STARTED)]

    assert violations(BEFORE, BEFORE, happened, Allowed()) == []


def test_journal_of_systemd_is_read_from_the_moment_on() -> None:
    started = "39f53479d3a045ac8e11786248231fbf"
    entries = [
        {"UNIT": WEB, "MESSAGE_ID": started, "__REALTIME_TIMESTAMP": "99"},
        {"UNIT": WEB, "MESSAGE_ID": started, "__REALTIME_TIMESTAMP": "101", "INVOCATION_ID": "b"},
        {"UNIT": WEB, "MESSAGE_ID": "of something else", "__REALTIME_TIMESTAMP": "102"},
        {"MESSAGE_ID": started, "__REALTIME_TIMESTAMP": "103"},
    ]

    found = parse_happenings("fleet1", [json.dumps(entry) for entry in entries], since_us=100)

    assert found == [Happening(machine="fleet1", unit=WEB, what=STARTED, run="b")]
