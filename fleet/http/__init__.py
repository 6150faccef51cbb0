"""How fleet asks servers: HTTP/1.1 for fleetd's API, gRPC over HTTP/2 for etcd."""
