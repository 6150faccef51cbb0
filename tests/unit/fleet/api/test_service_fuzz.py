"""Requests at random: each is done, or refused in a sentence, and then nothing is written."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.api.access import Peer
from fleet.api.answers import Answer, error_answer
from fleet.api.call import Call
from fleet.api.service import ApiService
from fleet.errors import FleetError
from fleet.keys import Keys
from fleet.names import UnitName
from fleet.registry import Registry, UnitChange
from fleet.states import TargetState
from fleet.store.memory import MemoryStore
from fleet.testing.loop import VirtualLoop
from fleet.unit import parse_unit

pytestmark = pytest.mark.fuzz

ALICE = Peer(user="alice", uid=1000, groups=frozenset({"fleet"}))
GOOD = UnitChange(
    name=UnitName("good.service"),
    file=parse_unit("[Service]\nExecStart=/bin/true\n"),
    target=TargetState.LAUNCHED,
)

methods = st.sampled_from(["GET", "PUT", "PATCH", "DELETE", "POST", "HEAD", "OPTIONS", "", "get"])
_WORDS = [
    *("good.service", "a@.service", "a@1.service", "..", "../x.service", "launched", "loaded"),
    *("inactive", "[Service]\nExecStart=/bin/true\n", "[X-Fleet]\nGlobal=maybe\n", "Service"),
    *("add", "remove", f"/{'1' * 32}/metadata/disk", "ExecStart", "\ud800", "true", ""),
]
_MEMBERS = [
    *("name", "text", "options", "desiredState", "currentState", "machineID", "destroy"),
    *("section", "value", "op", "path", "OP", "Path", "unit", "units"),
]
words = st.one_of(st.text(max_size=8), st.sampled_from(_WORDS))
members = st.sampled_from(_MEMBERS)
documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), words),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(members, inner)),
    max_leaves=20,
)
bodies = st.one_of(documents.map(lambda document: json.dumps(document).encode()), st.binary())
paths = st.builds(
    lambda root, thing, item: f"{root}{thing}{item}",
    st.sampled_from(["/fleet/v1/", "/v1-alpha/", "/", "", "/fleet/v1//"]),
    st.sampled_from(["units", "state", "machines", "discovery", "hold", "events", "metrics", "x"]),
    st.one_of(st.just(""), words.map(lambda word: f"/{word}")),
)
queries = st.dictionaries(
    st.sampled_from(["nextPageToken", "limit", "whole", "unitName", "machineID", "unit"]),
    st.lists(words, max_size=3),
)
kinds = st.sampled_from([("application/json",), (), ("text/plain",), ("application/json",) * 2])


async def ask(service: ApiService, method: str, path: str, **call: Any) -> Answer:
    try:
        route = service.admit(method, path, ALICE)
        return await service.answer(Call(route=route, peer=ALICE, **call))
    except FleetError as error:
        return error_answer(error)


@given(methods, paths, queries, kinds, bodies)
def test_any_request_is_done_or_refused_in_a_sentence(
    method: str,
    path: str,
    query: dict[str, list[str]],
    content_types: tuple[str, ...],
    body: bytes,
) -> None:
    async def session() -> None:
        store = MemoryStore()
        registry = Registry(store, Keys())
        await registry.apply([GOOD], by="test")
        before = await store.read("/")
        service = ApiService(registry, version="2.0.0", hostname="box")
        answer = await ask(
            service, method, path, query=query, content_types=content_types, body=body
        )
        assert answer.status < 500
        if answer.status >= 400:
            assert await store.read("/") == before
            error = json.loads(answer.body)["error"]
            assert error["code"] == answer.status
            assert len(error["message"]) < 1500
        elif method == "GET":
            assert await store.read("/") == before
        # Whatever was asked, everything that can be listed can be listed.
        for listed in ("units", "state", "machines", "events"):
            found = await ask(service, "GET", f"/fleet/v1/{listed}")
            assert found.status == 200
            json.loads(found.body)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(session())
