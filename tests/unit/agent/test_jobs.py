"""Jobs and their ends, in whichever order they are read."""

import asyncio

import pytest

from agent.act import FIRST_REST_S, LONGEST_REST_S, rest_after, stops_together_s
from agent.jobs import Jobs
from agent.wire import listed_jobs
from fleet.errors import Unavailable
from fleet.names import UnitName

PATH = "/org/freedesktop/systemd1/job/7"
UNIT = UnitName("a.service")


async def test_end_after_the_answer_is_told() -> None:
    jobs = Jobs()
    with jobs.queueing():
        job = jobs.job(PATH)
    jobs.end(PATH, UNIT, "done")

    assert await job == "done"


async def test_end_before_the_answer_is_kept_for_it() -> None:
    jobs = Jobs()
    with jobs.queueing():
        jobs.end(PATH, UNIT, "failed")
        job = jobs.job(PATH)

    assert await job == "failed"


async def test_ends_of_other_peoples_jobs_are_not_kept() -> None:
    jobs = Jobs()
    jobs.end(PATH, UNIT, "done")
    with jobs.queueing():
        job = asyncio.ensure_future(jobs.job(PATH))
    await asyncio.sleep(1)

    assert not job.done()
    job.cancel()


async def test_of_jobs_made_after_another_the_first_end_of_each_unit_is_known() -> None:
    jobs = Jobs()
    other = UnitName("b.service")
    with jobs.queueing():
        for number, unit, result in [
            (9, UNIT, "canceled"),
            (11, UNIT, "done"),
            (12, other, "done"),
        ]:
            jobs.end(f"/org/freedesktop/systemd1/job/{number}", unit, result)
        jobs.end("/org/freedesktop/systemd1/job/13", UNIT, "failed")

        assert jobs.ended_after("/org/freedesktop/systemd1/job/10") == {UNIT: "done", other: "done"}


@pytest.mark.parametrize(
    ("kind", "stops", "is_found"),
    [
        pytest.param("start", False, True, id="a start that was asked for"),
        pytest.param("restart", False, True, id="a restart, which a start is a part of"),
        pytest.param("stop", False, False, id="a stop that came in between"),
        pytest.param("stop", True, True, id="a stop that was asked for"),
        pytest.param("start", True, False, id="a start that came in between"),
    ],
)
def test_jobs_that_are_asked_for_are_found_in_the_list(
    kind: str, stops: bool, is_found: bool
) -> None:
    listed = [
        [7, UNIT, kind, "waiting", PATH, "/unit"],
        [8, "other.service", kind, "waiting", "/other", "/unit"],
    ]

    assert listed_jobs(listed, {UNIT}, stops=stops) == ({UNIT: PATH} if is_found else {})


async def test_two_who_wait_for_one_job_are_both_told_and_may_leave() -> None:
    jobs = Jobs()
    with jobs.queueing():
        leaves, stays = asyncio.ensure_future(jobs.job(PATH)), jobs.job(PATH)
    await asyncio.sleep(0)
    leaves.cancel()
    jobs.end(PATH, UNIT, "done")

    assert await stays == "done"


async def test_lost_connection_ends_the_wait_without_a_result() -> None:
    jobs = Jobs()
    with jobs.queueing():
        job = jobs.job(PATH)
    jobs.lose()

    with pytest.raises(Unavailable, match="ended during a job"):
        await job


def test_rests_grow_up_to_a_limit() -> None:
    rests, rest = [], None
    for _ in range(8):
        rest = rest_after(rest, now_s=100.0)
        rests.append(rest.until_s - 100.0)

    assert rests == [FIRST_REST_S, 2.0, 4.0, 8.0, 16.0, LONGEST_REST_S, 30.0, 30.0]


@pytest.mark.parametrize(
    ("under_way", "moment_s"),
    [
        pytest.param(1, 0.203, id="another"),
        pytest.param(100, 0.5, id="a hundred"),
        pytest.param(10_000, 1.0, id="more than are waited for"),
    ],
)
def test_the_more_stops_are_under_way_the_longer_they_are_gathered(
    under_way: int, moment_s: float
) -> None:
    assert stops_together_s(under_way) == pytest.approx(moment_s)
