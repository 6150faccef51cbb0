"""The user's end of SSH: an answer to a question, raw mode, and bytes to and from descriptors.

Descriptors stay blocking: their open file description may be shared with the user's shell, which
would inherit O_NONBLOCK.
"""

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TextIO

_CHUNK = 65536
# An answer is a word; whatever is longer is not for us.
_MAX_ANSWER_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """Where questions are asked and answered; the answers come from the descriptor `stdin`."""

    stdin: int = 0
    stderr: TextIO = field(default_factory=lambda: sys.stderr)

    def say(self, text: str, end: str = "\n") -> None:
        self.stderr.write(text + end)
        self.stderr.flush()


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """The descriptors that a remote command reads and writes; no stdin is one at its end."""

    stdin: int | None = 0
    stdout: int = 1
    stderr: int = 2

    @property
    def are_terminal(self) -> bool:
        """Whether a person sits at both ends, so that a pseudo-terminal makes sense."""
        return self.stdin is not None and os.isatty(self.stdin) and os.isatty(self.stdout)


async def wait_readable(descriptor: int) -> None:
    """Return when a read of the descriptor would not block."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except (PermissionError, OSError):
        return  # a regular file: epoll refuses it, and it never blocks
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


async def read_chunk(descriptor: int) -> bytes:
    """The next bytes of the descriptor, empty at its end."""
    await wait_readable(descriptor)
    try:
        return os.read(descriptor, _CHUNK)
    except OSError:
        return b""  # the terminal is gone, or stdin was closed


async def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it, off the loop, for a slow reader must not stop the connection.

    Raises OSError.
    """

    def write() -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    await asyncio.to_thread(write)


async def read_answer(descriptor: int, limit_s: float) -> str | None:
    """The line the user answers, without its end; None if there is none.

    A terminal is waited for as long as it takes, anything else for `limit_s`. Not a byte past
    the line is read: what follows may be for the remote command.
    """
    answer = bytearray()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None if os.isatty(descriptor) else limit_s):
            while len(answer) < _MAX_ANSWER_BYTES:
                await wait_readable(descriptor)
                try:
                    letter = os.read(descriptor, 1)
                except OSError:
                    break
                if letter in (b"", b"\n"):
                    return answer.decode(errors="replace") if answer or letter else None
                answer += letter
    return answer.decode(errors="replace") or None


@contextlib.contextmanager
def raw_mode(descriptor: int) -> Iterator[None]:
    """Every key goes to the far side while this lasts; the terminal's mode is put back after."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def size_of(descriptor: int) -> tuple[int, int]:
    """Columns and lines of the terminal; 80 by 24 if it does not say."""
    try:
        columns, lines = os.get_terminal_size(descriptor)
    except OSError:
        return 80, 24
    return columns or 80, lines or 24
