"""The programs: `fleetctl` for people, `fleetd` for machines, and the sandbox."""
