"""Every kind of bad input: one clear sentence, exit status 1 or 2, and the cluster as it was."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cli.sandbox.cluster import Sandbox
from tests.cluster.machines import eventually
from tests.cluster.steps import STEADY, Operator

pytestmark = pytest.mark.systemd

SERVICE = f"[Service]\nExecStart=/bin/{STEADY}\n"
OPERATION = 1
USAGE = 2


@contextmanager
def _assert_unchanged(operator: Operator) -> Iterator[None]:
    """What the cluster is to do, and what it does, is the same to the byte."""
    parts = ("units", "files", "schedule", "refusals", "metadata", "states")
    before = operator.store(*parts)
    with operator.assert_untouched():
        yield
    assert operator.store(*parts) == before


@pytest.fixture(scope="module")
def running(module_cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    """A cluster with a unit that runs; nothing that the tests do may change it."""
    operator = Operator(sandbox=module_cluster, folder=tmp_path_factory.mktemp("units"))
    operator.service("good.service")
    operator.write("web@.service", SERVICE)
    operator.ok("start", "good")
    return operator


BAD_FILES = [
    pytest.param(
        f"{SERVICE}\nnonsense\n[Install]\n", "bad.service:4", "nonsense", id="a line without ="
    ),
    pytest.param("[Service\nExecStart=/bin/true\n", "bad.service:1", "", id="an open header"),
    pytest.param(
        f"{SERVICE}[X-Fleet]\nGlobal=perhaps\n", "bad.service:4", "Global=perhaps", id="a bad flag"
    ),
    pytest.param(
        f"{SERVICE}[X-Fleet]\nMachineMetadata=ssd\n",
        "bad.service:4",
        "key=value",
        id="metadata without a value",
    ),
    pytest.param(
        f"{SERVICE}[X-Fleet]\nConflicts=[a\n", "bad.service:4", "Conflicts=[a", id="a bad pattern"
    ),
    pytest.param(
        f"{SERVICE}[X-Fleet]\nGlobal=true\nMachineOf=good.service\n",
        "bad.service",
        "Global cannot be used with Peers",
        id="options that exclude each other",
    ),
    pytest.param(
        f"{SERVICE}#{'x' * (2 << 20)}\n", "bad.service", "2097192 bytes", id="two megabytes of unit"
    ),
    pytest.param("[Service]\nExecStart=\udcff\n", "bad.service", "UTF-8", id="not text"),
]


@pytest.mark.parametrize(("text", "where", "what"), BAD_FILES)
def test_bad_unit_file_is_refused_with_its_place(
    running: Operator, text: str, where: str, what: str
) -> None:
    (running.folder / "bad.service").write_bytes(text.encode(errors="surrogateescape"))
    (running.folder / "fine.service").write_text(SERVICE)

    with _assert_unchanged(running):
        done = running.fleetctl("start", "fine", "bad")

    assert (done.returncode, done.stdout) == (OPERATION, ""), done
    (sentence,) = done.stderr.splitlines()
    assert where in sentence
    assert what in sentence
    assert len(sentence) < 300


@pytest.mark.parametrize(
    ("words", "status", "what"),
    [
        pytest.param(["start", "../x.service"], OPERATION, "x.service", id="a path upwards"),
        pytest.param(["start", "x y.service"], OPERATION, "x y.service", id="a blank in a name"),
        pytest.param(["start", "@.service"], OPERATION, "@.service", id="a name of nothing"),
        pytest.param(["start", f"{'a' * 300}.service"], OPERATION, "255", id="a long name"),
        pytest.param(["start", "missing"], OPERATION, "missing.service", id="a unit that is not"),
        pytest.param(["cat", "missing"], OPERATION, "missing.service", id="nothing to show"),
        pytest.param(["journal", "missing"], OPERATION, "missing.service", id="no journal"),
        pytest.param(["start", "web@.service"], OPERATION, "web@.service", id="a template"),
        pytest.param(["list-units", "--fields=unit,color"], OPERATION, "color", id="a column"),
        pytest.param(["lunch", "good"], USAGE, "lunch", id="a verb that is not"),
        pytest.param(["start", "--fast", "good"], USAGE, "--fast", id="a flag that is not"),
        pytest.param(["start", "--block-attempts"], USAGE, "block", id="a flag without a value"),
        pytest.param(["journal", "--lines=few", "good"], USAGE, "few", id="a flag's value"),
    ],
)
def test_bad_command_is_refused_with_its_object(
    running: Operator, words: list[str], status: int, what: str
) -> None:
    with _assert_unchanged(running):
        done = running.fleetctl(*words)

    assert (done.returncode, done.stdout) == (status, ""), done
    sentence, *usage = done.stderr.splitlines()
    assert what in sentence
    assert len(usage) == (1 if status == USAGE else 0), done.stderr


def test_unknown_option_is_a_warning_that_names_the_nearest(running: Operator) -> None:
    running.service("typo.service", fleet="MachineMetaData=zone=b\nPeers=x")

    done = running.fleetctl("start", "typo")

    assert done.returncode == 0
    assert "MachineMetaData" in done.stderr
    assert "MachineMetadata" in done.stderr
    assert "Peers" in done.stderr
    assert running.home("typo.service")
    running.ok("destroy", "typo")


def test_wrong_host_key_is_refused_before_anything_is_sent(running: Operator) -> None:
    other = running.folder / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    key = other.with_suffix(".pub").read_text().split()[:2]
    hosts = running.folder / "known_hosts"
    hosts.write_text(recorded := f"10.89.0.12,fleet2 {' '.join(key)}\n")
    config = running.folder / "ssh_config"
    sandbox = running.sandbox
    config.write_text(sandbox.ssh_config.read_text().replace(str(sandbox.known_hosts), str(hosts)))
    flags = (f"--known-hosts-file={hosts}", f"--ssh-config={config}")

    with _assert_unchanged(running):
        done = running.fleetctl(*flags, "destroy", "good", tunnel="fleet2")

    assert (done.returncode, done.stdout) == (OPERATION, "")
    assert "fleet2 IS NOT THE MACHINE IT WAS" in done.stderr
    assert f"{hosts}:1" in done.stderr
    assert done.stderr.endswith("\nhost key mismatch for fleet2\n")
    assert hosts.read_text() == recorded


REQUESTS = [
    pytest.param("PUT", "/units/a.service", "{", "400", id="half a document"),
    pytest.param("PUT", "/units/a.service", "[]", "400", id="another document"),
    pytest.param("PUT", "/units/..%2fa.service", '{"desiredState":"launched"}', "4", id="a path"),
    pytest.param(
        "PUT", "/units/good.service", '{"desiredState":"eager"}', "400", id="no such state"
    ),
    pytest.param("PUT", "/units/a.service", '{"desiredState":"launched"}', "4", id="no contents"),
    pytest.param("DELETE", "/units/missing.service", "", "404", id="nothing to delete"),
    pytest.param("POST", "/units", "{}", "405", id="no such method"),
    pytest.param("GET", "/nothing", "", "404", id="no such thing"),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), REQUESTS)
def test_bad_request_is_refused_by_the_api_itself(
    running: Operator, method: str, path: str, body: str, status: str
) -> None:
    url = f"http://fleet/fleet/v1{path}"
    flags = ["--silent", "--path-as-is", "--max-time", "10", "--unix-socket", "/run/fleet.sock"]
    sent = ["--header", "Content-Type: application/json", "--data", body] if body else []
    argv = ["curl", *flags, *sent, "--request", method, "--write-out", "\n%{http_code}", url]

    with _assert_unchanged(running):
        *said, code = running.sandbox.run("fleet2", argv).stdout.splitlines()

    assert code.startswith(status), said
    assert '"message"' in "".join(said)


def test_malformed_values_in_the_store_harm_nobody_else(running: Operator) -> None:
    good = running.lives()
    etcd = f"http://{running.sandbox.spec.node('etcd1').address}:2379"
    fleet2 = running.machine_id("fleet2")
    rubbish = {
        "units/rubbish.service": "{",
        "units/..": "{}",
        "files/0000": "not a unit",
        "machines/" + "f" * 32: "[]",
        f"schedule/{fleet2}/rubbish.service": '{"target": 7}',
        f"states/{fleet2}/rubbish.service": "\\\\",
        "refusals/rubbish.service": "null",
        "metadata/x": "",
        "events/zzz": "]",
        "nothing/at/all": "?",
    }
    script = "".join(
        f"ETCDCTL_API=3 etcdctl --endpoints={etcd} put '/fleet/{key}' '{value}'\n"
        for key, value in rubbish.items()
    )
    try:
        running.sandbox.run("fleet2", ["sh", "-ec", script], check=True)
        for machine in running.powered():
            running.sandbox.run(machine, ["systemctl", "restart", "fleet"], check=True)
        running.sandbox.wait_until_one_cluster()

        running.service("later@.service", fleet="Conflicts=%p@*.service")
        running.ok("start", "later@1", "later@2", "later@3")

        assert {key: running.life(*key) for key in good} == good
        assert {row.unit for row in running.rows()} >= {"good.service", "later@1.service"}
        running.ok("destroy", "later@*")
    finally:
        drop = script.replace(" put ", " del ")
        running.sandbox.run("fleet2", ["sh", "-c", drop])
    eventually(lambda: "rubbish" not in running.stored())
