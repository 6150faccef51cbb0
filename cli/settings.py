"""What a fleetctl command was told about reaching the cluster: the global flags, as one value.

The verbs get it from click (`@click.pass_obj`); `cli.connect` and `cli.tunnel` act on it.
"""

from dataclasses import dataclass

DEFAULT_ENDPOINT = "unix:///var/run/fleet.sock"
# fleet 1.0's user of every CoreOS machine; it counts when neither a flag nor ssh_config names one.
DEFAULT_SSH_USERNAME = "core"
DEFAULT_KNOWN_HOSTS = "~/.fleetctl/known_hosts"


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
