"""The endpoints, on a store in memory: fleet 1.0's status matrix, and what is ours beyond it."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from fleet.api.access import Peer
from fleet.api.answers import Answer, error_answer
from fleet.api.call import Call
from fleet.api.metrics import Kind, Metric, Sample
from fleet.api.service import ApiService
from fleet.cluster import Assignment, Cluster, UnitRecord
from fleet.errors import FleetError, Unavailable
from fleet.foresight import Foreseen, ForeseenUnit
from fleet.hold import Hold, encode_hold
from fleet.keys import Keys
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.registry import Registry
from fleet.states import TargetState, UnitState
from fleet.store.memory import MemoryStore
from fleet.store.port import Entry, Put

ALICE = Peer(user="alice", uid=1000, groups=frozenset({"fleet"}))
BOB = Peer(user="bob", uid=1001, groups=frozenset({"fleet-viewers"}))
ONE, TWO = MachineId("1" * 32), MachineId("2" * 32)
TEXT = "# mine\n[Service]\nExecStart=/bin/true\n"
OPTIONS = [{"section": "Service", "name": "ExecStart", "value": "/bin/true"}]
OTHER = [{"section": "Service", "name": "ExecStart", "value": "/bin/false"}]
GLOBAL = [*OPTIONS, {"section": "X-Fleet", "name": "Global", "value": "true"}]
JSON = ("application/json",)


class Api:
    """A service over a store of its own, asked as over HTTP."""

    def __init__(self, **settings: Any) -> None:
        self.store = MemoryStore()
        self.registry = Registry(self.store, Keys())
        self.service = ApiService(self.registry, version="2.0.0", hostname="box", **settings)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, list[str]] | None = None,
        content_types: tuple[str, ...] = JSON,
        peer: Peer = ALICE,
    ) -> Answer:
        prefix = "" if path.startswith("/metrics") else "/fleet/v1"
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            route = self.service.admit(method, prefix + path, peer)
            return await self.service.answer(
                Call(
                    route=route,
                    peer=peer,
                    query=query or {},
                    content_types=content_types,
                    body=raw,
                )
            )
        except FleetError as error:
            return error_answer(error)

    async def put(self, name: str, **members: Any) -> Answer:
        return await self.ask("PUT", f"/units/{name}", {"name": name, **members})

    async def contents(self) -> dict[str, Entry]:
        """What the store holds, without the history of events."""
        entries = (await self.store.read("/fleet/")).entries
        return {key: entry for key, entry in entries.items() if "/events/" not in key}

    async def write(self, *puts: Put) -> None:
        await self.store.commit([], puts)


def document(answer: Answer) -> Any:
    return json.loads(answer.body) if answer.body else None


def message(answer: Answer) -> str:
    error = document(answer)["error"]
    assert error["code"] == answer.status
    assert answer.content_type == "application/json"
    return str(error["message"])


async def test_unit_is_created_read_changed_and_destroyed() -> None:
    api = Api()
    created = await api.put("a.service", options=OPTIONS)
    assert (created.status, created.body) == (201, b"")
    assert document(await api.ask("GET", "/units/a.service")) == {
        "name": "a.service",
        "options": OPTIONS,
        "text": "[Service]\nExecStart=/bin/true\n",
        "desiredState": "inactive",
        "currentState": "inactive",
    }
    changed = await api.put("a.service", desiredState="launched")
    assert (changed.status, changed.body) == (204, b"")
    assert document(await api.ask("GET", "/units/a.service"))["desiredState"] == "launched"
    gone = await api.ask("DELETE", "/units/a.service")
    assert (gone.status, gone.body) == (204, b"")
    missing = await api.ask("GET", "/units/a.service")
    assert (missing.status, message(missing)) == (404, "unit does not exist")


async def test_authors_text_is_given_back_as_it_was() -> None:
    api = Api()
    assert (await api.put("a.service", text=TEXT)).status == 201
    unit = document(await api.ask("GET", "/units/a.service"))
    assert (unit["text"], unit["options"]) == (TEXT, OPTIONS)
    listed = document(await api.ask("GET", "/units"))["units"]
    assert listed == [{key: value for key, value in unit.items() if key != "text"}]
    assert document(await api.ask("GET", "/units", query={"text": ["true"]}))["units"] == [unit]
    assert (await api.ask("PUT", "/units/b.service", {**unit, "name": "b.service"})).status == 201


async def test_text_with_other_comments_is_stored_and_changes_nothing_else() -> None:
    api = Api()
    await api.put("a.service", text=TEXT, desiredState="launched")
    assert (await api.put("a.service", text=f"# more\n{TEXT}")).status == 204
    unit = document(await api.ask("GET", "/units/a.service"))
    assert (unit["text"], unit["desiredState"]) == (f"# more\n{TEXT}", "launched")
    again = await api.put("a.service", text=f"# more\n{TEXT}")
    assert (again.status, message(again)) == (
        409,
        "must provide DesiredState to update existing unit",
    )


@pytest.mark.parametrize(
    ("name", "members", "status", "text"),
    [
        pytest.param("new.service", {"options": OPTIONS}, 201, None, id="a new unit"),
        pytest.param("new.service", {"options": []}, 409, "options field empty", id="no options"),
        pytest.param(
            "new.service",
            {"desiredState": "launched"},
            409,
            "unit does not exist and options field empty",
            id="a state for a unit that is not there",
        ),
        pytest.param("old.service", {"desiredState": "loaded"}, 204, None, id="another state"),
        pytest.param("old.service", {"desiredState": "inactive"}, 204, None, id="the same state"),
        pytest.param(
            "old.service",
            {},
            409,
            "must provide DesiredState to update existing unit",
            id="nothing for a unit that is there",
        ),
        pytest.param(
            "old.service",
            {"options": OPTIONS},
            409,
            "must provide DesiredState to update existing unit",
            id="the same options without a state",
        ),
        pytest.param(
            "old.service",
            {"options": OPTIONS, "desiredState": "loaded"},
            204,
            None,
            id="the same options with a state",
        ),
        pytest.param("old.service", {"options": OTHER}, 201, None, id="other options"),
        pytest.param(
            "old.service", {"desiredState": "bogus"}, 400, "invalid target state", id="no state"
        ),
        pytest.param(
            "new.service",
            {"options": OPTIONS, "desiredState": "bogus"},
            400,
            "invalid target state",
            id="no state for a new unit",
        ),
        pytest.param("old@.service", {"desiredState": "loaded"}, 400, "template", id="a template"),
        pytest.param("old@.service", {"desiredState": "inactive"}, 204, None, id="at rest"),
        pytest.param(
            "new@.service",
            {"options": OPTIONS, "desiredState": "launched"},
            400,
            "template",
            id="a new template",
        ),
        pytest.param("new@.service", {"options": OPTIONS}, 201, None, id="a new one at rest"),
        pytest.param("new.foo", {"options": OPTIONS}, 400, "invalid unit type", id="a bad name"),
        pytest.param(
            "new.service",
            {"options": [*GLOBAL, {"section": "X-Fleet", "name": "MachineID", "value": "x"}]},
            400,
            "MachineID cannot be used with Global",
            id="a contradiction",
        ),
        pytest.param(
            "new.service",
            {"name": "old.service", "options": OPTIONS},
            400,
            'name in URL "new.service" differs from unit name in request body "old.service"',
            id="two names",
        ),
        pytest.param(
            "new.service", {"text": "x" * 600_000}, 400, "new.service: the unit", id="too large"
        ),
    ],
)
async def test_put_answers_by_what_is_there(
    name: str, members: dict[str, Any], status: int, text: str | None
) -> None:
    api = Api()
    for old in ("old.service", "old@.service"):
        assert (await api.put(old, options=OPTIONS)).status == 201
    before = await api.contents()
    answer = await api.ask("PUT", f"/units/{name}", {"name": name, **members})
    assert answer.status == status
    if text is not None:
        assert text in message(answer)
        assert await api.contents() == before


async def test_put_takes_the_name_from_the_url() -> None:
    api = Api()
    assert (await api.ask("PUT", "/units/a.service", {"options": OPTIONS})).status == 201


async def test_overwriting_a_unit_puts_it_to_rest_unless_told_otherwise() -> None:
    api = Api()
    await api.put("a.service", options=OPTIONS, desiredState="launched")
    await api.put("a.service", options=OTHER)
    assert document(await api.ask("GET", "/units/a.service"))["desiredState"] == "inactive"
    await api.put("a.service", options=OPTIONS, desiredState="loaded")
    assert document(await api.ask("GET", "/units/a.service"))["desiredState"] == "loaded"


@pytest.mark.parametrize(
    ("content_types", "text"),
    [
        pytest.param((), "expected 1 Content-Type, got 0", id="none"),
        pytest.param(JSON * 2, "expected 1 Content-Type, got 2", id="two"),
        pytest.param(
            ("text/plain",), "only acceptable Content-Type is application/json", id="another"
        ),
        pytest.param(
            ("application/jsonp",), "only acceptable Content-Type is application/json", id="longer"
        ),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("PUT", "/units/a.service"), ("PATCH", "/units")])
async def test_content_that_is_not_json_is_refused(
    content_types: tuple[str, ...], text: str, method: str, path: str
) -> None:
    answer = await Api().ask(method, path, {}, content_types=content_types)
    assert (answer.status, message(answer)) == (415, text)


async def test_content_type_may_have_parameters() -> None:
    kinds = ("Application/JSON; charset=utf-8",)
    body = {"options": OPTIONS}
    assert (await Api().ask("PUT", "/units/a.service", body, content_types=kinds)).status == 201


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        (method, path, body)
        for method, path in (
            ("PUT", "/units/a.service"),
            ("PATCH", "/units"),
            ("PATCH", "/machines"),
        )
        for body in (
            b"",
            b"{",
            b"null",
            b"5",
            b'"x"',
            b"\xff",
            b"[[]]",
            b"[null]",
            b"[" * 100_000,
            b'{"name":1}',
            b'[{"name":1}]',
            b'{"name":"a.service","options":[1]}',
            b'[{"name":"a.service","options":{"a":"b"}}]',
            b'{"name":"a.service","text":"\\ud800"}',
            b'[{"name":"a.service","text":"[S]\\nA=\\ud800"}]',
            b'[{"op":"add"}]',
            b'[{"name":"ok.service","text":"[S]\\nA=b\\n"},{"name":"a.service","text":7}]',
        )
    ],
)
async def test_malformed_body_is_refused_and_changes_nothing(
    method: str, path: str, body: bytes
) -> None:
    api = Api()
    answer = await api.ask(method, path, body)
    assert answer.status == 400
    assert message(answer)
    assert await api.contents() == {}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("DELETE", "/units/none.service", id="destroy"),
        pytest.param("DELETE", "/units/\udcff.service", id="destroy what cannot be"),
        pytest.param("GET", "/units/\udcff.service", id="ask for what cannot be"),
        pytest.param("GET", "/units/none", id="ask for what is no name"),
    ],
)
async def test_unit_that_is_not_there_is_not_found(method: str, path: str) -> None:
    answer = await Api().ask(method, path)
    assert (answer.status, message(answer)) == (404, "unit does not exist")


async def a_cluster(**settings: Any) -> Api:
    """Three units, one of them global, on two machines."""
    api = Api(**settings)
    await api.put("a.service", options=OPTIONS, desiredState="launched")
    await api.put("b.service", options=OPTIONS, desiredState="loaded")
    await api.put("g.service", options=GLOBAL, desiredState="launched")
    registry = api.registry
    lease = await api.store.grant(60)
    for machine in (TWO, ONE):
        value = Machine(id=machine, address=f"10.0.0.{machine[0]}", metadata={"a": machine[0]})
        assert await registry.register(value, lease, over=0)
    for unit, machine, leaving in (
        ("a.service", ONE, True),
        ("a.service", TWO, False),
        ("g.service", ONE, False),
        ("g.service", TWO, False),
    ):
        row = Assignment(
            unit=UnitName(unit),
            machine=machine,
            hash="h",
            file="f",
            target=TargetState.LAUNCHED,
            leaving=leaving,
        )
        state = UnitState(
            unit=row.unit,
            machine=machine,
            hash="h",
            current=TargetState.LAUNCHED,
            load="loaded",
            active="active",
            sub="running",
        )
        await api.write(registry.assignment_put(row))
        await registry.publish_states(machine, {row.unit: state}, lease)
    return api


async def test_units_are_listed_with_where_they_are() -> None:
    units = document(await (await a_cluster()).ask("GET", "/units"))["units"]
    told = [
        (u["name"], u["desiredState"], u.get("currentState"), u.get("machineID")) for u in units
    ]
    assert told == [
        ("a.service", "launched", "launched", TWO),
        ("b.service", "loaded", "inactive", None),
        ("g.service", "launched", "inactive", None),
    ]


async def test_global_unit_asked_for_alone_has_no_current_state() -> None:
    unit = document(await (await a_cluster()).ask("GET", "/units/g.service"))
    assert "currentState" not in unit
    assert "machineID" not in unit


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param(
            {},
            [("a", ONE), ("a", TWO), ("g", ONE), ("g", TWO)],
            id="all, by unit and then by machine",
        ),
        pytest.param({"unitName": ["a.service"]}, [("a", ONE), ("a", TWO)], id="of a unit"),
        pytest.param({"machineID": [ONE]}, [("a", ONE), ("g", ONE)], id="on a machine"),
        pytest.param({"machineID": [ONE], "unitName": ["g.service"]}, [("g", ONE)], id="both"),
        pytest.param({"unitName": ["a.service", "g.service"]}, [("a", ONE), ("a", TWO)], id="two"),
        pytest.param({"unitName": ["a"]}, [], id="half a name"),
        pytest.param({"machineID": [ONE[:8]]}, [], id="half a machine"),
        pytest.param({"machineID": [""]}, [("a", ONE), ("a", TWO), ("g", ONE), ("g", TWO)], id="-"),
    ],
)
async def test_states_are_filtered(
    query: dict[str, list[str]], expected: list[tuple[str, str]]
) -> None:
    page = document(await (await a_cluster()).ask("GET", "/state", query=query))
    states = page.get("states", [])
    assert [(s["name"].partition(".")[0], s["machineID"]) for s in states] == expected


async def test_state_of_one_unit_is_one_of_its_states() -> None:
    api = await a_cluster()
    state = document(await api.ask("GET", "/state/g.service"))
    assert state == {
        "name": "g.service",
        "hash": "h",
        "machineID": ONE,
        "systemdLoadState": "loaded",
        "systemdActiveState": "active",
        "systemdSubState": "running",
    }
    moving = document(await api.ask("GET", "/state/a.service"))
    assert moving["machineID"] == TWO  # which is where it goes
    missing = await api.ask("GET", "/state/b.service")
    assert (missing.status, message(missing)) == (404, "unit state does not exist")


async def test_lists_are_cut_into_pages_that_lead_to_each_other() -> None:
    api = await a_cluster(token_limit=2)
    for path, kind, count in (("/units", "units", 3), ("/state", "states", 4)):
        pages: list[int] = []
        query: dict[str, list[str]] = {}
        while True:
            page = document(await api.ask("GET", path, query=query))
            pages.append(len(page.get(kind, [])))
            if "nextPageToken" not in page:
                break
            query = {"nextPageToken": [page["nextPageToken"]]}
        assert (sum(pages), pages) == (count, [2, 1] if count == 3 else [2, 2, 0])


@pytest.mark.parametrize("path", ["/units", "/state", "/machines"])
async def test_list_is_whole_for_who_asks_for_that(path: str) -> None:
    api = await a_cluster(token_limit=1)
    page = document(await api.ask("GET", path, query={"whole": ["true"]}))
    assert "nextPageToken" not in page
    assert len(next(iter(page.values()))) > 1


async def test_list_without_contents_has_what_units_ask_of_fleet() -> None:
    api = Api()
    text = "[Service]\nExecStart=/bin/true\n[X-Fleet]\nGlobal=true\n"
    await api.put("a.service", text=text, desiredState="loaded")
    whole, spared = [
        document(await api.ask("GET", "/units", query=query))["units"]
        for query in ({}, {"contents": ["false"]})
    ]
    assert [option["section"] for option in whole[0]["options"]] == ["Service", "X-Fleet"]
    assert spared == [{**whole[0], "options": whole[0]["options"][1:]}]


async def test_list_without_placements_says_what_is_wanted_of_units_and_not_how_far_they_are() -> (
    None
):
    api = await a_cluster()
    placed, spared = [
        document(await api.ask("GET", "/units", query={"contents": ["false"], **query}))["units"]
        for query in ({}, {"placed": ["false"]})
    ]
    assert any("machineID" in unit for unit in placed)
    for unit in placed:
        unit.pop("machineID", None)
        del unit["currentState"]
    assert spared == placed


@pytest.mark.parametrize("path", ["/units", "/state", "/machines"])
@pytest.mark.parametrize("token", ["EwBMLg==", "ZAAAAA==", "bogus", ""])
async def test_page_token_of_somebody_else_is_refused(path: str, token: str) -> None:
    answer = await Api().ask("GET", path, query={"nextPageToken": [token]})
    assert answer.status == 400
    assert message(answer)


async def test_empty_cluster_is_empty_documents() -> None:
    api = Api()
    for path in ("/units", "/state", "/machines"):
        assert (await api.ask("GET", path)).body == b"{}"


async def test_machines_are_listed_by_id_and_their_metadata_patched() -> None:
    api = await a_cluster()
    patch = [
        {"op": "add", "path": f"/{ONE}/metadata/b", "value": {"value": "new"}},
        {"op": "remove", "path": f"/{ONE}/metadata/a"},
        {"op": "replace", "path": f"/{'9' * 32}/metadata/a", "value": "not here yet"},
    ]
    answer = await api.ask("PATCH", "/machines", patch, content_types=())
    assert (answer.status, answer.body, answer.content_type) == (204, b"", "application/json")
    assert document(await api.ask("GET", "/machines"))["machines"] == [
        {"id": ONE, "primaryIP": "10.0.0.1", "metadata": {"b": "new"}},
        {"id": TWO, "primaryIP": "10.0.0.2", "metadata": {"a": "2"}},
    ]


async def test_metadata_patch_is_refused_whole() -> None:
    api = Api()
    patch = [
        {"op": "add", "path": f"/{ONE}/metadata/b", "value": "new"},
        {"op": "add", "path": f"/{ONE}/metadata/b"},
    ]
    assert (await api.ask("PATCH", "/machines", patch)).status == 400
    assert await api.contents() == {}


async def test_bulk_says_which_units_are_new() -> None:
    api = Api()
    await api.put("old.service", options=OPTIONS)
    answer = await api.ask(
        "PATCH",
        "/units",
        [
            {"name": "old.service", "text": TEXT, "desiredState": "launched"},
            {"name": "new.service", "text": TEXT, "desiredState": "launched"},
            {"name": "more.service", "options": OTHER},
        ],
    )
    assert (answer.status, document(answer)) == (200, {"new": ["new.service", "more.service"]})
    units = document(await api.ask("GET", "/units"))["units"]
    assert {unit["name"]: unit["desiredState"] for unit in units} == {
        "more.service": "inactive",
        "new.service": "launched",
        "old.service": "launched",
    }


@pytest.mark.parametrize(
    ("asked", "status", "text"),
    [
        pytest.param({"name": "gone.service", "desiredState": "loaded"}, 404, "gone.service"),
        pytest.param({"name": "bad", "text": TEXT}, 400, "must contain"),
        pytest.param({"name": "b.service", "text": "[S]\nx\n"}, 400, "b.service:2: 'x'"),
        pytest.param({"name": "b@.service", "desiredState": "loaded"}, 400, "b@.service"),
        pytest.param({"name": "b.service", "desiredState": "up"}, 400, "'up'"),
        pytest.param({"name": "b.service", "text": "x" * 600_000}, 400, "b.service: the unit"),
    ],
)
async def test_bulk_is_all_or_nothing(asked: dict[str, Any], status: int, text: str) -> None:
    api = Api()
    good = [{"name": f"good{number}.service", "text": TEXT} for number in range(200)]
    answer = await api.ask("PATCH", "/units", [*good, asked])
    assert answer.status == status
    assert text in message(answer)
    assert await api.contents() == {}


async def test_bulk_destroys_and_says_what_was_there() -> None:
    api = Api()
    await api.put("old.service", options=OPTIONS)
    asked: list[dict[str, Any]] = [
        {"name": "old.service", "destroy": True},
        {"name": "gone.service", "destroy": True},
        {"name": "new.service", "text": TEXT},
    ]
    answer = await api.ask("PATCH", "/units", asked)
    assert answer.status == 200
    assert document(answer) == {"destroyed": ["old.service"], "new": ["new.service"]}
    assert [unit["name"] for unit in document(await api.ask("GET", "/units"))["units"]] == [
        "new.service"
    ]


async def test_bulk_destroys_nothing_if_one_unit_is_bad() -> None:
    api = Api()
    await api.put("old.service", options=OPTIONS)
    asked = [{"name": "old.service", "destroy": True}, {"name": "bad", "text": TEXT}]
    assert (await api.ask("PATCH", "/units", asked)).status == 400
    assert (await api.ask("GET", "/units/old.service")).status == 200


async def test_empty_bulk_is_fine() -> None:
    answer = await Api().ask("PATCH", "/units", [])
    assert (answer.status, document(answer)) == (200, {"new": []})


async def test_events_name_who_did_it_and_come_with_the_newest_last() -> None:
    api = Api()
    assert document(await api.ask("GET", "/events")).keys() == {"revision"}
    await api.put("a.service", options=OPTIONS)
    await api.put("a.service", desiredState="launched")
    await api.write(Put(f"{Keys().events}9", b"no event"))
    first, second = document(await api.ask("GET", "/events", peer=BOB))["events"]
    assert first["at"] <= second["at"]
    assert (first["by"], first["unit"]) == ("alice@box", "a.service")
    assert first["what"] == "stored, target state inactive"
    newest = document(await api.ask("GET", "/events", query={"limit": ["1"]}))
    assert newest["events"] == [second]
    await api.put("b.service", options=OPTIONS)
    ofb = document(await api.ask("GET", "/events", query={"unit": ["b.service"]}))
    assert [event["unit"] for event in ofb["events"]] == ["b.service"]
    after = {"after": [str(newest["revision"])]}
    assert document(await api.ask("GET", "/events", query=after))["events"] == ofb["events"]
    refused = await api.ask("GET", "/events", query={"after": ["yesterday"]})
    assert (refused.status, message(refused)) == (
        400,
        "after has to be a revision of the store, not 'yesterday'",
    )


async def test_why_answers_for_every_machine() -> None:
    api = await a_cluster()
    await api.put("a.service", options=OPTIONS, desiredState="launched")
    told = document(await api.ask("GET", "/why", query={"unit": ["a.service"]}, peer=BOB))
    assert (told["name"], told["desiredState"], told["by"]) == (
        "a.service",
        "launched",
        "alice@box",
    )
    assert [machine["machineID"] for machine in told["machines"]] == [ONE, TWO]
    missing = await api.ask("GET", "/why", query={"unit": ["none.service"]})
    assert (missing.status, message(missing)) == (404, "unit does not exist: none.service")
    assert (await api.ask("GET", "/why")).status == 400


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "many", "1.5", "\u0661", "9" * 5000])
async def test_limit_of_events_is_bounded(limit: str) -> None:
    answer = await Api().ask("GET", "/events", query={"limit": [limit]})
    assert answer.status == 400
    assert "limit has to be a number from 1 to 1000" in message(answer)


async def test_hold_is_told_and_released() -> None:
    api = await a_cluster()
    gone = MachineId("9" * 32)
    assert document(await api.ask("GET", "/hold")) == {}
    hold = Hold(machines=frozenset({ONE, gone}), until_s=1732155200.5, reason="they vanished")
    await api.write(Put(Keys().hold, encode_hold(hold)))
    # ONE has come back meanwhile.
    told = {"machines": [gone], "until": 1732155200.5, "reason": "they vanished"}
    assert document(await api.ask("GET", "/hold", peer=BOB)) == told
    assert (await api.ask("DELETE", "/hold", peer=BOB)).status == 403
    released = await api.ask("DELETE", "/hold")
    assert (released.status, released.body) == (204, b"")
    again = await api.ask("DELETE", "/hold")
    assert (again.status, message(again)) == (404, "no machines are held")
    event = document(await api.ask("GET", "/events", query={"limit": ["1"]}))["events"][0]
    assert event["by"] == "alice@box"
    assert "released the hold" in event["what"]


async def test_viewers_read_and_do_not_write() -> None:
    api = await a_cluster()
    before = await api.contents()
    assert (await api.ask("GET", "/units", peer=BOB)).status == 200
    for method, path in (
        ("PUT", "/units/a.service"),
        ("DELETE", "/units/a.service"),
        ("PATCH", "/units"),
        ("PATCH", "/machines"),
    ):
        answer = await api.ask(method, path, {"desiredState": "inactive"}, peer=BOB)
        assert answer.status == 403
        assert "bob" in message(answer)
    assert await api.contents() == before


async def test_strangers_learn_nothing() -> None:
    answer = await (await a_cluster()).ask("GET", "/units", peer=Peer(user="eve", uid=1002))
    assert answer.status == 403
    assert "fleet-viewers" in message(answer)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/units", None),
        ("GET", "/units/a.service", None),
        ("PUT", "/units/a.service", {"desiredState": "inactive"}),
        ("PATCH", "/units", [{"name": "a.service", "desiredState": "inactive"}]),
        ("DELETE", "/units/a.service", None),
        ("GET", "/state", None),
        ("GET", "/state/a.service", None),
        ("GET", "/machines", None),
        ("PATCH", "/machines", [{"op": "remove", "path": "/x/metadata/a"}]),
    ],
)
async def test_store_that_cannot_be_reached_is_503(method: str, path: str, body: Any) -> None:
    api = await a_cluster()
    api.store.fail_with(Unavailable("no endpoint of etcd answers"))
    answer = await api.ask(method, path, body)
    assert answer.status == 503
    told = "fleet server unable to communicate with etcd: no endpoint of etcd answers"
    assert message(answer) == told


async def test_reason_not_to_serve_is_503_in_fleets_words() -> None:
    reason: str | None = "the machine is not registered yet"
    api = Api(may_serve=lambda: reason)
    answer = api.service.readiness()
    assert answer is not None
    assert message(answer) == "fleet server unable to communicate with etcd"
    assert document(answer)["error"]["reason"] == reason
    assert Api().service.readiness() is None


async def test_missing_file_hides_no_unit() -> None:
    api = await a_cluster()
    await api.write(
        Put(Keys().unit(UnitName("z.service")), b'{"hash":"x","file":"y","target":"loaded"}')
    )
    units = document(await api.ask("GET", "/units"))["units"]
    assert units[-1] == {
        "name": "z.service",
        "desiredState": "loaded",
        "currentState": "inactive",
    }
    assert (await api.ask("GET", "/units/z.service")).status == 200


async def test_malformed_record_hides_no_other_unit_and_can_be_destroyed() -> None:
    api = await a_cluster()
    await api.write(Put(Keys().unit(UnitName("z.service")), b"rubbish"))
    assert len(document(await api.ask("GET", "/units"))["units"]) == 3
    assert (await api.put("z.service", desiredState="loaded")).status == 409
    assert (await api.ask("DELETE", "/units/z.service")).status == 204


async def test_metrics_count_answers_and_carry_those_of_others() -> None:
    leader = Metric("fleet_engine_leader_start_time", Kind.GAUGE, "Since.", (Sample(17),))
    api = Api(gather=lambda: [leader])
    api.service.count("list_units", 200)
    answer = await api.ask("GET", "/metrics")
    text = answer.body.decode()
    assert answer.content_type.startswith("text/plain")
    assert "\nfleet_engine_leader_start_time 17\n" in text
    assert '\nfleet_api_requests_total{code="200",endpoint="list_units"} 1\n' in text
    assert '\nfleet_build_info{version="2.0.0"} 1\n' in text


async def test_discovery_document_is_served() -> None:
    assert document(await Api().ask("GET", "/discovery"))["id"] == "fleet:v1"


# Inventories and plans


def _foresee(cluster: Cluster, changed: Mapping[UnitName, UnitRecord | None]) -> Foreseen:
    """A scheduler that has everything run on the first machine."""
    units = tuple(ForeseenUnit(name=name, machines=(ONE,)) for name in changed)
    return Foreseen(revision=cluster.latest_change, units=units, addresses={ONE: "10.0.0.1"})


async def test_inventory_has_all_units_and_their_texts_if_asked_for() -> None:
    api = Api()
    asked = {"name": "a.service", "text": TEXT, "desiredState": "loaded", "source": "shop"}
    await api.ask("PATCH", "/units", [asked])
    revision = (await api.registry.cluster()).latest_change
    found = document(await api.ask("GET", "/inventory", peer=BOB))
    record = (await api.registry.cluster()).units[UnitName("a.service")]
    unit = {
        "name": "a.service",
        "hash": record.hash,
        "file": record.file,
        "desiredState": "loaded",
        "source": "shop",
    }
    assert found == {"revision": revision, "units": [unit]}
    with_text = document(await api.ask("GET", "/inventory", query={"text": ["true"]}))
    assert with_text["units"] == [unit | {"text": TEXT}]


async def test_plan_is_answered_for_what_would_change_and_nothing_is_changed() -> None:
    api = Api(foresee=_foresee)
    await api.put("a.service", options=OPTIONS, desiredState="loaded")
    before = await api.contents()
    asked = [
        {"name": "a.service", "desiredState": "loaded"},
        {"name": "b.service", "options": OPTIONS, "desiredState": "launched"},
    ]
    answer = await api.ask("POST", "/plan", asked, peer=BOB)
    assert [unit["name"] for unit in document(answer)["units"]] == ["b.service"]
    assert document(answer)["addresses"] == {ONE: "10.0.0.1"}
    assert await api.contents() == before


class _OneMove:
    """Always the same move, and what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, str]] = []

    async def foresee(self, most: int) -> Foreseen:
        self.asked.append(("foresee", most, ""))
        return self._answer()

    async def rebalance(self, most: int, *, by: str) -> Foreseen:
        self.asked.append(("rebalance", most, by))
        return self._answer()

    def _answer(self) -> Foreseen:
        unit = ForeseenUnit(name=UnitName("a.service"), was=(ONE,), machines=(TWO,))
        return Foreseen(revision=7, units=(unit,), addresses={ONE: "10.0.0.1"})


async def test_rebalance_is_asked_for_so_many_moves_and_who_may_only_read_makes_none() -> None:
    rebalancer = _OneMove()
    api = Api(rebalancer=rebalancer)
    found = document(await api.ask("GET", "/rebalance", query={"max": ["7"]}, peer=BOB))
    assert [(u["was"], u["machines"]) for u in found["units"]] == [([ONE], [TWO])]
    await api.ask("GET", "/rebalance")
    assert (await api.ask("POST", "/rebalance", peer=BOB)).status == 403
    made = document(await api.ask("POST", "/rebalance", query={"max": ["3"]}))
    assert made == found
    assert rebalancer.asked == [
        ("foresee", 7, ""),
        ("foresee", 100, ""),
        ("rebalance", 3, "alice@box"),
    ]
    for method in ("GET", "POST"):
        for bad in ("0", "101", "-1", "many"):
            assert (await api.ask(method, "/rebalance", query={"max": [bad]})).status == 400
        assert (await Api().ask(method, "/rebalance")).status == 404
    assert (await api.ask("PUT", "/rebalance")).status == 405


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param([{"name": "a.service", "desiredState": "loaded"}], 404, id="of no unit"),
        pytest.param([{"name": "a.service", "text": "[x"}], 400, id="malformed"),
        pytest.param({}, 400, id="no list"),
    ],
)
async def test_plan_refuses_what_the_change_would_be_refused_for(body: Any, status: int) -> None:
    api = Api(foresee=_foresee)
    assert (await api.ask("POST", "/plan", body)).status == status
    assert (await api.ask("PATCH", "/units", body)).status == status


@pytest.mark.parametrize(
    ("revision", "status"),
    [
        pytest.param("1", 409, id="an old one"),
        pytest.param("x", 400, id="no number"),
        pytest.param("9" * 20, 400, id="no revision"),
    ],
)
async def test_change_at_another_revision_is_refused(revision: str, status: int) -> None:
    api = Api()
    await api.put("a.service", options=OPTIONS)
    before = await api.contents()
    asked = [{"name": "a.service", "destroy": True}]
    answer = await api.ask("PATCH", "/units", asked, query={"ifRevision": [revision]})
    assert answer.status == status
    assert await api.contents() == before


async def test_limit_goes_with_contents() -> None:
    api = Api()
    asked = {"name": "a.service", "text": TEXT, "maxUnavailable": 2}
    assert (await api.ask("PATCH", "/units", [asked])).status == 200
    record = (await api.registry.cluster()).units[UnitName("a.service")]
    assert record.requirements.max_unavailable == 2


@pytest.mark.parametrize("wrong", [-1, 1.5, "1", True, 10**6, 10**400])
async def test_limit_that_is_none_is_refused(wrong: object) -> None:
    asked = {"name": "a.service", "text": TEXT, "maxUnavailable": wrong}
    assert (await Api().ask("PATCH", "/units", [asked])).status == 400


async def test_limit_without_contents_is_refused() -> None:
    api = Api()
    await api.put("a.service", options=OPTIONS, desiredState="loaded")
    asked = {"name": "a.service", "desiredState": "launched", "maxUnavailable": 1}
    assert (await api.ask("PATCH", "/units", [asked])).status == 400


async def test_source_that_is_no_line_of_text_is_refused() -> None:
    asked = [{"name": "a.service", "options": OPTIONS, "source": "a\nb"}]
    assert (await Api().ask("PATCH", "/units", asked)).status == 400


@pytest.mark.parametrize(
    "body",
    [[], {"why": 1}, {"why": "\ud800"}, {"drain": "yes"}, {"why": "x" * 5000}],
    ids=["no object", "why is a number", "why is no text", "drain is a text", "why is long"],
)
async def test_malformed_cordon_is_refused(body: Any) -> None:
    api = await a_cluster()
    before = await api.contents()
    assert (await api.ask("PUT", f"/cordons/{ONE}", body)).status == 400
    assert await api.contents() == before


async def test_cordons_are_for_writers_and_told_to_readers() -> None:
    api = await a_cluster()
    assert (await api.ask("PUT", f"/cordons/{ONE}", {}, peer=BOB)).status == 403
    assert (await api.ask("PUT", f"/cordons/{ONE}", {"why": "new disks"})).status == 204
    (told,) = document(await api.ask("GET", "/cordons", peer=BOB))["cordons"]
    assert {**told, "at": 0} == {
        "machineID": ONE,
        "by": "alice@box",
        "at": 0,
        "why": "new disks",
        "drain": False,
    }
    assert (await api.ask("GET", f"/cordons/{ONE}")).status == 405
    assert (await api.ask("DELETE", f"/cordons/{TWO}")).status == 404
    assert (await api.ask("DELETE", f"/cordons/{ONE}")).status == 204
