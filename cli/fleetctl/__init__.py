"""`fleetctl`: one module a verb."""
