"""list-units, list-unit-files, list-machines and cat."""

import asyncio
import json
from pathlib import Path

import pytest

from fleet.api.client import FleetClient
from tests.unit.cli.fleetctl.cluster import HERE, LEGEND, Cluster, Fleetctl

WEB = "[Unit]\nDescription=web\n[Service]\nExecStart=/bin/sleep 100\n"


@pytest.fixture
def filled(fleetctl: Fleetctl, cluster: Cluster) -> Cluster:
    """The cluster with a running unit, and one that is only stored."""
    Path("web.service").write_text(f"# mine\n{WEB}")
    Path("db.service").write_text("[Service]\nExecStart=/bin/sleep 100\n")
    fleetctl("start", "web")
    fleetctl("submit", "db")
    return cluster


def test_list_units(fleetctl: Fleetctl, filled: Cluster) -> None:
    outcome = fleetctl("list-units")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == (
        f"UNIT\t\tMACHINE\t\t\t\tACTIVE\tSUB\nweb.service\t{LEGEND}\tactive\trunning\n"
    )


def test_list_units_for_a_script(fleetctl: Fleetctl, filled: Cluster) -> None:
    outcome = fleetctl("-no-legend", "list-units", "-fields=unit,active")
    assert outcome.status == 2  # a flag of the verb has to come after it
    outcome = fleetctl("list-units", "-no-legend", "-fields=unit,active")
    assert outcome.out == "web.service\tactive\n"


def test_list_units_of_a_pattern(fleetctl: Fleetctl, filled: Cluster) -> None:
    assert fleetctl("list-units", "--no-legend", "w*", "--fields=unit").out == "web.service\n"
    assert fleetctl("list-units", "--no-legend", "x*").out == ""


def test_list_unit_files(fleetctl: Fleetctl, filled: Cluster) -> None:
    lines = fleetctl("list-unit-files", "--fields=unit,dstate,state,target,desc").out.splitlines()
    assert [line.split("\t") for line in lines] == [
        ["UNIT", "", "DSTATE", "", "STATE", "", "TARGET", "", "", "", "DESC"],
        ["db.service", "inactive", "inactive", "-", "", "", "", "-"],
        ["web.service", "launched", "launched", LEGEND, "web"],
    ]


def test_old_name_of_target_is_deprecated(fleetctl: Fleetctl, filled: Cluster) -> None:
    outcome = fleetctl("list-unit-files", "--no-legend", "--fields=tmachine", "web")
    assert outcome.out == f"{LEGEND}\n"
    assert "deprecated" in outcome.err


def test_list_machines(fleetctl: Fleetctl, filled: Cluster) -> None:
    assert fleetctl("list-machines").out == (
        "MACHINE\t\tIP\t\tMETADATA\n113f16a7...\t172.17.8.103\tdisk=ssd\n"
    )
    assert fleetctl("list-m", "--l", "--no-legend", "--fields", "machine").out == f"{HERE}\n"


def test_lists_are_written_for_programs(fleetctl: Fleetctl, filled: Cluster) -> None:
    (unit,) = json.loads(fleetctl("list-units", "-o", "json").out)
    assert (unit["unit"], unit["machine"], unit["address"]) == ("web.service", HERE, "172.17.8.103")
    files = json.loads(fleetctl("list-unit-files", "--output=json", "web").out)
    assert [(each["unit"], each["desired"]) for each in files] == [("web.service", "launched")]
    assert fleetctl("list-unit-files", "-o", "name").out == "db.service\nweb.service\n"
    assert fleetctl("list-machines", "-o", "yaml").out.startswith(f'- machine: "{HERE}"\n')
    assert f"{HERE}/172.17.8.103\tloaded" in fleetctl("list-units", "-o", "wide").out
    events = json.loads(fleetctl("events", "-o", "json").out)
    assert {each["unit"] for each in events} == {"db.service", "web.service"}
    assert fleetctl("list-units", "-o", "xml").status == 2


@pytest.mark.parametrize("verb", ["list-units", "list-unit-files", "list-machines"])
def test_malformed_fields_exit_with_1(fleetctl: Fleetctl, verb: str) -> None:
    outcome = fleetctl(verb, "--fields=")
    assert (outcome.status, outcome.err) == (1, "Must define output format\n")
    assert 'Invalid key in output format: "x"' in fleetctl(verb, "--fields=x").err


def test_cat_prints_the_authors_text(fleetctl: Fleetctl, filled: Cluster) -> None:
    outcome = fleetctl("cat", "web")
    assert (outcome.status, outcome.out, outcome.err) == (0, f"# mine\n{WEB}", "")


def test_cat_of_nothing(fleetctl: Fleetctl, filled: Cluster) -> None:
    outcome = fleetctl("cat", "gone")
    assert (outcome.status, outcome.err) == (1, "Unit gone.service not found\n")
    for arguments in ((), ("a", "b")):
        outcome = fleetctl("cat", *arguments)
        assert (outcome.status, outcome.err) == (1, "One unit file must be provided\n")


def test_client_may_go_by_the_end_of_a_tunnel(cluster: Cluster) -> None:
    async def machines() -> list[str]:
        far = "unix:///run/on-the-far-side.sock"
        async with FleetClient(far, socket=str(cluster.socket)) as client:
            return [machine.id for machine in await client.machines()]

    assert asyncio.run(machines()) == [HERE]
