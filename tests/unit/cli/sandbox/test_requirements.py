import pytest

from cli.sandbox.requirements import complaint, missing


def test_nothing_is_missing_where_all_is_found() -> None:
    assert missing(etcd=True, which=lambda program: f"/bin/{program}") == {}


@pytest.mark.parametrize(
    ("etcd", "expected"),
    [
        pytest.param(True, {"etcd": "etcd-server"}, id="etcd is wanted"),
        pytest.param(False, {}, id="etcd is not wanted"),
    ],
)
def test_etcd_is_missed_only_where_it_is_wanted(etcd: bool, expected: dict[str, str]) -> None:
    assert missing(etcd=etcd, which=lambda p: None if p == "etcd" else p) == expected


@pytest.mark.parametrize(
    ("lacking", "sentence"),
    [
        pytest.param(
            {"etcd": "etcd-server"},
            "a sandbox needs etcd, which this host lacks: "
            "apt-get install --no-install-recommends etcd-server",
            id="one",
        ),
        pytest.param(
            {"systemd-nspawn": "systemd-container", "ip": "iproute2", "sshd": "openssh-server"},
            "a sandbox needs systemd-nspawn, ip and sshd, which this host lacks: "
            "apt-get install --no-install-recommends systemd-container iproute2 openssh-server",
            id="three",
        ),
    ],
)
def test_complaint_is_one_sentence_with_the_command(lacking: dict[str, str], sentence: str) -> None:
    assert complaint(lacking) == sentence
