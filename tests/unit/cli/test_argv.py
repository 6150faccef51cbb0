import pytest

from cli.argv import Flag, Grammar, normalise

_LEAVES = {
    "list-units": Grammar(
        flags={
            "-l": Flag(spelling="--full"),
            "--full": Flag(spelling="--full"),
            "--no-legend": Flag(spelling="--no-legend"),
            "--fields": Flag(spelling="--fields", takes_value=True),
        }
    ),
    "ssh": Grammar(
        flags={
            "-A": Flag(spelling="--forward-agent"),
            "--machine": Flag(spelling="--machine", takes_value=True),
        },
        interspersed=False,
    ),
    "submit": Grammar(),
}
_ROOT = Grammar(
    flags={
        "--tunnel": Flag(spelling="--tunnel", takes_value=True),
        "--debug": Flag(spelling="--debug", off="--no-debug"),
        "-h": Flag(spelling="--help"),
    },
    find=lambda name: (name, _LEAVES[name]) if name in _LEAVES else None,
)


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [
        pytest.param("", "", id="nothing"),
        pytest.param("list-units", "list-units", id="a bare verb"),
        pytest.param("--tunnel h list-units", "--tunnel h list-units", id="global before"),
        pytest.param("list-units --tunnel h", "--tunnel h list-units", id="global after"),
        pytest.param("-tunnel h list-units", "--tunnel h list-units", id="one dash"),
        pytest.param("-tunnel=h list-units", "--tunnel h list-units", id="one dash, equals"),
        pytest.param("list-units --l", "list-units --full", id="short form with two dashes"),
        pytest.param("list-units -l", "list-units --full", id="short form"),
        pytest.param("list-units -no-legend -full", "list-units --no-legend --full", id="0.13"),
        pytest.param("list-units -fields=unit", "list-units --fields unit", id="0.13 value"),
        pytest.param(
            "list-units --fields --full", "list-units --fields --full", id="a value like a flag"
        ),
        pytest.param("--debug=true list-units", "--debug list-units", id="switch said true"),
        pytest.param("list-units --debug=0", "--no-debug list-units", id="switch denied"),
        pytest.param("list-units --full=false", "list-units", id="verb's switch denied"),
        pytest.param("--debug=maybe list-units", "--debug=maybe list-units", id="left to fail"),
        pytest.param("--h", "--help", id="two dashes and h"),
        pytest.param("submit -h", "--help submit", id="help is global when the verb has none"),
        pytest.param("submit a --debug b", "--debug submit a b", id="interspersed"),
        pytest.param("submit -- --debug b", "submit -- --debug b", id="after two dashes"),
        pytest.param("submit -", "submit -", id="a lone dash is an argument"),
        pytest.param("ssh m ls -l --debug", "ssh m ls -l --debug", id="remote command untouched"),
        pytest.param("ssh -A m -- ls -l", "ssh --forward-agent m -- ls -l", id="remote dashes"),
        pytest.param("ssh --machine m ls -A", "ssh --machine m ls -A", id="remote flag of ours"),
        pytest.param("ssh --debug m -tunnel", "--debug ssh m -tunnel", id="global before remote"),
        pytest.param("frob --debug x", "frob --debug x", id="unknown verb untouched"),
        pytest.param("--frob submit x", "--frob submit x", id="unknown global stays in front"),
        pytest.param("submit --frob x", "submit --frob x", id="unknown flag of a verb stays"),
        pytest.param("list-units --tunnel", "--tunnel", id="value missing at the end"),
    ],
)
def test_command_line_becomes_canonical(typed: str, canonical: str) -> None:
    assert normalise(typed.split(), _ROOT) == canonical.split()


def test_empty_value_stays_a_value() -> None:
    assert normalise(["list-units", "--fields="], _ROOT) == ["list-units", "--fields", ""]
