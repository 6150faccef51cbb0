"""The etcds that the contract suites share."""

from collections.abc import Iterator

import pytest

from fleet.testing.etcd import DEBIAN_ETCD, EtcdCluster, packaged_etcd, start_etcd


@pytest.fixture(scope="session")
def etcd_3_4(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with start_etcd(tmp_path_factory.mktemp("etcd34"), binary=DEBIAN_ETCD) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def etcd_3_5(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with start_etcd(tmp_path_factory.mktemp("etcd35"), binary=packaged_etcd()) as cluster:
        yield cluster
