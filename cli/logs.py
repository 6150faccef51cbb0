"""How fleetd writes its log: to stderr, a line an event, with the level journald understands."""

import logging
import os
import sys

# sd-daemon(3): a line that starts with <N> has syslog priority N.
_PRIORITY = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
_NAMES = {logging.WARNING: "WARN", logging.CRITICAL: "FATAL"}
# These say at INFO what they do for every request; fleet says what matters itself.
_CHATTY = ("httpx", "httpcore", "aiohttp", "asyncio")


class DaemonFormatter(logging.Formatter):
    """`LEVEL file.py:line: text`, as fleet 1.0 wrote it, with a priority when journald reads."""

    def __init__(self, *, for_journal: bool) -> None:
        super().__init__()
        self._for_journal = for_journal

    def format(self, record: logging.LogRecord) -> str:
        level = _NAMES.get(record.levelno, record.levelname)
        text = f"{level} {record.filename}:{record.lineno}: {record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        if not self._for_journal:
            return text
        priority = _PRIORITY.get(record.levelno, 6)
        return "\n".join(f"<{priority}>{line}" for line in text.splitlines())


def set_up_logging(*, verbose: bool) -> None:
    """Log to stderr from here on; `verbose` adds the debug lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(DaemonFormatter(for_journal="JOURNAL_STREAM" in os.environ))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
