"""The last lines a unit wrote to the journal, read by journalctl."""

import asyncio
import logging
import os

from fleet.names import UnitName

_log = logging.getLogger(__name__)

JOURNAL_S = 3.0


async def journal_tail(unit: UnitName, lines: int, *, user: bool = False) -> tuple[str, ...]:
    """The lines, oldest first; empty, with a warning, if they cannot be had within JOURNAL_S.

    What was sent to journald before is among them: it is asked to write first. A plain user may
    not ask that, and may miss a line that is on its way.
    """
    matches = journal_matches(unit, user=os.getuid() if user else None)
    try:
        async with asyncio.timeout(JOURNAL_S):
            await _journalctl("--sync")
            output = await _journalctl("-n", str(lines), "-o", "cat", "--no-pager", "-q", *matches)
    except OSError as error:
        _log.warning("%s: its journal cannot be read: %s", unit, error)
        return ()
    except TimeoutError:
        _log.warning("%s: its journal was not read within %s s", unit, JOURNAL_S)
        return ()
    return tuple(output.decode(errors="replace").splitlines())


def journal_matches(unit: UnitName, *, user: int | None = None) -> tuple[str, ...]:
    """What picks a unit's lines, for the system's systemd or the one of the user with that uid.

    `journalctl --unit` misses what a process says that was gone before journald could look up its
    unit, above all the reason why it could not be executed. Such a line names its unit itself,
    which is believed of root (of the user).
    """
    if user is not None:
        uid = f"_UID={user}"
        return (f"_SYSTEMD_USER_UNIT={unit}", uid, "+", f"USER_UNIT={unit}", uid)
    own = (f"_SYSTEMD_UNIT={unit}",)
    named = ("_UID=0", f"UNIT={unit}")
    about = ("_UID=0", f"OBJECT_SYSTEMD_UNIT={unit}")
    return (*own, "+", *named, "+", *about)


async def _journalctl(*arguments: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        "journalctl",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output
