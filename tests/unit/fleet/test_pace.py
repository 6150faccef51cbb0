"""Pauses grow while changes keep coming, and are forgotten when they stop."""

import asyncio

import pytest

from fleet.pace import Pace


def a_pace(each_s: float = 0.0) -> Pace:
    return Pace(first_s=0.02, longest_s=0.25, each_s=each_s)


def test_pauses_double_while_changes_keep_coming() -> None:
    pace, now_s, pauses = a_pace(), 100.0, []
    for _ in range(6):
        pace.news(now_s)
        pauses.append(pace.spoke(now_s, 1))
        now_s += pauses[-1]
    assert pauses == pytest.approx([0.02, 0.04, 0.08, 0.16, 0.25, 0.25])


def test_after_a_quiet_moment_they_begin_anew() -> None:
    pace = a_pace()
    pace.news(100.0)
    pace.spoke(100.0, 1)
    pace.news(100.03)
    assert pace.spoke(100.03, 1) == pytest.approx(0.04)
    pace.news(100.12)
    assert pace.spoke(100.12, 1) == pytest.approx(0.02)


@pytest.mark.parametrize(("changes", "pause_s"), [(1, 0.02), (20, 0.1), (1000, 0.25)])
def test_after_many_at_once_more_is_gathered(changes: int, pause_s: float) -> None:
    pace = a_pace(each_s=0.005)
    pace.news(100.0)
    assert pace.spoke(100.0, changes) == pytest.approx(pause_s)


def test_a_word_about_nothing_makes_no_pause_longer() -> None:
    pace = a_pace()
    pace.news(100.0)
    assert pace.spoke(100.0, 0) == 0.0
    pace.news(100.0)
    assert pace.spoke(100.0, 1) == pytest.approx(0.02)


def test_a_word_about_nothing_begins_no_pause() -> None:
    pace = a_pace(each_s=0.005)
    pace.news(100.0)
    pace.spoke(100.0, 1000)
    assert pace.spoke(105.0, 0) == 0.0
    assert pace.left_s(105.0) == 0.0
    pace.news(105.1)
    assert pace.spoke(105.1, 1) == pytest.approx(0.02)


def test_the_rest_of_a_pause() -> None:
    pace = a_pace()
    assert pace.left_s(100.0) == 0.0
    pace.spoke(100.0, 1)
    assert pace.left_s(100.015) == pytest.approx(0.005)
    assert pace.left_s(100.5) == 0.0


async def spoken_after_s(pace: Pace, *news_s: float) -> float:
    """How long a pause is that begins now, if changes come so long after that."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    for after_s in news_s:
        loop.call_at(began_s + after_s, lambda: pace.news(loop.time()))
    await pace.pause()
    return loop.time() - began_s


@pytest.mark.parametrize(
    ("news_s", "pause_s"),
    [
        pytest.param((), 0.25, id="nothing comes"),
        pytest.param((0.1,), 0.13, id="one comes and no more"),
        pytest.param((0.1, 0.12, 0.14), 0.17, id="the last of several"),
        pytest.param(tuple(n / 100 for n in range(60)), 0.25, id="they keep coming"),
        pytest.param((0.24,), 0.25, id="one comes late"),
    ],
)
async def test_a_pause_ends_once_changes_came_and_no_more_do(
    news_s: tuple[float, ...], pause_s: float
) -> None:
    pace = a_pace(each_s=0.005)
    pace.news(asyncio.get_running_loop().time())
    pace.spoke(asyncio.get_running_loop().time(), 1000)
    assert await spoken_after_s(pace, *news_s) == pytest.approx(pause_s, abs=0.001)
