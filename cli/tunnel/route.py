"""What ssh_config says of the way to a host: user, address, hops, keys, known_hosts files.

OpenSSH's own files are read by asyncssh. This module asks it what they come to, fills in fleet's
defaults, and decides what asyncssh decides otherwise than OpenSSH does.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import asyncssh

from cli.settings import Settings
from cli.tunnel.target import Target, choose_user, expand_known_hosts, parse_jumps
from fleet.errors import Denied, InvalidRequest

_CONFIG_FILES = ("~/.ssh/config", "/etc/ssh/ssh_config")
# OpenSSH's defaults of IdentityFile, the most common first (ssh_config(5)).
_KEY_FILES = tuple(f"~/.ssh/id_{kind}" for kind in "ed25519 ecdsa rsa ed25519_sk ecdsa_sk".split())
_USER_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_GLOBAL_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The keys that a host is shown.

    `agent_keys` are the only ones of the agent's that may be shown, None for all of them.
    """

    agent: str | None
    agent_keys: tuple[bytes, ...] | None
    pairs: tuple[asyncssh.SSHKeyPair, ...]
    files: tuple[str, ...]
    locked: tuple[str, ...]

    def describe(self) -> str:
        places = [f"the keys of the agent at {self.agent}"] if self.agent else []
        places += self.files
        text = ", ".join(places) or "no key"
        return f"{text} ({', '.join(self.locked)} needs a passphrase)" if self.locked else text


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How to reach a target: all that asyncssh is told, and what is decided around it."""

    target: Target
    config: tuple[str, ...]
    user: str
    host: str
    port: int
    alias: str | None
    jumps: tuple[Target, ...]
    is_proxied: bool
    keepalive_s: float
    agent: str | None
    offer: Offer
    known_hosts: tuple[str, ...]

    @property
    def place(self) -> str:
        """The host as the user named it, with a port that is not SSH's own."""
        port = None if self.port == asyncssh.DEFAULT_PORT else self.port
        return str(Target(host=self.target.host, port=port))


def find_route(
    settings: Settings, target: Target, *, user_flag: str | None, default_user: str | None
) -> Route:
    """The way to the target; `default_user` is None for the local user's name.

    Raises InvalidRequest, and asyncssh's errors of ssh_config.
    """
    files = _config_files(settings)
    # No keys are loaded here: this only resolves ssh_config.
    options = asyncssh.SSHClientConnectionOptions(
        config=files,
        host=target.host,
        port=target.port or (),
        username=target.user or user_flag or (),
        client_keys=None,
        known_hosts=None,
        x509_trusted_certs=None,
    )
    config = options.config
    in_config = str(config.get("User") or "") or None
    fallback = default_user or options.username
    jump = config.get("ProxyJump")
    agent = _agent(config.get("IdentityAgent", ()))
    interval = config.get("ServerAliveInterval")
    alias = config.get("HostKeyAlias")
    return Route(
        target=target,
        config=files,
        user=choose_user(user_flag, target.user, in_config, fallback),
        host=options.host,
        port=options.port,
        alias=str(alias) if alias else None,
        jumps=parse_jumps(jump) if isinstance(jump, str) else (),
        is_proxied=bool(options.proxy_command),
        keepalive_s=float(interval) if isinstance(interval, int) else 15.0,
        agent=agent,
        offer=_offer(config, agent),
        known_hosts=_known_hosts(settings, config, options),
    )


def _config_files(settings: Settings) -> tuple[str, ...]:
    """The files to read, as `ssh -F` has it: the one that was named, or the usual two."""
    if settings.ssh_config is None:
        found = (os.path.expanduser(name) for name in _CONFIG_FILES)
        return tuple(name for name in found if os.access(name, os.R_OK))
    if settings.ssh_config in ("", "none"):
        return ()
    path = os.path.expanduser(settings.ssh_config)
    if not os.access(path, os.R_OK):
        raise InvalidRequest(f"cannot read the ssh_config {path!r} named by --ssh-config")
    return (path,)


def _agent(identity_agent: object) -> str | None:
    """The socket of the agent in use, if there is one."""
    path = identity_agent
    if path in ((), "SSH_AUTH_SOCK", "$SSH_AUTH_SOCK"):
        path = os.environ.get("SSH_AUTH_SOCK")
    path = os.path.expanduser(path) if isinstance(path, str) else ""
    return path if path and os.path.exists(path) else None


def _offer(config: asyncssh.config.SSHConfig, agent: str | None) -> Offer:
    named = config.get("IdentityFile")
    names = [str(name) for name in named] if isinstance(named, list) else list(_KEY_FILES)
    only = bool(config.get("IdentitiesOnly"))
    pairs: list[asyncssh.SSHKeyPair] = []
    files: list[str] = []
    locked: list[str] = []
    publics: list[bytes] = []
    for path in (os.path.expanduser(name) for name in names):
        loaded, public = _load(path)
        pairs += loaded
        if loaded:
            files.append(path)
        elif os.path.exists(path) and not path.endswith(".pub"):
            locked.append(path)
        publics += [public] if public else [pair.public_data for pair in loaded]
    # asyncssh shows every key of the agent if none is named: no name, no agent.
    usable = agent if not only or publics else None
    return Offer(
        agent=usable,
        agent_keys=tuple(publics) if only else None,
        pairs=tuple(pairs),
        files=tuple(files),
        locked=tuple(locked),
    )


def _load(path: str) -> tuple[Sequence[asyncssh.SSHKeyPair], bytes | None]:
    """The key pairs in a file, none if it needs a passphrase, and the public key beside it."""
    try:
        public = asyncssh.read_public_key(path if path.endswith(".pub") else f"{path}.pub")
    except (OSError, asyncssh.KeyImportError):
        blob = None
    else:
        blob = public.public_data
    if path.endswith(".pub"):
        return (), blob
    try:
        return asyncssh.load_keypairs([path], ignore_encrypted=True), blob
    except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
        return (), blob


def _known_hosts(
    settings: Settings,
    config: asyncssh.config.SSHConfig,
    options: asyncssh.SSHClientConnectionOptions,
) -> tuple[str, ...]:
    """fleet's own file first, then those of ssh."""
    home = os.path.expanduser("~")
    tokens = {"d": home, "h": options.host, "n": options.orig_host, "r": options.username}
    tokens["p"] = str(options.port)

    def listed(option: str, default: Sequence[str]) -> list[str]:
        value = config.get(option)
        paths = [str(path) for path in value] if isinstance(value, list) else default
        return [expand_known_hosts(path, home=home, tokens=tokens) for path in paths]

    return (
        os.path.expanduser(settings.known_hosts_file),
        *listed("UserKnownHostsFile", _USER_KNOWN_HOSTS),
        *listed("GlobalKnownHostsFile", _GLOBAL_KNOWN_HOSTS),
    )


def require_keys(route: Route) -> None:
    """Raise Denied if there is nothing to show to the host."""
    offer = route.offer
    if offer.agent or offer.pairs:
        return
    locked = f" ({', '.join(offer.locked)} needs a passphrase: ssh-add it)" if offer.locked else ""
    raise Denied(
        f"no SSH key to show to {route.place}{locked}: start ssh-agent and ssh-add a key "
        "(SSH_AUTH_SOCK names no agent), or name a key file with IdentityFile in ssh_config"
    )
