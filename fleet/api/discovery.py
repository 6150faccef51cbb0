"""The discovery document: the API of fleet 1.0 described for generated clients.

Its form is Google's discovery document v1. It names what fleet 1.0 named and no more; our own
endpoints stand in docs/api.md.
"""

from typing import Any

_TEXT = {"type": "string"}
_STATES = {"type": "string", "enum": ["inactive", "loaded", "launched"]}


def discovery_document() -> dict[str, Any]:
    """The document; `$ENDPOINT` in it stands for wherever the client reached the server."""
    return {
        "kind": "discovery#restDescription",
        "discoveryVersion": "v1",
        "id": "fleet:v1",
        "name": "schema",
        "version": "v1",
        "title": "fleet API",
        "description": "",
        "documentationLink": "http://github.com/coreos/fleet",
        "protocol": "rest",
        "icons": {"x16": "", "x32": ""},
        "labels": [],
        "baseUrl": "$ENDPOINT/fleet/v1/",
        "basePath": "/fleet/v1/",
        "rootUrl": "$ENDPOINT/",
        "servicePath": "fleet/v1/",
        "batchPath": "batch",
        "parameters": {},
        "auth": {},
        "schemas": _schemas(),
        "resources": {
            "Machines": {"methods": {"List": _list("Machine", "machines")}},
            "Units": {
                "methods": {
                    "List": _list("Unit", "units"),
                    "Get": _item("Get", "GET", "Retrieve a single Unit object.", answers="Unit"),
                    "Delete": _item("Delete", "DELETE", "Delete the referenced Unit object."),
                    "Set": _item("Set", "PUT", "Create or update a Unit.", takes="Unit"),
                }
            },
            "UnitState": {
                "methods": {
                    "List": _list("UnitState", "state", "unitName", "machineID"),
                    "Get": _item(
                        "Get",
                        "GET",
                        "Retrieve a single UnitState object.",
                        resource="UnitState",
                        path="state",
                        answers="UnitState",
                    ),
                }
            },
        },
    }


def _schemas() -> dict[str, Any]:
    metadata = {"type": "object", "properties": {}, "additionalProperties": _TEXT}
    entities = {
        "Machine": {"id": _TEXT, "primaryIP": _TEXT, "metadata": metadata},
        "UnitOption": {"section": _TEXT, "name": _TEXT, "value": _TEXT},
        "Unit": {
            "name": _TEXT,
            "options": _array("UnitOption"),
            "desiredState": _STATES,
            "currentState": _STATES,
            "machineID": {"type": "string", "required": True},
        },
        "UnitState": {
            "name": _TEXT,
            "hash": _TEXT,
            "machineID": _TEXT,
            "systemdLoadState": _TEXT,
            "systemdActiveState": _TEXT,
            "systemdSubState": _TEXT,
        },
        "MachinePage": {"machines": _array("Machine"), "nextPageToken": _TEXT},
        "UnitPage": {"units": _array("Unit"), "nextPageToken": _TEXT},
        "UnitStatePage": {"states": _array("UnitState"), "nextPageToken": _TEXT},
    }
    return {
        name: {"id": name, "type": "object", "properties": properties}
        for name, properties in entities.items()
    }


def _array(entity: str) -> dict[str, Any]:
    return {"type": "array", "items": {"$ref": entity}}


def _list(entity: str, path: str, *filters: str) -> dict[str, Any]:
    return {
        "id": f"fleet.{entity}.List",
        "description": f"Retrieve a page of {entity} objects.",
        "httpMethod": "GET",
        "path": path,
        "parameters": {
            name: {"type": "string", "location": "query"} for name in ("nextPageToken", *filters)
        },
        "response": {"$ref": f"{entity}Page"},
    }


def _item(
    method: str,
    verb: str,
    description: str,
    *,
    resource: str = "Unit",
    path: str = "units",
    takes: str = "",
    answers: str = "",
) -> dict[str, Any]:
    parameter = {"type": "string", "location": "path", "required": True}
    document: dict[str, Any] = {
        "id": f"fleet.{resource}.{method}",
        "description": description,
        "httpMethod": verb,
        "path": f"{path}/{{unitName}}",
        "parameters": {"unitName": parameter},
        "parameterOrder": ["unitName"],
    }
    if takes:
        document["request"] = {"$ref": takes}
    if answers:
        document["response"] = {"$ref": answers}
    return document
