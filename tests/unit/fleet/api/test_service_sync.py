"""What the API says of the repository that is followed, and who may change that."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from fleet.api.access import Peer
from fleet.api.answers import Answer, error_answer
from fleet.api.call import Call
from fleet.api.service import ApiService
from fleet.api.syncing import SyncReport, decode_sync, encode_sync
from fleet.errors import FleetError, InvalidRequest
from fleet.keys import Keys
from fleet.names import UnitName
from fleet.registry import Registry, text_digest
from fleet.states import TargetState
from fleet.store.memory import MemoryStore
from fleet.store.port import Put
from fleet.sync.values import Commit, Drift, SyncSettings, SyncStatus
from fleet.sync.wanted import Wanted, encode_wanted
from fleet.unit import parse_unit

ALICE = Peer(user="alice", uid=1000, groups=frozenset({"fleet"}))
BOB = Peer(user="bob", uid=1001, groups=frozenset({"fleet-viewers"}))
SETTINGS = {"url": "https://git.example.com/shop.git", "path": "units"}


class Api:
    def __init__(self) -> None:
        self.registry = Registry(MemoryStore(), Keys())
        self.service = ApiService(self.registry, version="2.0.0", hostname="box")

    async def ask(
        self,
        method: str,
        body: Any = None,
        *,
        peer: Peer = ALICE,
        query: Mapping[str, list[str]] | None = None,
    ) -> Answer:
        try:
            route = self.service.admit(method, "/fleet/v1/sync", peer)
            call = Call(route=route, peer=peer, body=json.dumps(body).encode(), query=query or {})
            return await self.service.answer(call)
        except FleetError as error:
            return error_answer(error)

    async def report(self, **query: list[str]) -> SyncReport:
        return decode_sync(json.loads((await self.ask("GET", peer=BOB, query=query)).body))


async def test_what_is_followed_is_set_asked_for_and_stopped() -> None:
    api = Api()
    assert await api.report() == SyncReport()
    assert (await api.ask("PUT", SETTINGS)).status == 204
    report = await api.report()
    assert report.settings == SyncSettings(url=SETTINGS["url"], path="units")
    assert (await api.ask("POST")).status == 204
    assert (await api.ask("DELETE")).status == 204
    assert await api.report() == SyncReport()
    told = [(event.by, event.what) for event in (await api.registry.events(10)).events]
    assert told == [
        ("alice@box", "follows branch main of https://git.example.com/shop.git"),
        ("alice@box", "follows no repository any more"),
    ]


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
async def test_viewers_change_nothing_of_it(method: str) -> None:
    assert (await Api().ask(method, SETTINGS, peer=BOB)).status == 403


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_nothing_that_is_followed_is_not_found(method: str) -> None:
    assert (await Api().ask(method)).status == 404


@pytest.mark.parametrize(
    "body",
    [
        pytest.param([], id="no object"),
        pytest.param({}, id="no URL"),
        pytest.param({"url": "ext::sh"}, id="no repository"),
        pytest.param(SETTINGS | {"brnch": "x"}, id="an unknown member"),
        pytest.param(SETTINGS | {"interval_s": "soon"}, id="no number"),
        pytest.param(SETTINGS | {"path": "../x"}, id="a way out"),
    ],
)
async def test_settings_that_cannot_be_are_refused(body: object) -> None:
    api = Api()
    assert (await api.ask("PUT", body)).status == 400
    assert await api.report() == SyncReport()


async def test_values_in_the_store_that_are_malformed_are_as_if_not_there() -> None:
    api = Api()
    await api.ask("PUT", SETTINGS)
    root = api.registry.keys.sync
    bad = [Put(f"{root}{name}", b"{") for name in ("settings", "status", "wanted")]
    await api.registry.store.commit([], bad)
    assert await api.report() == SyncReport()
    assert (await api.ask("PUT", SETTINGS)).status == 204
    assert (await api.report()).settings is not None


async def test_texts_of_the_commit_are_told_of_what_has_drifted_where_they_are_asked_for() -> None:
    api = Api()
    await api.ask("PUT", SETTINGS)
    web, db = UnitName("web.service"), UnitName("db.service")
    file = parse_unit("[Service]\nExecStart=/bin/true\n")
    digest = text_digest(file.text)
    units = {web: (file.hash, digest, "launched"), db: ("h", "lost", "launched")}
    puts = [
        Put(api.registry.keys.sync_wanted, encode_wanted(Wanted(source="shop", units=units))),
        Put(api.registry.keys.file(digest), file.text.encode()),
    ]
    await api.registry.store.commit([], puts)
    absent = "it is not in the cluster"
    told = (
        Drift(unit=db, what=absent),
        Drift(unit=web, what=absent, text=file.text, target=TargetState.LAUNCHED),
    )
    assert (await api.report(text=["true"])).drift == told
    assert (await api.report()).drift == tuple(Drift(unit=u, what=absent) for u in (db, web))


def test_report_reads_back_as_it_was_written() -> None:
    commit = Commit(id="abc", author="A <a@b>", subject="s", at_s=1.0)
    report = SyncReport(
        settings=SyncSettings(url="/srv/x"),
        status=SyncStatus(applied=commit, result="1 created", tried="abc", request=7),
        drift=(
            Drift(unit=UnitName("a.service"), what="gone"),
            Drift(unit=UnitName("b.service"), what="left", text=""),
            Drift(unit=UnitName("c.service"), what="x", text="y", target=TargetState.LOADED),
        ),
    )
    assert decode_sync(json.loads(json.dumps(encode_sync(report)))) == report


@pytest.mark.parametrize(
    "document",
    [[], {"settings": {"url": 5}}, {"drift": [1]}, {"drift": [{"text": 1}]}, {"status": 5}],
    ids=repr,
)
def test_malformed_report_is_refused(document: object) -> None:
    with pytest.raises(InvalidRequest):
        decode_sync(document)
