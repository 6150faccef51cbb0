"""What a fleetctl command was told about reaching the cluster: the global flags, as one value.

The verbs get it from click (`@click.pass_obj`); `cli.connect` and `cli.tunnel` act on it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DEFAULT_ENDPOINT = "unix:///var/run/fleet.sock"
# fleet 1.0's user of every CoreOS machine; it counts when neither a flag nor ssh_config names one.
DEFAULT_SSH_USERNAME = "core"
DEFAULT_KNOWN_HOSTS = "~/.fleetctl/known_hosts"

# The flags that a field of the same name holds, and those in seconds.
_AS_THEY_ARE = (
    *("endpoint", "driver", "tunnel", "ssh_username", "ssh_config"),
    *("strict_host_key_checking", "debug"),
)
_IN_SECONDS = ("ssh_timeout", "request_timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The global flags, after variables and defaults.

    `endpoint` is a unix://, http:// or https:// address. `tunnel` is `HOST[:PORT]`, empty for
    none. `ssh_username` and `ssh_config` are None if they were not given; `known_hosts_file` has
    its `~` expanded. Empty `ca_file`, `cert_file` and `key_file` mean none.
    """

    endpoint: str = DEFAULT_ENDPOINT
    driver: str = "API"
    tunnel: str = ""
    ssh_username: str | None = None
    ssh_timeout_s: float = 10.0
    strict_host_key_checking: bool = True
    known_hosts_file: str = DEFAULT_KNOWN_HOSTS
    ssh_config: str | None = None
    request_timeout_s: float = 30.0
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    debug: bool = False


def settings_from(flags: Mapping[str, Any]) -> Settings:
    """The settings that the global flags say, by their names; one that is None was not given."""
    given = {name: value for name, value in flags.items() if value is not None}
    known = {name: given[name] for name in _AS_THEY_ARE if name in given}
    known |= {f"{name}_s": given[name] for name in _IN_SECONDS if name in given}
    hosts = given.get("known_hosts_file", DEFAULT_KNOWN_HOSTS)
    return Settings(
        **known,
        known_hosts_file=os.path.expanduser(hosts),
        ca_file=given.get("ca_file") or given.get("etcd_cafile", ""),
        cert_file=given.get("cert_file") or given.get("etcd_certfile", ""),
        key_file=given.get("key_file") or given.get("etcd_keyfile", ""),
    )
