"""The last lines a unit wrote to the journal, read by journalctl."""

import asyncio
import logging

from fleet.names import UnitName

_log = logging.getLogger(__name__)

JOURNAL_S = 3.0


async def journal_tail(unit: UnitName, lines: int, *, user: bool = False) -> tuple[str, ...]:
    """The lines, oldest first; empty, with a warning, if they cannot be had within JOURNAL_S."""
    which = "--user-unit" if user else "--unit"
    command = ("journalctl", which, unit, "-n", str(lines), "-o", "cat", "--no-pager", "-q")
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError as error:
        _log.warning("%s: its journal cannot be read: %s", unit, error)
        return ()
    try:
        output, _ = await asyncio.wait_for(process.communicate(), JOURNAL_S)
    except TimeoutError:
        _log.warning("%s: its journal was not read within %s s", unit, JOURNAL_S)
        return ()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return tuple(output.decode(errors="replace").splitlines())
