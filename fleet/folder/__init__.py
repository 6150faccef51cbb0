"""A folder of unit files as the desired state of a cluster.

`reading` looks at the disk and decides only which files count, `settings` reads `fleet.toml`,
`assemble` makes desired units of what was found, `difference` compares them with a cluster, and
`export` is the way back. All but the first are functions of plain values.
"""
