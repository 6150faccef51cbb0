"""fleetctl: one module per verb.

A verb's module defines `command`, a `click.Command`, and is imported when the verb is used; the
table of verbs is in `cli.fleetctl.main`. A command gets its `Settings` with `@click.pass_obj`, runs
its own event loop, and speaks by three means: results on stdout, a `FleetError` for what went
wrong (main prints it and exits with 1), and `click.Context.exit` for any other status. It imports
h11, asyncssh and the like inside functions, so that `fleetctl --help` stays fast.
"""
