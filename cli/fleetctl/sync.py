"""fleetctl sync: set, status, diff, now, stop."""

from typing import TYPE_CHECKING

import click

from cli.completion.candidates import any_file
from cli.connect import run_comparing, run_connected
from cli.options import Option, examples
from cli.settings import Settings

if TYPE_CHECKING:
    from fleet.api.client import FleetClient


@click.group(
    epilog=examples(
        "fleetctl sync set https://git.example.com/shop.git --path units",
        "fleetctl sync status",
    )
)
def command() -> None:
    """Have the cluster follow a branch of a git repository.

    The leader of the cluster looks at the repository again and again, and makes the cluster match
    each new commit as one change, like apply --prune. A commit that is not right changes nothing
    and says why; a rollback is a git revert.
    """


@command.command(
    "set",
    epilog=examples(
        "fleetctl sync set https://git.example.com/shop.git --path units",
        "fleetctl sync set git@git.example.com:shop.git --credentials /etc/fleet/key",
        "fleetctl sync set /srv/shop.git --branch prod --interval 10",
    ),
)
@click.argument("url", metavar="URL")
@click.option("--branch", default="main", metavar="NAME", show_default=True, help="What to follow.")
@click.option("--path", default="", metavar="FOLDER", help="The folder in it.  [default: all]")
@click.option(
    "--interval",
    cls=Option,
    type=click.FloatRange(min=5, max=86400),
    default=60.0,
    metavar="SECONDS",
    show_default=True,
    help="How often to look.",
)
@click.option(
    "--credentials",
    default="",
    metavar="FILE",
    shell_complete=any_file,
    help="On every machine: a key for SSH; for HTTPS, git's credential-store.",
)
@click.option("--no-prune", is_flag=True, help="Keep units that the folder no longer has.")
@click.option("--no-block", is_flag=True, help="Do not wait for the first look at it.")
@click.pass_obj
def set_command(
    settings: Settings,
    *,
    url: str,
    branch: str,
    path: str,
    interval: float,
    credentials: str,
    no_prune: bool,
    no_block: bool,
) -> int:
    """Follow a repository from now on.

    URL is https://, ssh://, user@host:path, or the path of a repository on the machines. It
    has no password in it: that is in the file of --credentials, which only root reads.
    """
    from cli.folders.following import follow_now
    from fleet.sync.values import SyncSettings

    wanted = SyncSettings(
        url=url,
        branch=branch,
        path=path.strip("/"),
        interval_s=interval,
        credentials=credentials,
        prune=not no_prune,
    )
    return run_connected(
        settings,
        lambda client: follow_now(client, lambda: client.set_sync(wanted), block=not no_block),
    )


@command.command("status", epilog=examples("fleetctl sync status"))
@click.pass_obj
def status_command(settings: Settings) -> int:
    """Show what is followed, the commit that is applied, and what is not as it has it.

    Exits with 1 if a commit could not be applied, the repository could not be read, or units have
    drifted: others have changed them since.
    """
    from cli.folders.following import show_status

    return run_connected(settings, show_status)


@command.command(
    "diff",
    epilog=examples(
        "fleetctl sync diff",
        "fleetctl sync diff > drift.txt || [ $? -eq 1 ]     # for a report",
    ),
)
@click.pass_obj
def diff_command(settings: Settings) -> int:
    """Show what has drifted as a diff: what sync now would put right.

    The same as diff of a clone at the commit that is applied, from any machine and without git.
    Exits with 0 if nothing has drifted, 1 if something has, 2 on an error.
    """
    from cli.folders.following import show_drift

    return run_comparing(settings, show_drift)


@command.command(
    "now",
    epilog=examples(
        "fleetctl sync now",
        "fleetctl sync now --no-block     # from a hook of the repository",
    ),
)
@click.option("--no-block", is_flag=True, help="Do not wait for it.")
@click.pass_obj
def now_command(settings: Settings, *, no_block: bool) -> int:
    """Look at the repository now, and put right what has drifted."""
    from cli.folders.following import follow_now

    return run_connected(
        settings, lambda client: follow_now(client, client.sync_now, block=not no_block)
    )


@command.command("stop", epilog=examples("fleetctl sync stop"))
@click.pass_obj
def stop_command(settings: Settings) -> int:
    """Follow no repository any more; the units stay as they are."""

    async def work(client: "FleetClient") -> int:
        await client.stop_sync()
        click.echo("No repository is followed any more; the units stay as they are")
        return 0

    return run_connected(settings, work)
