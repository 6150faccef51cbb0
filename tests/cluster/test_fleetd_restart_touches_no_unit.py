"""fleetd is restarted, killed, stopped for a while, and led by another: units never notice."""

import time
from collections.abc import Callable

import pytest

from cli.sandbox.cluster import Sandbox
from tests.cluster.machines import eventually
from tests.cluster.steps import Operator

pytestmark = pytest.mark.systemd

MACHINES = ("fleet1", "fleet2", "fleet3")
TTL_S = 6.0
RESTART = "systemctl restart fleet"
KILL = "kill -KILL $(systemctl show --property=MainPID --value fleet)"
UPGRADE = "systemctl stop fleet && sleep 1 && systemctl start fleet"


@pytest.fixture(scope="module")
def busy(
    make_module_sandbox: Callable[..., Sandbox], tmp_path_factory: pytest.TempPathFactory
) -> Operator:
    """Three machines, and units of every kind on each of them."""
    sandbox = make_module_sandbox(settings={"agent_ttl": f"{TTL_S:g}s"})
    operator = Operator(sandbox=sandbox, folder=tmp_path_factory.mktemp("units"))
    once = "echo >>/var/tmp/runs-$NAME"
    here = "Conflicts=%p@*.service"
    operator.service("web@.service", fleet=here, service="Restart=always")
    operator.service("once@.service", once, fleet=here, service="Type=oneshot\nEnvironment=NAME=%i")
    operator.service("failed@.service", f"{once}; exit 3", service="Type=oneshot", fleet=here)
    operator.service("crashed@.service", "sleep 0.5; exit 3", fleet=here)
    operator.service("stored@.service", fleet=here)
    operator.service("everywhere.service", fleet="Global=true")
    operator.write(
        "tick@.timer", f"[Timer]\nOnActiveSec=1h\nUnit=once@%i.service\n[X-Fleet]\n{here}"
    )
    for kind in ("web", "once", "crashed", "everywhere", "tick"):
        operator.ok("start", *([kind] if kind == "everywhere" else _three(kind, operator)))
    operator.ok("load", *_three("stored", operator))
    assert operator.fleetctl("start", *_three("failed", operator)).returncode == 1
    eventually(lambda: operator.homes("everywhere.service") == MACHINES)
    eventually(lambda: {row.active for row in operator.rows("crashed@*")} == {"failed"})
    return operator


def _three(kind: str, operator: Operator) -> list[str]:
    suffix = "timer" if kind == "tick" else "service"
    return [f"{kind}@{number}.{suffix}" for number in (1, 2, 3)]


def _runs(operator: Operator) -> list[int]:
    """How often each oneshot has run, wherever that was."""
    tmp = [operator.sandbox.path(machine, "/var/tmp") for machine in MACHINES]
    return [len(path.read_text()) for folder in tmp for path in sorted(folder.glob("runs-*"))]


def _pids(operator: Operator) -> list[str]:
    return [operator.life(machine, "fleet.service").pid for machine in MACHINES]


@pytest.mark.parametrize(
    "scripts",
    [
        pytest.param((KILL, KILL, KILL), id="killed on all"),
        pytest.param((RESTART, UPGRADE, RESTART), id="restarted on all"),
    ],
)
def test_restart_of_fleetd_touches_no_unit(busy: Operator, scripts: tuple[str, ...]) -> None:
    rows, runs, pids = busy.rows(), _runs(busy), _pids(busy)

    with busy.assert_untouched():
        for machine, script in zip(MACHINES, scripts, strict=True):
            argv = ["systemd-run", "--quiet", "sh", "-c", script]
            busy.sandbox.run(machine, argv, check=True)
        eventually(lambda: not set(_pids(busy)) & {*pids, "0"})
        busy.sandbox.wait_until_one_cluster()
        time.sleep(TTL_S + 1)  # the leases of before have ended, too

    assert _runs(busy) == runs == [1] * 6
    assert busy.rows() == rows


def test_another_engine_s_lead_touches_no_unit(busy: Operator) -> None:
    rows, leader = busy.rows(), busy.leader()

    with busy.assert_untouched():
        busy.sandbox.run(leader, ["systemctl", "restart", "fleet"], check=True)
        eventually(lambda: busy.leader() != leader)
        busy.sandbox.wait_until_one_cluster()

    assert busy.rows() == rows


def test_stopped_fleetd_leaves_its_units_running_while_others_take_them_over(
    busy: Operator,
) -> None:
    home = busy.home("web@1.service")
    others = [machine for machine in MACHINES if machine != home]
    busy.service("mobile@.service")
    busy.ok("start", *(f"mobile@{number}" for number in (1, 2, 3)))
    (mobile,) = [row.unit for row in busy.rows("mobile@*") if row.machine == home]
    before = busy.life(home, mobile)
    operator = busy.at(others[0])

    with busy.assert_untouched(home):
        busy.sandbox.run(home, ["systemctl", "stop", "fleet"], check=True)
        operator.wait_home(mobile, on=others, deadline_s=20)

    assert busy.life(home, mobile) == before
    busy.sandbox.run(home, ["systemctl", "start", "fleet"], check=True)
    eventually(lambda: mobile not in busy.files(home))
    assert operator.home(mobile) in others
