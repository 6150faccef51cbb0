from collections.abc import Sequence

import pytest

from cli.sandbox.contents import (
    Blank,
    Gone,
    Item,
    KeyPair,
    Keys,
    Link,
    Text,
    Vendor,
    binds_for,
    escape_bind,
    etcd_argv,
    furnish,
    nspawn_argv,
    render_fleet_conf,
    render_hosts,
    render_known_hosts,
    render_ssh_config,
)
from cli.sandbox.layout import Place, Spec

MACHINE_ID = "0123456789abcdef0123456789abcdef"
VENDOR = Vendor(
    wants=frozenset({"dbus.socket", "systemd-journald.service", "getty.target", "man-db.timer"}),
    generators=frozenset({"systemd-sysv-generator"}),
    units={"fleet.service": "[Service]\n", "fleet.socket": "[Socket]\n"},
    sysusers="g fleet - -\n",
)
KEYS = Keys(
    user=KeyPair(private="USER", public="ssh-ed25519 AAAuser user\n"),
    hosts={
        name: KeyPair(private=f"HOST {name}", public=f"ssh-ed25519 AAA{name} comment\n")
        for name in ("fleet1", "fleet2", "fleet3")
    },
)


def _furnish(spec: Spec, *, programs: str = "/opt/fleet/bin") -> tuple[Item, ...]:
    return furnish(
        spec.node("fleet1"),
        spec=spec,
        machine_id=MACHINE_ID,
        keys=KEYS,
        vendor=VENDOR,
        programs=programs,
    )


def _text(items: Sequence[Item], path: str) -> str:
    return next(item.text for item in items if isinstance(item, Text) and item.path == path)


def _links(items: Sequence[Item]) -> dict[str, str]:
    return {item.path: item.target for item in items if isinstance(item, Link)}


def test_machine_is_itself() -> None:
    items = _furnish(Spec())

    assert _text(items, "etc/machine-id") == f"{MACHINE_ID}\n"
    assert _text(items, "etc/hostname") == "fleet1\n"


def test_machine_starts_nothing_that_the_host_has_enabled() -> None:
    items = _furnish(Spec())
    blank = items.index(Blank(path="etc/systemd"))

    assert all(item.path != "etc/systemd" for item in items[blank + 1 :])
    assert all(not item.path.startswith("etc/systemd/") for item in items[:blank])
    assert Gone(path="etc/.updated") in items


def test_machine_masks_what_it_has_no_use_for_and_keeps_dbus_and_the_journal() -> None:
    links = _links(_furnish(Spec()))

    assert links["etc/systemd/system/getty.target"] == "/dev/null"
    assert links["etc/systemd/system/man-db.timer"] == "/dev/null"
    assert links["etc/systemd/system/systemd-logind.service"] == "/dev/null"
    assert links["etc/systemd/system-generators/systemd-sysv-generator"] == "/dev/null"
    assert "etc/systemd/system/dbus.socket" not in links
    assert "etc/systemd/system/systemd-journald.service" not in links


def test_machine_runs_the_fleetd_of_this_environment() -> None:
    items = _furnish(Spec(), programs="/srv/venv/bin")
    drop_in = _text(items, "etc/systemd/system/fleet.service.d/sandbox.conf")

    assert drop_in == "[Service]\nExecStart=\nExecStart=/srv/venv/bin/fleetd\n"
    assert _links(items)["usr/local/bin/fleetctl"] == "/srv/venv/bin/fleetctl"


def test_machine_does_not_link_programs_to_themselves() -> None:
    assert "usr/local/bin/fleetctl" not in _links(_furnish(Spec(), programs="/usr/local/bin"))


@pytest.mark.parametrize(
    "fleetd", [pytest.param(True, id="wanted"), pytest.param(False, id="bare")]
)
def test_fleetd_is_enabled_if_it_is_wanted(fleetd: bool) -> None:
    links = _links(_furnish(Spec(fleetd=fleetd)))

    assert ("etc/systemd/system/multi-user.target.wants/fleet.service" in links) is fleetd
    assert ("etc/systemd/system/sockets.target.wants/fleet.socket" in links) is fleetd


def test_private_keys_are_for_root_alone() -> None:
    items = _furnish(Spec())
    private = [i for i in items if isinstance(i, Text) and i.text in ("USER", "HOST fleet1")]

    assert len(private) == 2
    assert all(item.mode == 0o600 for item in private)


def test_machine_has_only_its_own_host_key() -> None:
    assert not any(isinstance(i, Text) and "HOST fleet2" in i.text for i in _furnish(Spec()))


def test_hosts_names_every_node() -> None:
    assert render_hosts(Spec(machines=2)).splitlines() == [
        "127.0.0.1 localhost",
        "::1 localhost",
        "10.89.0.2 etcd1",
        "10.89.0.11 fleet1",
        "10.89.0.12 fleet2",
    ]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(
            Spec(machines=1, etcd=0),
            ['public_ip="10.89.0.11"', 'metadata="host=fleet1,zone=a"'],
            id="without etcd none is named",
        ),
        pytest.param(
            Spec(etcd=3),
            [
                'public_ip="10.89.0.11"',
                'etcd_servers="http://10.89.0.2:2379,http://10.89.0.3:2379,http://10.89.0.4:2379"',
                'metadata="host=fleet1,zone=a"',
            ],
            id="every member is named",
        ),
        pytest.param(
            Spec(settings={"agent_ttl": "3s", "metadata": "a=b"}),
            [
                'public_ip="10.89.0.11"',
                'etcd_servers="http://10.89.0.2:2379"',
                'metadata="a=b"',
                'agent_ttl="3s"',
            ],
            id="a setting asked for comes before our own",
        ),
    ],
)
def test_fleet_conf_joins_the_cluster(spec: Spec, expected: list[str]) -> None:
    assert render_fleet_conf(spec.node("fleet1"), spec).splitlines() == expected


def test_known_hosts_has_every_machine_by_name_and_address() -> None:
    assert render_known_hosts(Spec(machines=2), KEYS).splitlines() == [
        "fleet1,10.89.0.11 ssh-ed25519 AAAfleet1",
        "fleet2,10.89.0.12 ssh-ed25519 AAAfleet2",
    ]


def test_ssh_config_reaches_a_machine_through_the_hub() -> None:
    text = render_ssh_config(
        Spec(machines=1), Place(name="demo"), python="/usr/bin/python3", connect="/a b/connect.py"
    )

    assert text.startswith("Host fleet1 10.89.0.11\n    HostName 10.89.0.11\n")
    assert "    User root\n" in text
    assert "    IdentityFile /run/fleet-sandbox/demo/keys/user\n" in text
    assert (
        "    ProxyCommand nsenter --net=/run/fleet-sandbox/demo/net/hub "
        "/usr/bin/python3 -I -S '/a b/connect.py' %h %p\n" in text
    )


def test_etcd_member_knows_its_peers() -> None:
    spec = Spec(etcd=3)
    argv = etcd_argv("etcd", spec=spec, member=spec.node("etcd2"), place=Place(name="demo"))

    assert argv[:2] == ["etcd", "--name=etcd2"]
    assert "--listen-client-urls=http://10.89.0.3:2379" in argv
    assert (
        "--initial-cluster=etcd1=http://10.89.0.2:2380,"
        "etcd2=http://10.89.0.3:2380,etcd3=http://10.89.0.4:2380" in argv
    )
    assert not any("election-timeout" in word for word in argv)


def test_lone_etcd_does_not_wait_to_elect_itself() -> None:
    spec = Spec(etcd=1)
    argv = etcd_argv("etcd", spec=spec, member=spec.node("etcd1"), place=Place(name="demo"))

    assert "--election-timeout=200" in argv


def test_machine_boots_in_its_own_network_and_registers_nowhere() -> None:
    argv = nspawn_argv(
        node=Spec().node("fleet1"),
        place=Place(name="demo"),
        binds=["/srv/a:b"],
        capabilities=["CAP_NET_ADMIN"],
    )

    assert argv[0] == "systemd-nspawn"
    assert "--register=no" in argv
    assert "--keep-unit" in argv
    assert "--network-namespace-path=/run/fleet-sandbox/demo/net/fleet1" in argv
    assert argv[-1] == "--bind-ro=/srv/a\\:b"


def test_bind_paths_are_escaped() -> None:
    assert escape_bind("/a:b\\c") == "/a\\:b\\\\c"


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        pytest.param(["/w/.venv", "/usr", "/w"], ("/w",), id="a directory below another is shown"),
        pytest.param(["/usr", "/usr/local", "/"], (), id="the overlay shows the system's own"),
        pytest.param(["/w", "/w"], ("/w",), id="each once"),
        pytest.param(["/w", "/w2"], ("/w", "/w2"), id="a longer name is not below"),
        pytest.param(["/t/v", "/p/3.11", "/s"], ("/p/3.11", "/s", "/t/v"), id="apart"),
    ],
)
def test_binds_are_what_the_overlay_does_not_show(
    paths: list[str], expected: tuple[str, ...]
) -> None:
    assert binds_for(paths) == expected
