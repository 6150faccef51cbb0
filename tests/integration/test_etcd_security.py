"""The etcd store with users and passwords, and over TLS, against real servers."""

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from fleet.errors import Unavailable
from fleet.store.connect import EtcdSettings
from fleet.store.etcd import EtcdStore
from fleet.store.port import Changes, Put
from fleet.testing.etcd import DEBIAN_ETCD, EtcdCluster, EtcdTls, packaged_etcd, start_etcd

pytestmark = [pytest.mark.etcd, pytest.mark.timeout(120)]

TOKEN_S = 1
USER = {"username": "fleet", "password": "correct horse"}


@pytest.fixture(params=["3.4", "3.5"])
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EtcdCluster]:
    """An etcd whose user `fleet` may use /fleet/ and whose tokens expire when idle."""
    options = [f"--auth-token-ttl={TOKEN_S}"]
    binary = DEBIAN_ETCD if request.param == "3.4" else packaged_etcd()
    with start_etcd(tmp_path, binary=binary, members=3, options=options) as cluster:
        for name, password in (("root", "root"), ("fleet", "correct horse")):
            cluster.call("/v3/auth/user/add", {"name": name, "password": password})
            cluster.call("/v3/auth/role/add", {"name": name})
            cluster.call("/v3/auth/user/grant", {"user": name, "role": name})
        permission = {"permType": "READWRITE", "key": "L2ZsZWV0Lw==", "range_end": "L2ZsZWV0MA=="}
        cluster.call("/v3/auth/role/grant", {"name": "fleet", "perm": permission})
        cluster.call("/v3/auth/enable", {})
        yield cluster


@asynccontextmanager
async def connected(urls: Any, **more: Any) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(EtcdSettings(servers=urls, **more), probe_s=0.5)
    try:
        yield store
    finally:
        await store.close()


async def next_key(watch: Any) -> str:
    async with asyncio.timeout(15):
        async for changes in watch:
            if changes.events:
                return cast(Changes, changes).events[0].key
    raise AssertionError("the watch ended")


def root_token(cluster: EtcdCluster) -> str:
    login = {"name": "root", "password": "root"}
    return str(cluster.call("/v3/auth/authenticate", login)["token"])


async def test_user_with_rights_to_the_prefix_alone_can_do_everything(guarded: EtcdCluster) -> None:
    async with connected(guarded.urls, **USER) as store:
        assert dict((await store.read("/fleet/")).entries) == {}
        lease = await store.grant(30)
        revision = (await store.commit([], [Put("/fleet/a", b"1", lease)])).revision
        watch = store.watch("/fleet/", revision - 1)
        assert await next_key(watch) == "/fleet/a"
        await store.renew(lease)
        await store.revoke(lease)
        assert await next_key(watch) == "/fleet/a"
        assert dict((await store.read("/fleet/")).entries) == {}
        with pytest.raises(Unavailable, match="may not use the keys of fleet"):
            await store.read("/other/")


async def test_token_that_has_expired_is_renewed_unseen(guarded: EtcdCluster) -> None:
    async with connected(guarded.urls, **USER) as store:
        revision = (await store.commit([], [Put("/fleet/a", b"1")])).revision
        await asyncio.sleep(TOKEN_S * 2 + 1)
        assert (await store.commit([], [Put("/fleet/b", b"2")])).succeeded
        await asyncio.sleep(TOKEN_S * 2 + 1)
        assert await next_key(store.watch("/fleet/", revision)) == "/fleet/b"
        guarded.kill(0)
        await asyncio.sleep(TOKEN_S * 2 + 1)
        assert len((await store.read("/fleet/")).entries) == 2


async def test_change_of_users_is_survived_by_what_is_logged_in(guarded: EtcdCluster) -> None:
    async with connected(guarded.urls, **USER) as store:
        revision = (await store.commit([], [Put("/fleet/a", b"1")])).revision
        watch = store.watch("/fleet/", revision)
        waiting = asyncio.ensure_future(next_key(watch))
        await asyncio.sleep(1)
        token = root_token(guarded)
        user = {"name": "other", "password": "x"}
        await asyncio.to_thread(guarded.call, "/v3/auth/user/add", user, token=token)
        assert (await store.commit([], [Put("/fleet/b", b"2")])).succeeded
        assert await waiting == "/fleet/b"


@pytest.mark.parametrize(
    ("login", "words"),
    [
        pytest.param({}, "it asks for a user and a password", id="nobody"),
        pytest.param(
            {"username": "fleet", "password": "wrong"},
            "it refuses this user or password",
            id="wrong password",
        ),
        pytest.param(
            {"username": "nobody", "password": "x"},
            "it refuses this user or password",
            id="unknown user",
        ),
    ],
)
async def test_login_that_fails_says_so_everywhere(
    guarded: EtcdCluster, login: Any, words: str
) -> None:
    async with connected(guarded.urls, **login) as store:
        for act in (
            store.read("/fleet/"),
            store.commit([], [Put("/fleet/a", b"")]),
            anext(store.watch("/fleet/", 1)),
        ):
            with pytest.raises(Unavailable, match=words) as caught:
                await cast(Any, act)
            assert "wrong" not in str(caught.value)


async def test_user_is_no_trouble_to_a_cluster_without_users(tmp_path: Path) -> None:
    with start_etcd(tmp_path, binary=DEBIAN_ETCD) as cluster:
        async with connected(cluster.urls, **USER) as store:
            revision = (await store.commit([], [Put("/fleet/a", b"1")])).revision
            assert await next_key(store.watch("/fleet/", revision - 1)) == "/fleet/a"


# TLS

# etcd closes at once after its alert, which then may or may not arrive.
REFUSED = r"TLS: it asks for another client certificate|the connection was lost"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities, `ca` and `other`; a server and a client of the first."""
    place = tmp_path_factory.mktemp("tls")
    for name in ("ca", "other"):
        _openssl(
            place,
            f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name}"
            f" -keyout {name}.key -out {name}.pem",
        )
    for name, subject, where, authority in (
        ("server", "/CN=server", "IP:127.0.0.1", "ca"),
        ("client", "/CN=client", "DNS:client", "ca"),
        ("stray", "/CN=stray", "DNS:client", "ca"),
        ("nameless", "/O=fleet", "DNS:client", "ca"),
        ("stranger", "/CN=stranger", "DNS:stranger", "other"),
        ("misnamed", "/CN=misnamed", "IP:10.9.9.9", "ca"),
    ):
        (place / f"{name}.cnf").write_text(
            f"subjectAltName={where}\nextendedKeyUsage=serverAuth,clientAuth\n"
        )
        _openssl(
            place,
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
            f" -subj {subject} -keyout {name}.key -out {name}.csr",
        )
        _openssl(
            place,
            f"x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial"
            f" -days 2 -extfile {name}.cnf -out {name}.pem",
        )
    return place


def _openssl(place: Path, words: str) -> None:
    environment = {**os.environ, "OPENSSL_CONF": "/etc/ssl/openssl.cnf"}
    command = ["openssl", *words.split()]
    subprocess.run(command, cwd=place, check=True, capture_output=True, env=environment)


@pytest.fixture(scope="module")
def secured(
    certificates: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The URLs of two etcds that ask for certificates: one well named, one misnamed."""
    urls = {}
    tls = {
        name: EtcdTls(
            certfile=certificates / f"{name}.pem",
            keyfile=certificates / f"{name}.key",
            cafile=certificates / "ca.pem",
        )
        for name in ("server", "misnamed")
    }
    directory = tmp_path_factory.mktemp("etcd")
    with (
        start_etcd(directory / "1", binary=DEBIAN_ETCD, tls=tls["server"]) as good,
        start_etcd(directory / "2", binary=DEBIAN_ETCD, tls=tls["misnamed"]) as misnamed,
    ):
        urls = {"server": good.urls[0], "misnamed": misnamed.urls[0]}
        yield urls


def shown(certificates: Path, name: str, authority: str) -> dict[str, str]:
    return {
        "certfile": str(certificates / f"{name}.pem"),
        "keyfile": str(certificates / f"{name}.key"),
        "cafile": str(certificates / f"{authority}.pem"),
    }


async def test_store_over_tls_with_client_certificates(
    certificates: Path, secured: dict[str, str]
) -> None:
    settings = shown(certificates, "client", "ca")
    async with connected([secured["server"]], **settings) as store:
        revision = (await store.commit([], [Put("/fleet/a", b"1")])).revision
        assert await next_key(store.watch("/fleet/", revision - 1)) == "/fleet/a"
        lease = await store.grant(10)
        await store.renew(lease)


@pytest.mark.parametrize(
    ("server", "name", "authority", "words"),
    [
        pytest.param("server", "client", "other", "its certificate is not trusted", id="other CA"),
        pytest.param("server", "", "other", "its certificate is not trusted", id="CA alone"),
        pytest.param("server", "client", "", "its certificate is not trusted", id="system's CAs"),
        pytest.param("misnamed", "client", "ca", "its certificate is not trusted", id="misnamed"),
        pytest.param(
            "server",
            "stranger",
            "ca",
            REFUSED,
            id="a client of another CA",
        ),
        pytest.param(
            "server",
            "",
            "ca",
            REFUSED,
            id="no client certificate",
        ),
    ],
)
async def test_certificates_are_verified_whatever_else_is_given(
    certificates: Path,
    secured: dict[str, str],
    server: str,
    name: str,
    authority: str,
    words: str,
) -> None:
    settings = shown(certificates, name, authority)
    if not name:
        del settings["certfile"], settings["keyfile"]
    if not authority:
        del settings["cafile"]
    async with connected([secured[server]], **settings) as store:
        for act in (store.read("/fleet/"), anext(store.watch("/fleet/", 1))):
            with pytest.raises(Unavailable, match=words):
                await cast(Any, act)


async def test_plain_http_to_a_tls_server_is_a_clear_error(secured: dict[str, str]) -> None:
    url = secured["server"].replace("https", "http")
    async with connected([url]) as store:
        with pytest.raises(Unavailable, match=url):
            await store.read("/fleet/")


# The recipe of docs/security.md

RECIPE = re.compile(r"<!-- a test runs this -->\n```sh\n(.*?)```", re.DOTALL)
PAGE = Path(__file__).parents[2] / "docs" / "security.md"


@pytest.fixture(params=["3.4", "3.5"])
def hardened(
    request: pytest.FixtureRequest, certificates: Path, tmp_path: Path
) -> Iterator[EtcdCluster]:
    """An etcd with TLS, client certificates, and users as the page makes them."""
    files = {"cert": "client.pem", "key": "client.key", "cacert": "ca.pem"}
    (recipe,) = RECIPE.findall(PAGE.read_text())
    tls = EtcdTls(
        certfile=certificates / "server.pem",
        keyfile=certificates / "server.key",
        cafile=certificates / "ca.pem",
    )
    binary = DEBIAN_ETCD if request.param == "3.4" else packaged_etcd()
    with start_etcd(tmp_path, binary=binary, tls=tls) as cluster:
        environment = {f"ETCDCTL_{key.upper()}": str(certificates / files[key]) for key in files}
        environment |= {"ETCDCTL_ENDPOINTS": cluster.urls[0], "PATH": os.environ["PATH"]}
        environment |= {"ROOT_PASSWORD": "r", "FLEET_PASSWORD": USER["password"]}
        subprocess.run(["sh", "-ec", recipe], env=environment, check=True, capture_output=True)
        yield cluster


async def test_recipe_of_the_page_gives_fleet_its_keys_and_no_others(
    hardened: EtcdCluster, certificates: Path
) -> None:
    settings = shown(certificates, "nameless", "ca")
    async with connected(hardened.urls, **settings, **USER) as store:
        lease = await store.grant(30)
        revision = (await store.commit([], [Put("/fleet/a", b"1", lease)])).revision
        assert await next_key(store.watch("/fleet/", revision - 1)) == "/fleet/a"
        await store.renew(lease)
        for act in (store.read("/other/"), store.commit([], [Put("/other/a", b"1")])):
            with pytest.raises(Unavailable, match="may not use the keys of fleet"):
                await act
    async with connected(hardened.urls, **settings) as store:
        with pytest.raises(Unavailable, match="may not use the keys of fleet"):
            await store.read("/fleet/")
    del settings["certfile"], settings["keyfile"]
    async with connected(hardened.urls, **settings, **USER) as store:
        with pytest.raises(Unavailable, match=REFUSED):
            await store.read("/fleet/")


async def test_user_may_be_the_common_name_of_the_certificate(
    hardened: EtcdCluster, certificates: Path
) -> None:
    """`client` is a user of etcd, and `stray` is none; who has a password is who that says."""
    for name, login, may in (
        ("client", {}, True),
        ("stray", {}, False),
        ("stray", USER, True),
        ("client", USER, True),
    ):
        settings = shown(certificates, name, "ca")
        async with connected(hardened.urls, **settings, **login) as store:
            if may:
                revision = (await store.commit([], [Put("/fleet/a", b"1")])).revision
                assert await next_key(store.watch("/fleet/", revision - 1)) == "/fleet/a"
            else:
                with pytest.raises(
                    Unavailable, match=r"this user .* may not use the keys of fleet"
                ):
                    await store.read("/fleet/")


@pytest.mark.parametrize("kind", ["READ", "WRITE"])
async def test_role_that_is_too_small_is_told_of(guarded: EtcdCluster, kind: str) -> None:
    token = root_token(guarded)
    key = {"key": "L2ZsZWV0Lw==", "range_end": "L2ZsZWV0MA=="}
    for path, document in (
        ("role/revoke", {"role": "fleet", **key}),
        ("role/grant", {"name": "fleet", "perm": {"permType": kind, **key}}),
    ):
        await asyncio.to_thread(guarded.call, f"/v3/auth/{path}", document, token=token)
    async with connected(guarded.urls, **USER) as store:
        refused = (
            store.commit([], [Put("/fleet/a", b"1")]) if kind == "READ" else store.read("/fleet/")
        )
        with pytest.raises(Unavailable, match="may not use the keys of fleet"):
            await refused
