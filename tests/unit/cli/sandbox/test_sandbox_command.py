import os

import pytest
from click.testing import CliRunner

from cli.fleetctl.sandbox import check_settings, command, parse_metadata
from fleet.errors import InvalidRequest


def test_metadata_is_gathered_by_machine() -> None:
    assert parse_metadata(["fleet1:a=b,c=d=e", "fleet2:a=", "fleet1:a=z"]) == {
        "fleet1": {"a": "z", "c": "d=e"},
        "fleet2": {"a": ""},
    }


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("disk=ssd", id="no machine"),
        pytest.param("fleet1:disk", id="no value"),
        pytest.param("fleet1:=ssd", id="no key"),
        pytest.param("fleet1:", id="nothing"),
    ],
)
def test_metadata_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is not --metadata MACHINE:KEY=VALUE"):
        parse_metadata([text])


def test_every_verb_has_a_summary_that_fits_a_line() -> None:
    shown = CliRunner().invoke(command, ["--help"]).output.partition("Commands:")[2]

    assert "..." not in shown
    assert sorted(command.commands) == "boot cut down heal kill list shell up".split()


@pytest.mark.parametrize("verb", ["list", "shell", "kill fleet1", "boot fleet1", "cut fleet1"])
def test_verb_says_how_to_make_the_sandbox_it_misses(verb: str) -> None:
    done = CliRunner().invoke(command, [*verb.split(), "--name", "no-such"])

    said = "there is no sandbox 'no-such'" if os.geteuid() == 0 else "run it with sudo"
    assert said in str(done.exception)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"agnt_ttl": "3s"}, "agnt_ttl is no option .* agent_ttl", id="a typing error"),
        pytest.param({"agent_ttl": "soon"}, "agent_ttl = soon: ", id="a value that means nothing"),
    ],
)
def test_settings_that_fleetd_would_not_take_are_refused(
    settings: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        check_settings(settings)


def test_settings_that_fleetd_takes_are_taken() -> None:
    check_settings({"agent_ttl": "3s", "on_stop": "leave"})
