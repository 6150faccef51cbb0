"""What fleetd is told by its file and its environment.

Names, grammar and precedence are those of fleet 1.0: options stand before any section of an INI
file, `FLEET_<OPTION>` in the environment counts before the file, the file before the default. An
empty value is the default. Where the original passed over a value it could not read, and so ran
with another one, it is refused here with file, line and option.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fleet.durations import parse_duration
from fleet.errors import InvalidRequest

DEFAULT_PATH = Path("/etc/fleet/fleet.conf")
ENVIRONMENT_PREFIX = "FLEET_"
# etcd makes two seconds of any shorter lease (measured on 3.4 with its default election timeout).
MIN_AGENT_TTL_S = 2.0
# The original kept the page size in 16 bits.
MAX_TOKEN_LIMIT = 65535


class OnStop(StrEnum):
    """What a fleetd that is stopped does: keep its units running, or leave the cluster."""

    KEEP = "keep"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of one fleetd; without `etcd_servers` it is a cluster of one, on SQLite."""

    verbosity: int = 0
    etcd_servers: tuple[str, ...] = ()
    etcd_username: str = ""
    etcd_password: str = field(default="", repr=False)
    etcd_keyfile: Path | None = None
    etcd_certfile: Path | None = None
    etcd_cafile: Path | None = None
    etcd_key_prefix: str = "/fleet/"
    etcd_request_timeout_s: float = 1.0
    engine_reconcile_interval_s: float = 30.0
    public_ip: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    agent_ttl_s: float = 6.0
    units_directory: Path = Path("/run/fleet/units/")
    systemd_user: bool = False
    token_limit: int = 100
    disable_engine: bool = False
    on_stop: OnStop = OnStop.KEEP
    data_directory: Path = Path("/var/lib/fleet")
    socket: Path = Path("/run/fleet.sock")
    api_certfile: Path | None = None
    api_keyfile: Path | None = None
    api_cafile: Path | None = None
    api_insecure: bool = False
    mass_loss_hold_s: float = 300.0
    mass_loss_part: Fraction = Fraction(1, 3)
    fence_margin_s: float = 0.0


def load_config(
    path: Path | None, environ: Mapping[str, str], *, default: Path = DEFAULT_PATH
) -> tuple[Config, tuple[str, ...]]:
    """The settings from a file and the environment, with warnings of one sentence each.

    A path that is given has to exist; without one the default file is read if it is there. Raises
    InvalidRequest naming file, line and option, or the variable.
    """
    source = default if path is None else path
    try:
        text = source.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        if path is not None:
            raise InvalidRequest(f"configuration file {path} does not exist") from error
        text = ""
    except OSError as error:
        problem = error.strerror or error
        raise InvalidRequest(f"cannot read configuration file {source}: {problem}") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"configuration file {source} is not UTF-8 text") from error
    return parse_config(text, str(source), environ)


def parse_config(
    text: str, source: str, environ: Mapping[str, str]
) -> tuple[Config, tuple[str, ...]]:
    """Like load_config, of the text of a file and the name to call it by."""
    warnings: list[str] = []
    settings: dict[str, _Setting] = {}
    for setting in _file_settings(text, source, warnings):
        if setting.option in settings:
            warnings.append(f"{setting.where} is set a second time, and this one counts")
        settings[setting.option] = setting
    settings |= {setting.option: setting for setting in _environment_settings(environ, warnings)}
    chosen: dict[str, Any] = {}
    for setting in settings.values():
        if setting.option in _MEANINGLESS:
            warnings.extend(_meaningless(setting))
        elif setting.value:
            attribute, read = _OPTIONS[setting.option]
            chosen[attribute] = _read(setting, read)
    config = Config(**chosen)
    _check_pairs(config)
    return config, tuple(warnings)


# Where settings come from


@dataclass(frozen=True, slots=True)
class _Setting:
    option: str
    value: str
    where: str


# The quoted forms may have a comment after them; a bare value ends where a comment begins.
_ASSIGNMENT = re.compile(
    r"""(?P<option>[^=\s]+)\s*=\s*
    (?: "(?P<double>[^"]*)" | '(?P<single>[^']*)' | (?P<bare>[^#;]*?) )
    \s*(?:[#;].*)?""",
    re.VERBOSE,
)


def _file_settings(text: str, source: str, warnings: list[str]) -> Iterator[_Setting]:
    section = ""
    for number, line in _logical_lines(text):
        if line.startswith("[") and line.endswith("]"):
            section = line
            warnings.append(
                f"{source}:{number}: section {section} is passed over: "
                "options stand before any section"
            )
            continue
        option, value = _assignment(line, f"{source}:{number}")
        where = f"{source}:{number}: {option}"
        if section:
            continue
        if option in _OPTIONS or option in _MEANINGLESS:
            yield _Setting(option, value, where)
        else:
            warnings.append(f"{where} is no option of fleetd{_nearest(option)}")


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that say something, each with its number, joined where one ends in a backslash."""
    numbered = iter(enumerate(text.removeprefix("\ufeff").splitlines(), start=1))
    for number, raw in numbered:
        line = raw.strip()
        while line.endswith("\\"):
            line = line[:-1] + next(numbered, (0, ""))[1].strip()
        if line and line[0] not in "#;":
            yield number, line


def _assignment(line: str, where: str) -> tuple[str, str]:
    match = _ASSIGNMENT.fullmatch(line)
    if match is None:
        raise InvalidRequest(f"{where}: {line!r} is neither a comment nor option=value")
    value = match["double"] or match["single"] or (match["bare"] or "").strip()
    if match["bare"] and value[0] in "\"'" and value.count(value[0]) % 2:
        raise InvalidRequest(f"{where}: {match['option']} has a quote without its end")
    return match["option"].lower(), value


def _environment_settings(environ: Mapping[str, str], warnings: list[str]) -> Iterator[_Setting]:
    for variable, value in sorted(environ.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        option = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if option in _OPTIONS or option in _MEANINGLESS:
            yield _Setting(option, value.strip(), variable)
        else:
            nearest = _nearest(option, prefix=ENVIRONMENT_PREFIX)
            warnings.append(f"{variable} is no variable of fleetd{nearest}")


def _nearest(option: str, *, prefix: str = "") -> str:
    near = difflib.get_close_matches(option, [*_OPTIONS, *_MEANINGLESS], n=1)
    if not near:
        return ""
    name = f"{prefix}{near[0].upper()}" if prefix else near[0]
    return f"; did you mean {name}?"


# What values mean


def _read(setting: _Setting, read: Callable[[str], Any]) -> Any:
    try:
        return read(setting.value)
    except ValueError as error:
        raise InvalidRequest(f"{setting.where} = {_shown(setting.value)}: {error}") from error


def _shown(value: str) -> str:
    """The value without the user and password that somebody wrote into a URL."""
    return re.sub(r"//[^/@]*@", "//...@", value)


def _text(value: str) -> str:
    return value


def _go_bool(value: str) -> bool:
    """What Go's strconv.ParseBool takes, and no other word."""
    if value in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if value in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise ValueError("write true or false")


def _whole_number(value: str) -> int:
    if not value.isdecimal():
        raise ValueError("write a whole number")
    return int(value)


def _token_limit(value: str) -> int:
    limit = _whole_number(value)
    if not 1 <= limit <= MAX_TOKEN_LIMIT:
        raise ValueError(f"write a number from 1 to {MAX_TOKEN_LIMIT}")
    return limit


def _seconds(value: str) -> float:
    """A number of seconds, as the original has it for these options, or a duration."""
    try:
        seconds = float(value)
    except ValueError:
        seconds = parse_duration(value)
    if not 0 < seconds < float("inf"):
        raise ValueError("write a number of seconds above 0")
    return seconds


def _agent_ttl(value: str) -> float:
    ttl_s = parse_duration(value)
    if ttl_s < MIN_AGENT_TTL_S:
        raise ValueError(f"the shortest that stores can keep is {MIN_AGENT_TTL_S:g}s")
    return ttl_s


def _part(value: str) -> Fraction:
    try:
        part = Fraction(value)
    except (ValueError, ZeroDivisionError):
        part = Fraction(-1)
    if not 0 <= part <= 1:
        raise ValueError("write a part of all machines, from 0 to 1, as 1/3 or 0.5")
    return part


def _servers(value: str) -> tuple[str, ...]:
    listed = (word.strip(" \t\"'") for word in value.strip("[] \t").split(","))
    return tuple(_server(word) for word in listed if word)


def _server(url: str) -> str:
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError("name the user in etcd_username and etcd_password, not in the URL")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no http:// or https:// URL of an etcd server")
    port = parts.netloc.rpartition("]")[2].partition(":")[2]
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"{url!r} has no usable port")
    return url.rstrip("/")


def _key_prefix(value: str) -> str:
    words = [word for word in value.split("/") if word]
    return f"/{'/'.join(words)}/" if words else "/"


def _metadata(value: str) -> dict[str, str]:
    metadata: dict[str, str] = {}
    for pair in value.split(","):
        if not pair.strip():
            continue
        key, equals, word = (part.strip() for part in pair.partition("="))
        if not (key and equals) or "=" in word:
            raise ValueError(f"{pair.strip()!r} is not key=value; several go as a=b,c=d")
        metadata[key] = word
    return metadata


def _absolute_path(value: str) -> Path:
    if not value.startswith("/"):
        raise ValueError("write an absolute path")
    return Path(value)


def _on_stop(value: str) -> OnStop:
    try:
        return OnStop(value)
    except ValueError:
        raise ValueError(f"write one of {', '.join(OnStop)}") from None


_OPTIONS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "verbosity": ("verbosity", _whole_number),
    "etcd_servers": ("etcd_servers", _servers),
    "etcd_username": ("etcd_username", _text),
    "etcd_password": ("etcd_password", _text),
    "etcd_keyfile": ("etcd_keyfile", _absolute_path),
    "etcd_certfile": ("etcd_certfile", _absolute_path),
    "etcd_cafile": ("etcd_cafile", _absolute_path),
    "etcd_key_prefix": ("etcd_key_prefix", _key_prefix),
    "etcd_request_timeout": ("etcd_request_timeout_s", _seconds),
    "engine_reconcile_interval": ("engine_reconcile_interval_s", _seconds),
    "public_ip": ("public_ip", _text),
    "metadata": ("metadata", _metadata),
    "agent_ttl": ("agent_ttl_s", _agent_ttl),
    "units_directory": ("units_directory", _absolute_path),
    "systemd_user": ("systemd_user", _go_bool),
    "token_limit": ("token_limit", _token_limit),
    "disable_engine": ("disable_engine", _go_bool),
    "on_stop": ("on_stop", _on_stop),
    "data_directory": ("data_directory", _absolute_path),
    "socket": ("socket", _absolute_path),
    "api_certfile": ("api_certfile", _absolute_path),
    "api_keyfile": ("api_keyfile", _absolute_path),
    "api_cafile": ("api_cafile", _absolute_path),
    "api_insecure": ("api_insecure", _go_bool),
    "mass_loss_hold": ("mass_loss_hold_s", parse_duration),
    "mass_loss_part": ("mass_loss_part", _part),
    "fence_margin": ("fence_margin_s", parse_duration),
}

OPTIONS = tuple(_OPTIONS)

_UNSIGNED = "units are not signed and not verified any more"
_MEANINGLESS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "disable_watches": (
        _go_bool,
        "a machine watches nothing but its own part of the schedule, which costs it next to "
        "nothing, and without that no change would reach it",
    ),
    "enable_grpc": (_go_bool, "machines speak with each other through the store alone"),
    "verify_units": (_go_bool, _UNSIGNED),
    "authorized_keys_file": (_text, _UNSIGNED),
}

MEANINGLESS_OPTIONS = tuple(_MEANINGLESS)


def _meaningless(setting: _Setting) -> Iterator[str]:
    read, why = _MEANINGLESS[setting.option]
    if setting.value and _read(setting, read):
        yield f"{setting.where} means nothing here: {why}"


def _check_pairs(config: Config) -> None:
    if config.fence_margin_s > config.agent_ttl_s / 2:
        raise InvalidRequest(
            f"fence_margin={config.fence_margin_s:g}s is more than half of "
            f"agent_ttl={config.agent_ttl_s:g}s, which leaves no time to renew the lease"
        )
    if (config.etcd_keyfile is None) != (config.etcd_certfile is None):
        raise InvalidRequest("etcd_keyfile and etcd_certfile are of use together only: set both")
    api_files = (config.api_certfile, config.api_keyfile, config.api_cafile)
    if any(api_files) and not all(api_files):
        raise InvalidRequest(
            "api_certfile, api_keyfile and api_cafile are of use together only: set all three"
        )
    if any(api_files) and config.api_insecure:
        raise InvalidRequest(
            "api_insecure=true and api_certfile contradict each other: TCP has TLS or it has not"
        )
    if config.etcd_password and not config.etcd_username:
        raise InvalidRequest("etcd_password is set without etcd_username: set both")
