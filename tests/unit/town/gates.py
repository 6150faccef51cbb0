"""Freezing a whole fleetd, as SIGSTOP does: none of its tasks takes a step until it is thawed.

Tasks that are begun where a gate is set belong to it, and so does whatever they begin. Time goes on
meanwhile: what waited too long finds so when it wakes.
"""

import asyncio
import contextvars
import types
from collections.abc import Coroutine, Generator
from typing import Any

AnyCoroutine = Coroutine[Any, Any, Any] | Generator[Any, None, Any]
_gate: contextvars.ContextVar["Gate | None"] = contextvars.ContextVar("gate", default=None)


class Gate:
    """Lets the steps of some tasks through, or not."""

    def __init__(self) -> None:
        self._opened: asyncio.Future[None] | None = None

    @property
    def is_shut(self) -> bool:
        return self._opened is not None

    def shut(self) -> None:
        if self._opened is None:
            self._opened = asyncio.get_running_loop().create_future()

    def open(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.set_result(None)

    def context(self) -> contextvars.Context:
        """The context in which tasks that belong to the gate are begun."""
        context = contextvars.Context()
        context.run(_gate.set, self)
        return context

    def wait(self) -> Generator[Any, None, None]:
        if self._opened is not None:
            yield from asyncio.shield(self._opened).__await__()


def gated_tasks(
    loop: asyncio.AbstractEventLoop,
    coroutine: AnyCoroutine,
    context: contextvars.Context | None = None,
    **more: Any,
) -> "asyncio.Task[Any]":
    """A task factory: tasks heed the gate of the context they are begun in."""
    gate = _gate.get() if context is None else context.get(_gate)
    if gate is None:
        return asyncio.Task(coroutine, loop=loop, context=context, **more)
    task = asyncio.Task(_through(coroutine, gate), loop=loop, context=context, **more)
    # One that is cancelled before its first step has to be closed, as a task does with its own.
    task.add_done_callback(lambda _: coroutine.close(), context=contextvars.Context())
    return task


async def _through(coroutine: AnyCoroutine, gate: Gate) -> Any:
    return await _steps(coroutine, gate)


@types.coroutine
def _steps(coroutine: AnyCoroutine, gate: Gate) -> Generator[Any, Any, Any]:
    error: BaseException | None = None
    while True:
        while gate.is_shut:
            try:
                yield from gate.wait()
            except asyncio.CancelledError as cancelled:
                error = cancelled
        try:
            waits_for = coroutine.send(None) if error is None else coroutine.throw(error)
        except StopIteration as stop:
            return stop.value
        error = None
        try:
            yield waits_for
        except BaseException as thrown:  # also what ends a task: it is the coroutine's to handle
            error = thrown
