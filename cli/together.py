"""Questions that are asked at the same time."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

_T = TypeVar("_T")


async def together(questions: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """All answers, in order.

    When one fails, its error is raised once the others have been ended: whoever asked may close
    the connection then.
    """
    asking = [asyncio.ensure_future(question) for question in questions]
    try:
        return list(await asyncio.gather(*asking))
    finally:
        for question in asking:
            question.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
