"""The discovery document names fleet 1.0's resources."""

from fleet.api.discovery import discovery_document


def test_document_names_fleets_methods_and_paths() -> None:
    resources = discovery_document()["resources"]
    named = {
        f"{resource}.{name}": (method["httpMethod"], method["path"])
        for resource, found in resources.items()
        for name, method in found["methods"].items()
    }
    assert named == {
        "Machines.List": ("GET", "machines"),
        "Units.List": ("GET", "units"),
        "Units.Get": ("GET", "units/{unitName}"),
        "Units.Delete": ("DELETE", "units/{unitName}"),
        "Units.Set": ("PUT", "units/{unitName}"),
        "UnitState.List": ("GET", "state"),
        "UnitState.Get": ("GET", "state/{unitName}"),
    }


def test_document_leaves_the_host_to_the_client() -> None:
    document = discovery_document()
    assert document["rootUrl"] == "$ENDPOINT/"
    assert document["servicePath"] == "fleet/v1/"


def test_every_entity_that_is_spoken_of_is_described() -> None:
    document = discovery_document()
    text = str(document)
    for entity in document["schemas"]:
        assert f"'$ref': '{entity}'" in text
    methods = [m for r in document["resources"].values() for m in r["methods"].values()]
    for method in methods:
        for side in ("request", "response"):
            if side in method:
                assert method[side]["$ref"] in document["schemas"]
