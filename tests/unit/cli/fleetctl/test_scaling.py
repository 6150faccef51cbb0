"""scale as its users see it: so many instances of a template, and no more."""

from pathlib import Path

import pytest

from tests.unit.cli.fleetctl.cluster import LEGEND, Cluster, Fleetctl

WEB = "[Service]\nExecStart=/bin/sleep 100\n"


@pytest.fixture
def template(fleetctl: Fleetctl, cluster: Cluster) -> Path:
    """web@.service, in this folder only."""
    path = Path("web@.service")
    path.write_text(WEB)
    return path


def units(cluster: Cluster) -> dict[str, str]:
    stored = cluster.do(lambda registry: registry.cluster()).units
    return {name: record.target.value for name, record in stored.items()}


def test_missing_instances_are_made_of_the_local_template(
    fleetctl: Fleetctl, cluster: Cluster, template: Path
) -> None:
    done = fleetctl("scale", "web@", "2")
    assert (done.status, done.err) == (0, "")
    assert sorted(done.out.splitlines()) == [
        "Scaled web@.service to 2 instances: 2 started",
        f"Unit web@1.service launched on {LEGEND}",
        f"Unit web@2.service launched on {LEGEND}",
    ]
    assert units(cluster) == {"web@1.service": "launched", "web@2.service": "launched"}
    again = fleetctl("scale", "web@", "2")
    assert (again.status, again.out) == (0, "web@.service has 2 instances already\n")


def test_template_of_the_cluster_is_good_enough(
    fleetctl: Fleetctl, cluster: Cluster, template: Path
) -> None:
    fleetctl("submit", "web@.service")
    template.unlink()
    assert fleetctl("scale", "web@.service", "1").status == 0
    assert units(cluster)["web@1.service"] == "launched"


def test_template_is_found_in_its_folder(
    fleetctl: Fleetctl, cluster: Cluster, template: Path
) -> None:
    Path("units").mkdir()
    template.rename("units/web@.service")
    assert fleetctl("scale", "units/web@", "1").status == 0
    assert units(cluster) == {"web@1.service": "launched"}


def test_instances_above_are_destroyed_and_gaps_filled_in_one_change(
    fleetctl: Fleetctl, cluster: Cluster, template: Path
) -> None:
    assert fleetctl("start", "web@1", "web@3", "web@10", "web@blue").status == 0
    fleetctl("stop", "web@1")
    before = cluster.events()
    done = fleetctl("scale", "web@", "2")
    assert done.status == 0
    assert done.err == "Left alone, as they are not numbered from 1: web@blue.service\n"
    assert {"Destroyed web@10.service", "Destroyed web@3.service"} < set(done.out.splitlines())
    assert done.out.splitlines()[-1] == (
        "Scaled web@.service to 2 instances: 2 started, 2 destroyed"
    )
    assert set(units(cluster)) == {"web@1.service", "web@2.service", "web@blue.service"}
    assert set(units(cluster).values()) == {"launched"}
    assert cluster.events() > before


def test_none_is_a_number_of_instances_too(
    fleetctl: Fleetctl, cluster: Cluster, template: Path
) -> None:
    fleetctl("scale", "web@", "2")
    template.unlink()
    done = fleetctl("scale", "--no-block", "web@", "0")
    assert (done.status, done.err) == (0, "")
    assert done.out == (
        "Triggered unit web@2.service scale\n"
        "Triggered unit web@1.service scale\n"
        "Scaling web@.service to 0 instances: 2 to destroy\n"
    )
    assert units(cluster) == {}


def test_instance_that_fails_is_told_and_the_others_run(
    fleetctl: Fleetctl, cluster: Cluster, template: Path
) -> None:
    cluster.failing["web@2.service"] = {"active": "failed", "sub": "failed", "result": "exit-code"}
    done = fleetctl("scale", "web@", "3")
    assert done.status == 1
    assert f"Unit web@2.service failed on {LEGEND}" in done.err
    assert done.err.endswith("Not all instances of web@.service came to where they are to be\n")
    assert f"Unit web@3.service launched on {LEGEND}\n" in done.out


@pytest.mark.parametrize(
    ("argv", "status", "complaint"),
    [
        pytest.param(("web", "2"), 2, "names no template; write one such as web@", id="no @"),
        pytest.param(("web@1", "2"), 2, "names no template", id="an instance"),
        pytest.param(("web@", "many"), 2, "COUNT", id="no number"),
        pytest.param(("web@", "-1"), 2, "", id="less than none"),
        pytest.param(("web@",), 2, "COUNT", id="no count"),
        pytest.param(("wbe@", "2"), 1, "unable to find template Unit(wbe@.service)", id="unknown"),
        pytest.param(
            ("wbe@", "0"), 1, "unable to find template Unit(wbe@.service)", id="none of it"
        ),
    ],
)
def test_scale_refuses(
    fleetctl: Fleetctl,
    cluster: Cluster,
    template: Path,
    argv: tuple[str, ...],
    status: int,
    complaint: str,
) -> None:
    done = fleetctl("scale", *argv)
    assert done.status == status
    assert complaint in done.err
    assert units(cluster) == {}
