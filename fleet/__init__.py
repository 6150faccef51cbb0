"""The shared vocabulary of fleet: units, machines, constraints, the registry and its stores."""

__version__ = "2.0.0"
