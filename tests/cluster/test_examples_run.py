"""Every file of examples/ is deployed on three machines, and does what its first lines say."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from cli.sandbox.cluster import Sandbox
from tests.cluster.machines import eventually
from tests.cluster.steps import Operator

pytestmark = pytest.mark.systemd

EXAMPLES = Path(__file__).parents[2] / "examples"
MACHINES = ("fleet1", "fleet2", "fleet3")


@pytest.fixture(scope="module")
def operator(
    make_module_sandbox: Callable[..., Sandbox], tmp_path_factory: pytest.TempPathFactory
) -> Operator:
    """Somebody in a copy of examples/, and three machines, of which fleet2 has an ssd."""
    sandbox = make_module_sandbox(metadata={"fleet2": {"disk": "ssd"}})
    folder = tmp_path_factory.mktemp("copy") / "examples"
    shutil.copytree(EXAMPLES, folder)
    return Operator(sandbox=sandbox, folder=folder)


def test_web_answers_once_it_is_started(operator: Operator) -> None:
    operator.ok("start", "web")

    curl = ["curl", "--fail", "--silent", "--max-time", "5", "http://127.0.0.1/"]
    page = operator.sandbox.run(operator.home("web.service"), curl)
    assert page.returncode == 0
    assert "nginx" in page.stdout


def test_web_that_does_not_answer_is_not_called_started(operator: Operator) -> None:
    operator.ok("destroy", "web")
    # The port is taken on each machine, by something that never answers.
    taken = "import socket,time;s=socket.create_server(('',80));time.sleep(1000)"
    for machine in MACHINES:
        argv = ["systemd-run", "--quiet", "--unit=taken", "python3", "-c", taken]
        operator.sandbox.run(machine, argv, check=True)
        eventually(partial(operator.is_active, machine, "taken.service"))
    try:
        done = operator.fleetctl("start", "web")

        assert done.returncode == 1
        assert "Unit web.service failed on" in done.stderr
    finally:
        operator.ok("destroy", "web")
        for machine in MACHINES:
            operator.sandbox.run(machine, ["systemctl", "stop", "taken"], check=True)


def test_workers_share_no_machine(operator: Operator) -> None:
    operator.ok("start", "worker@1", "worker@2", "worker@3")

    assert {operator.home(f"worker@{number}.service") for number in (1, 2, 3)} == set(MACHINES)
    home = operator.home("worker@2.service")
    assert "worker 2 did its round" in operator.inside(home, "journal", "worker@2").stdout


def test_site_is_started_once_it_answers(operator: Operator) -> None:
    operator.ok("start", "site@1")

    page = ["curl", "--fail", "--silent", "--max-time", "5", "http://127.0.0.1:8001/"]
    answer = operator.sandbox.run(operator.home("site@1.service"), page)
    assert (answer.returncode, "Directory listing" in answer.stdout) == (0, True), answer


def test_log_shipper_is_on_every_machine(operator: Operator) -> None:
    operator.ok("start", "log-shipper")

    assert eventually(lambda: operator.homes("log-shipper.service") == MACHINES)
    for machine in MACHINES:
        operator.sandbox.run(machine, ["logger", f"a word from {machine}"], check=True)
        eventually(partial(_has_shipped, operator, machine, f"a word from {machine}"))


def _has_shipped(operator: Operator, machine: str, words: str) -> bool:
    shipped = operator.sandbox.path(machine, "/var/log/shipped.json")
    return words in shipped.read_text(errors="replace")


def test_backup_runs_when_its_timer_says(operator: Operator) -> None:
    # Sooner than in the file, so that nobody waits for it here.
    timer = operator.folder / "backup.timer"
    timer.write_text(timer.read_text().replace("OnActiveSec=5s", "OnActiveSec=1s"))

    operator.ok("load", "backup.service")
    operator.ok("start", "backup.timer")

    home = operator.home("backup.timer")
    assert operator.files(home).count("backup.service") == 1
    tarball = operator.sandbox.path(home, "/var/backups/etc.tar.gz")
    eventually(tarball.exists)
    eventually(lambda: not _is_running(operator, home, "backup.service"))
    listed = operator.sandbox.run(home, ["tar", "--list", "--file", "/var/backups/etc.tar.gz"])
    assert "etc/hostname" in listed.stdout


def _is_running(operator: Operator, machine: str, unit: str) -> bool:
    return operator.show(machine, unit, "ActiveState")["ActiveState"] == "activating"


def test_database_runs_only_where_its_disk_is(operator: Operator) -> None:
    operator.ok("start", "database")

    assert operator.home("database.service") == "fleet2"
    rows = operator.sandbox.path("fleet2", "/var/lib/database/rows")
    eventually(rows.exists)

    operator.sandbox.kill("fleet2")
    operator = operator.at("fleet1")
    eventually(lambda: operator.homes("database.service") == ())
    refused = operator.fleetctl("start", "database")
    assert refused.returncode == 1
    assert "the unit asks for metadata disk=ssd" in refused.stderr


def test_every_example_was_deployed(operator: Operator) -> None:
    stored = operator.stored()
    files = [path.name for path in EXAMPLES.iterdir() if path.suffix != ".md"]
    names = {name.replace("@.", "@1.") for name in files if name != "web.service"}
    assert names <= set(stored.split())
