"""The files that a packager takes as they are."""

from pathlib import Path

import pytest

from fleet.config import Config, parse_config

FILES = Path(__file__).parents[3] / "cli" / "systemd"
SAMPLE = (FILES / "fleet.conf.sample").read_text()
OPTIONS = [
    line.removeprefix("# ")
    for line in SAMPLE.splitlines()
    if line.startswith("# ") and "=" in line.split(" ")[1]
]


def test_the_sample_configuration_changes_nothing() -> None:
    assert parse_config(SAMPLE, "sample", {}) == (Config(), ())


@pytest.mark.parametrize("line", OPTIONS)
def test_every_option_of_the_sample_is_understood(line: str) -> None:
    api = "api_certfile=/c\napi_keyfile=/k\napi_cafile=/ca\n"
    pairs = {
        **dict.fromkeys(("api_certfile", "api_keyfile", "api_cafile"), api),
        "etcd_password": 'etcd_username="fleet"',
        "etcd_certfile": "etcd_keyfile=/etc/fleet/client-key.pem",
        "etcd_keyfile": "etcd_certfile=/etc/fleet/client.pem",
    }
    needed = pairs.get(line.partition("=")[0], "")

    _, warnings = parse_config(f"{needed}\n{line}\n", "sample", {})

    assert [each for each in warnings if "a second time" not in each] == []


def test_the_sample_names_every_option() -> None:
    shown = {line.partition("=")[0] for line in OPTIONS}

    assert {name.removesuffix("_s") for name in Config.__dataclass_fields__} == shown
