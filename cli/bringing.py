"""submit, load and start: create what is new, send it all in one request, and wait."""

from collections.abc import Sequence

from cli.carrying import Cluster, Patience, each_unit, say, send, settle, stored_units, warn
from cli.creation import Created, CreationFailed, Wanted, create_all, read_local
from cli.plans import TARGETS, Plan, plan_bring, plan_rollback, plan_submit
from cli.selection import is_global_file
from fleet.api.schema import Unit
from fleet.errors import FleetError
from fleet.names import UnitName


async def bring(
    client: Cluster,
    arguments: Sequence[str],
    *,
    verb: str,
    replace: bool,
    patience: Patience,
    rollback: bool = False,
    max_unavailable: int = 0,
) -> int:
    """Submit, load or start the units that the arguments name; the exit status.

    With `rollback`, replaced units get their former contents back if any unit does not come to its
    goal. New contents are taken by `max_unavailable` of a kind at a time, 0 leaving that to them,
    on the way back too. Raises CreationFailed, with nothing sent, if any of them cannot be.
    """
    created, stored = await prepare(client, arguments, verb=verb, replace=replace)
    if verb == "submit":
        plan = plan_submit(created)
        await send(client, plan.changes, verb=verb)
        for one in created:
            if one.file is not None:
                everywhere = is_global_file(one.file, one.name)
                say([f"Unit {one.name} {'' if everywhere else 'inactive'}"])
        return 0
    plan = plan_bring(created, stored, TARGETS[verb], patient=patience.attempts > 0)
    plan = plan.at_a_time(max_unavailable)
    await send(client, plan.changes, verb=verb)
    if await settle(client, plan, verb=verb, patience=patience):
        return 0
    if rollback:
        replaced = [one.name for one in created if one.file is not None and one.name in stored]
        back = plan_rollback([stored[name] for name in replaced]).at_a_time(max_unavailable)
        await _go_back(client, back, patience)
    return 1


async def prepare(
    client: Cluster, arguments: Sequence[str], *, verb: str, replace: bool
) -> tuple[list[Created], dict[UnitName, Unit]]:
    """What is to be stored for the arguments, told of, and what is stored of them already.

    Raises CreationFailed if any of them cannot be.
    """
    wanted = read_arguments(arguments)
    stored = await _stored(client, wanted)
    created = create_all(wanted, stored, verb=verb, replace=replace)
    for one in created:
        say(one.said)
        warn(one.warned)
    return created, stored


async def _go_back(client: Cluster, plan: Plan, patience: Patience) -> None:
    """Give units the contents and target states that they had, and wait for that."""
    if not plan.changes:
        return
    warn([f"Going back to the former contents of {' '.join(each.name for each in plan.changes)}"])
    await send(client, plan.changes, verb="start")
    await settle(client, plan, verb="start", patience=patience)


def read_arguments(arguments: Sequence[str]) -> list[Wanted]:
    """What every argument names on this disk; raises CreationFailed with all that name nothing."""
    wanted: list[Wanted] = []
    problems: list[str] = []
    for argument in arguments:
        try:
            wanted.append(read_local(argument))
        except FleetError as error:
            problems.append(str(error))
    if problems:
        raise CreationFailed(problems)
    return wanted


async def _stored(client: Cluster, wanted: Sequence[Wanted]) -> dict[UnitName, Unit]:
    """The stored ones of the units, and of the templates of those that are not."""
    stored = await stored_units(client, dict.fromkeys(one.name for one in wanted), texts=True)
    templates = {one.template for one in wanted if one.template and one.name not in stored}
    return stored | await each_unit(client, templates)
