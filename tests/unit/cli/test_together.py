"""Questions asked at the same time end together."""

import asyncio

import pytest

from cli.together import together
from fleet.errors import Unavailable


async def _answer(text: str, *, after_s: float) -> str:
    await asyncio.sleep(after_s)
    return text


async def test_answers_come_in_the_order_of_the_questions() -> None:
    asked = [_answer("late", after_s=2), _answer("soon", after_s=1)]
    assert await together(asked) == ["late", "soon"]


async def test_failure_of_one_ends_the_others_first() -> None:
    ended: list[str] = []

    async def goes_on() -> str:
        try:
            return await _answer("never", after_s=3600)
        finally:
            await asyncio.sleep(1)
            ended.append("it")

    async def fails() -> str:
        await asyncio.sleep(1)
        raise Unavailable("the store is away")

    with pytest.raises(Unavailable, match="the store is away"):
        await together([goes_on(), fails()])
    assert ended == ["it"]


async def test_nothing_asked_is_nothing_answered() -> None:
    assert await together([]) == []
