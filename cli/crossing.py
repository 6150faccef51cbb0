"""What fleetd does first of all: renew the lease of the fleetd before it, if it left one.

Nothing is imported here but what that takes: see agent/bridge.py.
"""

from agent.bridge import Bridge, LeaseNote
from cli.identity import read_boot_id
from fleet.config import Config
from fleet.store.connect import etcd_settings, store_factory


def lease_note(config: Config, boot_id: str) -> LeaseNote:
    """Where fleetd notes its lease for the fleetd after it."""
    return LeaseNote(config.units_directory.parent / "lease", boot_id=boot_id)


def cross_restart(config: Config) -> Bridge | None:
    """The bridge, begun; None if there is no lease to renew, or nobody else to take the units.

    Raises FleetError if the store's settings cannot work.
    """
    etcd = etcd_settings(config)
    if etcd is None:
        return None
    lease = lease_note(config, read_boot_id()).take()
    if lease is None:
        return None
    store = store_factory(etcd, config.data_directory).connect()
    bridge = Bridge(store, lease, ttl_s=config.agent_ttl_s)
    bridge.start()
    return bridge
