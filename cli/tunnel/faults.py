"""What went wrong with SSH, as sentences: which host, at what, and what to do about it."""

import errno
import socket
from dataclasses import dataclass

import asyncssh

from fleet.errors import Denied, FleetError, InvalidRequest, Unavailable

# asyncio puts the errors of a host's several addresses into the text of one OSError.
_ALL_REFUSED = f"[Errno {errno.ECONNREFUSED}]"
_TOO_MANY_KEYS = "too many authentication failures"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step towards a host, for its error: `doing` completes "… while <doing>"."""

    place: str
    doing: str
    limit_s: float
    user: str = ""
    offered: str = ""


def explain(error: BaseException, stage: Stage) -> FleetError:
    """The error as a sentence; SSH's own errors, the system's, and a time that ran out."""
    place = stage.place
    if isinstance(error, FleetError):
        return error
    if isinstance(error, TimeoutError) and not error.errno:
        return Unavailable(
            f"timed out after {stage.limit_s:g} s while {stage.doing}: "
            f"check that {place} is up and reachable, or allow more with --ssh-timeout"
        )
    if isinstance(error, asyncssh.PermissionDenied):
        return _refused_user(stage)
    if isinstance(error, asyncssh.ChannelOpenError):
        return _refused_channel(error, stage)
    if isinstance(error, asyncssh.DisconnectError):
        return _disconnected(error, stage)
    if isinstance(error, asyncssh.ConfigParseError):
        return InvalidRequest(f"cannot read ssh_config: {error}")
    if isinstance(error, asyncssh.KeyImportError | asyncssh.KeyEncryptionError):
        return Denied(f"cannot use an SSH key for {place}: {error}")
    if isinstance(error, OSError):
        return _system_error(error, stage)
    return Unavailable(f"SSH to {place} failed while {stage.doing}: {error}")


def _refused_user(stage: Stage) -> Denied:
    return Denied(
        f"{stage.place} does not let {stage.user!r} in with {stage.offered}: add the public key "
        f"to ~{stage.user}/.ssh/authorized_keys there (a key with a passphrase must be in "
        "ssh-agent: ssh-add), or name another user with --ssh-username"
    )


def _refused_channel(error: asyncssh.ChannelOpenError, stage: Stage) -> FleetError:
    if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
        return Denied(
            f"{stage.place} forbids it while {stage.doing} ({error.reason}): "
            "its sshd must allow forwarding (AllowTcpForwarding, AllowStreamLocalForwarding)"
        )
    return Unavailable(f"{stage.place} failed while {stage.doing}: {error.reason.strip()}")


def _disconnected(error: asyncssh.DisconnectError, stage: Stage) -> FleetError:
    if _TOO_MANY_KEYS in error.reason.lower():
        return Denied(
            f"{stage.place} gave up on {stage.user!r} after too many keys: set IdentityFile and "
            "IdentitiesOnly=yes for it in ssh_config, so that only the right key is shown"
        )
    if isinstance(error, asyncssh.KeyExchangeFailed):
        return Unavailable(f"no SSH algorithm in common with {stage.place}: {error.reason}")
    if isinstance(error, asyncssh.ProtocolError | asyncssh.ProtocolNotSupported):
        return Unavailable(f"{stage.place} does not speak SSH: {error.reason}; check the port")
    return Unavailable(f"{stage.place} hung up while {stage.doing}: {error.reason}")


def _system_error(error: OSError, stage: Stage) -> FleetError:
    if isinstance(error, socket.gaierror):
        return Unavailable(f"cannot resolve the host {stage.place!r}: check its spelling, or DNS")
    if isinstance(error, ConnectionRefusedError) or _ALL_REFUSED in str(error):
        return Unavailable(
            f"{stage.place} refuses connections: check that sshd runs there, and its port"
        )
    if error.filename:
        return InvalidRequest(f"cannot read {error.filename}: {error.strerror}")
    cause = error.strerror or str(error)
    return Unavailable(f"cannot reach {stage.place} while {stage.doing}: {cause}")
