import pytest

from cli.completion.line import Typed, escape, split_line


@pytest.mark.parametrize(
    ("line", "typed"),
    [
        pytest.param("fleetctl ", Typed(), id="nothing yet"),
        pytest.param("fleetctl sta", Typed(incomplete="sta", raw="sta"), id="a verb begun"),
        pytest.param("fleetctl stop a ", Typed(words=("stop", "a")), id="two whole words"),
        pytest.param("", Typed(), id="nothing at all"),
        pytest.param(
            r"fleetctl cat a\ b",
            Typed(words=("cat",), incomplete="a b", raw=r"a\ b"),
            id="a blank that belongs to the word",
        ),
        pytest.param(
            "fleetctl cat 'a b",
            Typed(words=("cat",), incomplete="a b", raw="a b", quote="'"),
            id="a quote without its end",
        ),
        pytest.param(
            'fleetctl cat "a b" "c',
            Typed(words=("cat", "a b"), incomplete="c", raw="c", quote='"'),
            id="a quote with its end, and one without",
        ),
        pytest.param(
            r"fleetctl cat 'a\x2d",
            Typed(words=("cat",), incomplete=r"a\x2d", raw=r"a\x2d", quote="'"),
            id="no escape within single quotes",
        ),
        pytest.param(
            "fleetctl cat '' b",
            Typed(words=("cat", ""), incomplete="b", raw="b"),
            id="an empty word",
        ),
        pytest.param(
            "A=b C=d fleetctl sto", Typed(incomplete="sto", raw="sto"), id="variables before it"
        ),
        pytest.param(
            "fleetctl cat a\\",
            Typed(words=("cat",), incomplete="a", raw="a\\"),
            id="half an escape",
        ),
    ],
)
def test_line_is_read_as_a_shell_reads_it(line: str, typed: Typed) -> None:
    assert split_line(line) == typed


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        pytest.param("web@1.service", "web@1.service", id="a unit's usual name"),
        pytest.param(r"mnt-a\x2db.mount", r"mnt-a\\x2db.mount", id="a name that systemd escaped"),
        pytest.param("~/a b/$c.service", r"~/a\ b/\$c.service", id="a path in the home folder"),
        pytest.param("--fields=unit,sub", "--fields=unit,sub", id="a flag with its value"),
    ],
)
def test_candidate_is_escaped_for_the_shell(text: str, escaped: str) -> None:
    assert escape(text) == escaped
    assert split_line(f"fleetctl {escape(text)}").incomplete == text or text.startswith("~")
