"""fleetctl scale."""

import os

import click

from cli.bringing import prepare
from cli.carrying import Cluster, Patience, say, send, settle, warn
from cli.completion.candidates import templates
from cli.connect import run_connected
from cli.options import examples, patience_flags
from cli.plans import plan_bring
from cli.scaling import (
    NoTemplate,
    instance_of,
    parse_template,
    plan_scale,
    scaled_sentence,
    with_surplus,
)
from cli.settings import Settings
from fleet.errors import InvalidRequest
from fleet.names import UnitName
from fleet.states import TargetState

# As many units as fleet has been tried with.
_MOST = 100_000


@click.command(
    epilog=examples(
        "fleetctl scale web@ 5",
        "fleetctl scale web@.service 2     # web@3 to web@5 are destroyed",
        "fleetctl scale --no-block web@ 0  # all of them",
    )
)
@click.argument("template", metavar="TEMPLATE", shell_complete=templates)
@click.argument("count", metavar="COUNT", type=click.IntRange(0, _MOST))
@patience_flags
@click.pass_obj
def command(settings: Settings, *, template: str, count: int, patience: Patience) -> int:
    """Run so many instances of a template: web@1, web@2, and so on.

    Those that are missing are made of the template, from the cluster or from its file here, and
    started; those with higher numbers are destroyed, all in one change. Instances without a number
    are left alone, and named. The command waits as start and destroy do.
    """
    try:
        name = parse_template(template)
    except NoTemplate as error:
        raise click.UsageError(str(error)) from error
    folder = os.path.dirname(template)
    return run_connected(settings, lambda client: scale(client, name, folder, count, patience))


async def scale(
    client: Cluster, template: UnitName, folder: str, count: int, patience: Patience
) -> int:
    """Have the instances 1 to `count` of the template, whose file is in `folder`, and no more."""
    known = {unit.name for unit in await client.units()}
    chosen = plan_scale(template, count, known)
    if not (chosen.wanted or chosen.surplus or chosen.others or template in known):
        raise InvalidRequest(f"unable to find template Unit({template}), or any instance of it")
    paths = [instance_of(os.path.join(folder, template), n) for n in range(1, count + 1)]
    created, stored = await prepare(client, paths, verb="start", replace=False)
    patient = patience.attempts > 0
    bringing = plan_bring(created, stored, TargetState.LAUNCHED, patient=patient)
    plan = with_surplus(bringing, chosen.surplus)
    await send(client, plan.changes, verb="start")
    is_done = await settle(client, plan, verb="scale", patience=patience)
    if chosen.others:
        warn([f"Left alone, as they are not numbered from 1: {' '.join(chosen.others)}"])
    if not is_done:
        warn([f"Not all instances of {template} came to where they are to be"])
        return 1
    starts, destroys = len(bringing.changes), len(chosen.surplus)
    say(
        [scaled_sentence(template, count, starts=starts, destroys=destroys, is_done=patience.block)]
    )
    return 0
