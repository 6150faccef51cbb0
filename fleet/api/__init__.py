"""The HTTP API `/fleet/v1`: its documents, its server and its client."""
