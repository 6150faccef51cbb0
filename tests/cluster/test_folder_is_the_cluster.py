"""A folder of unit files, and a repository, are what runs on booted machines."""

from pathlib import Path

import pytest

from tests.cluster.machines import eventually
from tests.cluster.steps import Operator

pytestmark = pytest.mark.systemd

WEB = "# by hand\n[Service]\nExecStart=/bin/sleep 100000\n"
OTHER = "[Service]\nExecStart=/bin/sleep 200000\n"
SETTINGS = """\
source = "shop"
[units."job@.service"]
instances = ["1", "2", "3"]
[units."later.service"]
target = "loaded"
"""


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_folder_is_applied_changed_pruned_and_exported(operator: Operator) -> None:
    units = operator.folder / "units"
    files = {"web.service": WEB, "job@.service": WEB, "later.service": WEB, "fleet.toml": SETTINGS}
    write(units, **files, **{"web.service.d__10-nice.conf": "[Service]\nNice=5\n"})

    assert operator.fleetctl("diff", "units").returncode == 1
    applied = operator.ok("apply", "units")
    assert applied.endswith("Applied from shop: 6 created.\n")
    home = operator.home("web.service")
    assert operator.show(home, "web.service", "Nice")["Nice"] == "5"
    assert {operator.home(f"job@{n}.service") for n in (1, 2, 3)} == {"fleet1", "fleet2", "fleet3"}
    assert operator.homes("later.service") == ()

    with operator.assert_untouched():
        assert operator.ok("diff", "units", through="fleet2").startswith("6 unchanged")
        assert operator.ok("apply", "units").endswith("6 unchanged.\n")

    others = [name for name in ("fleet1", "fleet2", "fleet3") if name != home]
    write(units, **{"web.service": OTHER})
    with operator.assert_untouched(*others):
        operator.ok("apply", "units")
    assert operator.home("web.service") == home

    (units / "later.service").unlink()
    write(units, **{"fleet.toml": SETTINGS.partition('[units."later')[0]})
    operator.write("mine.service", WEB)
    operator.ok("start", "mine.service")
    assert "1 destroyed" in operator.ok("apply", "--prune", "units")
    stored = operator.stored()
    assert ("later.service" in stored, "mine.service" in stored) == (False, True)

    operator.ok("export", "out")
    operator.ok("diff", "out")


def test_repository_is_followed_from_commit_to_commit(operator: Operator) -> None:
    leader = operator.leader()

    def git(script: str) -> None:
        who = "git -c user.name=Alice -c user.email=alice@example.com"
        operator.sandbox.run(leader, ["sh", "-ec", script.replace("git ", f"{who} ")], check=True)

    git(
        "rm -rf /root/shop; mkdir -p /root/shop/units; cd /root/shop; git init -q -b main\n"
        f"cat > units/web.service <<'END'\n{WEB}END\n"
        "git add -A; git commit -q -m begin"
    )
    followed = operator.ok("sync", "set", "/root/shop", "--path", "units", "--interval", "5")
    assert "1 created" in followed
    home = operator.wait_home("web.service")

    git("cd /root/shop; echo nonsense >> units/web.service; git commit -qam broken")
    eventually(lambda: "nonsense" in operator.fleetctl("sync", "status").stdout)
    assert operator.home("web.service") == home

    git("cd /root/shop; git revert --no-edit HEAD; echo Nice=5 >> units/web.service")
    git("cd /root/shop; git commit -qam nicer")
    eventually(lambda: operator.show(home, "web.service", "Nice")["Nice"] == "5")
    assert "alice@example.com" in operator.ok("events")

    (operator.folder / "web.service").write_text(WEB)
    operator.ok("start", "--replace", "web.service")
    drifted = operator.fleetctl("sync", "diff")
    assert (drifted.returncode, "\n+Nice=5\n" in drifted.stdout) == (1, True), drifted
    operator.ok("sync", "now")
    operator.ok("sync", "diff")
    operator.ok("sync", "stop")
