"""HTTP/1.1 for whoever asks a server: fleetctl asks fleetd's API, fleetd asks etcd's gateway."""
