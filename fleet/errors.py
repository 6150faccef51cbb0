"""The errors of fleet, in families by what the caller can do about them.

Each class composes its own sentence: what failed, on which object, and what to do. Adapters
translate third-party errors into these, and chain the original.
"""

# What reading a stored document raises when it is not what was expected: not JSON, not UTF-8, a
# part missing or of another kind, a number out of range, or nested without end.
MALFORMED = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)


# As much of a text as an error quotes.
_EXCERPT = 120


def excerpt(text: str) -> str:
    """The text for an error to quote, which ends in three dots if it is long."""
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}..."


class FleetError(Exception):
    """Anything that fleet reports to a person; `str()` of it is the whole message."""


class InvalidUnit(FleetError, ValueError):
    """A unit file that cannot be accepted: mend the file."""

    def __init__(self, problem: str, *, path: str | None = None, line: int | None = None) -> None:
        self.problem = problem
        self.path = path
        self.line = line
        where = ":".join(str(part) for part in (path, line) if part is not None)
        if path is None and line is not None:
            where = f"line {line}"
        super().__init__(f"{where}: {problem}" if where else problem)


class InvalidRequest(FleetError, ValueError):
    """A request, name or setting that cannot mean anything: correct it."""


class NotFound(FleetError, LookupError):
    """The object named does not exist."""


class Conflict(FleetError):
    """The object changed underneath, or is in a state that forbids this: read again and decide."""


class Unavailable(FleetError):
    """A store, a daemon or a machine does not answer now: wait, or mend it."""


class Denied(FleetError):
    """The user may not do this."""


class SystemdError(FleetError):
    """systemd refused or failed a request."""

    def __init__(self, action: str, unit: str, cause: str) -> None:
        self.action = action
        self.unit = unit
        self.cause = cause
        super().__init__(f"systemd could not {action} {unit}: {cause}")
