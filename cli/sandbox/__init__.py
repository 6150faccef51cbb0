"""`fleetctl sandbox`: real systemd machines on this host, for trying and for testing."""
