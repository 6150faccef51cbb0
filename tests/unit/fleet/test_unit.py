"""Unit files: the grammar of the original, the text kept, the canonical form and its hash."""

import itertools

import pytest

from fleet.errors import InvalidUnit
from fleet.unit import (
    MAX_UNIT_BYTES,
    UnitFile,
    UnitOption,
    parse_unit,
    read_unit,
    render_options,
    unit_from_options,
)

Triple = tuple[str, str, str]


def _options(text: str) -> list[Triple]:
    return [(option.section, option.name, option.value) for option in parse_unit(text).options]


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        pytest.param("", "da39a3ee5e6b4b0d3255bfef95601890afd80709", id="an empty file"),
        pytest.param(
            "[Service]\nExecStart=/bin/sleep 100\n",
            "1c6fb6f3684bafb0c173d8b8b957ceff031180c1",
            id="a service",
        ),
        pytest.param(
            "[Unit]\nDescription=some description\n",
            "a0f275d46bc6ee0eca06be7c339913c07d99c0c7",
            id="a description",
        ),
        pytest.param(
            "# why\n\n[Service]\r\n  ExecStart =  /bin/sleep 100  ",
            "1c6fb6f3684bafb0c173d8b8b957ceff031180c1",
            id="comments, blanks, returns and the last line break do not count",
        ),
    ],
)
def test_hash_is_the_originals(text: str, digest: str) -> None:
    assert parse_unit(text).hash == digest


@pytest.mark.parametrize(
    ("text", "options"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param("[Unit]\n[Service]\n", [], id="sections without options"),
        pytest.param(
            "[Unit]\nDescription=Foo\nDescription=Bar\nAfter=a.service\n",
            [
                ("Unit", "Description", "Foo"),
                ("Unit", "Description", "Bar"),
                ("Unit", "After", "a.service"),
            ],
            id="a repeated option is kept in order",
        ),
        pytest.param(
            "[A]\nx=1\n[B]\ny=2\n[A]\nx=3",
            [("A", "x", "1"), ("B", "y", "2"), ("A", "x", "3")],
            id="a section that comes again",
        ),
        pytest.param("[A]\nx=1", [("A", "x", "1")], id="no line break at the end"),
        pytest.param("[A]\nx=\ny=1", [("A", "x", ""), ("A", "y", "1")], id="an empty value"),
        pytest.param("[A]\nx= \t\n", [("A", "x", "")], id="a value of blanks"),
        pytest.param("[A]\n=1", [("A", "", "1")], id="an empty name"),
        pytest.param("[A]\nx=a=b=c", [("A", "x", "a=b=c")], id="the first equals sign parts"),
        pytest.param(
            "[A]\n  Some Thing\t=  words here  ",
            [("A", "Some Thing", "words here")],
            id="blanks around name and value go",
        ),
        pytest.param("[A]\n<<<<=Bar", [("A", "<<<<", "Bar")], id="any name will do"),
        pytest.param("[©]\nµ☃=ÇôrèÕ$", [("©", "µ☃", "ÇôrèÕ$")], id="any letters will do"),
        pytest.param("[ A ] \nx=1", [(" A ", "x", "1")], id="blanks in a section's name stay"),
        pytest.param(
            '[A]\nEnvironment= "a=b" "c=d"',
            [("A", "Environment", '"a=b" "c=d"')],
            id="quotes mean nothing here",
        ),
        pytest.param(
            "[A]\nx=a # no comment", [("A", "x", "a # no comment")], id="no comment after a value"
        ),
        pytest.param("[A]\nx=\u00a0a\u2003", [("A", "x", "a")], id="Go's blanks go"),
        pytest.param("[A]\nx=\x1ca\x1f", [("A", "x", "\x1ca\x1f")], id="only Go's blanks go"),
    ],
)
def test_options_are_read(text: str, options: list[Triple]) -> None:
    assert _options(text) == options


@pytest.mark.parametrize(
    ("text", "options"),
    [
        pytest.param("x=1\n[A]\ny=2", [("A", "y", "2")], id="an option"),
        pytest.param("<<<<<\n[A]\ny=2", [("A", "y", "2")], id="rubbish"),
        pytest.param("\ufeff[A]\ny=2", [("A", "y", "2")], id="a byte order mark"),
        pytest.param("rubbish [A]\ny=2", [("A", "y", "2")], id="rubbish on the same line"),
        pytest.param("# [A]\n[B]\ny=2", [("B", "y", "2")], id="a section in a comment"),
        pytest.param("x ; [A]\n[B]\ny=2", [("B", "y", "2")], id="a comment after rubbish"),
        pytest.param("# a \\\n[A]\n[B]\ny=2", [("B", "y", "2")], id="a comment that goes on"),
        pytest.param("nothing but words", [], id="no section at all"),
    ],
)
def test_what_stands_before_the_first_section_is_passed_over(
    text: str, options: list[Triple]
) -> None:
    assert _options(text) == options


@pytest.mark.parametrize(
    ("comment"),
    [
        pytest.param("# words", id="a hash"),
        pytest.param("; words", id="a semicolon"),
        pytest.param("   # words", id="blanks before it"),
        pytest.param("#x=1", id="an option"),
        pytest.param("# words \\\nx=1", id="it goes on after a backslash"),
        pytest.param("# words \\ \nx=1", id="it goes on even with one blank after the backslash"),
        pytest.param("# a \\\n# b \\\nc", id="it goes on twice"),
        pytest.param("# words \\\n", id="it goes on into a blank line"),
        pytest.param("# words \\  ", id="two blanks after the backslash end it"),
    ],
)
def test_comments_are_passed_over(comment: str) -> None:
    assert _options(f"[A]\na=1\n{comment}\nb=2\n") == [("A", "a", "1"), ("A", "b", "2")]


def test_comment_that_goes_on_to_the_end_is_no_error() -> None:
    assert _options("[A]\na=1\n# words \\") == [("A", "a", "1")]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        pytest.param("echo \\\n  two", "echo \\\n  two", id="backslash and line break are kept"),
        pytest.param("\\\n  echo", "\\\n  echo", id="it goes on at once"),
        pytest.param("a \\\nb \\\nc", "a \\\nb \\\nc", id="twice"),
        pytest.param("a \\\n# b", "a \\\n# b", id="what looks like a comment is kept"),
        pytest.param("a \\\n; b \\\nc", "a \\\n; b \\\nc", id="and goes on"),
        pytest.param("a \\\n[B]", "a \\\n[B]", id="what looks like a section is kept"),
        pytest.param("a \\\n  b  ", "a \\\n  b", id="blanks at the very end go"),
        pytest.param("a \\\n\n", "a \\\n", id="a blank line ends it"),
        pytest.param("a \\\n  \t\n", "a \\\n", id="a line of blanks ends it"),
        pytest.param("a \\ ", "a \\", id="a blank after the backslash ends it"),
        pytest.param("a \\\r", "a \\", id="a carriage return after the backslash ends it"),
        pytest.param("a\\\\", "a\\\\\nnext=1", id="the last backslash counts, escaped or not"),
    ],
)
def test_value_goes_on_over_lines(written: str, value: str) -> None:
    assert _options(f"[A]\nx={written}\nnext=1")[0] == ("A", "x", value)


def test_value_that_goes_on_to_the_end_keeps_its_backslash() -> None:
    assert _options("[A]\nx=a \\") == [("A", "x", "a \\")]


def test_option_after_a_value_of_several_lines_has_its_own_line() -> None:
    unit = parse_unit("[A]\nx=1 \\\n  2 \\\n  3\n\n# c\ny=4\n")

    assert [(option.name, option.line) for option in unit.options] == [("x", 2), ("y", 7)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("[A]\nx=1\nnonsense\n", "u.service:3: 'nonsense' is neither", id="words"),
        pytest.param("[A]\nx=1\nnonsense", "u.service:3: 'nonsense'", id="words at the end"),
        pytest.param("[A]\n>>>>\n", "u.service:2: '>>>>'", id="rubbish in a section"),
        pytest.param("\n\n[Unit\nx=1\n", "u.service:3: section '[Unit' has no", id="no bracket"),
        pytest.param("[Unit] pants\n", "u.service:1: unexpected text 'pants'", id="words after"),
        pytest.param("[A]\nx=\\\n1\ny\n", "u.service:4: 'y'", id="lines are counted in values"),
        pytest.param("[A]\n# \\\n1\ny\n", "u.service:4: 'y'", id="lines are counted in comments"),
        pytest.param("[A]\nx=\ud800\n", "u.service:2: this is not UTF-8", id="half a surrogate"),
        pytest.param("[A]\n\nx=\0\n", "u.service:3: there is a NUL", id="a NUL"),
    ],
)
def test_malformed_unit_is_refused_with_path_and_line(text: str, message: str) -> None:
    with pytest.raises(InvalidUnit) as refusal:
        parse_unit(text, path="u.service")

    assert str(refusal.value).startswith(message)


def test_refusal_without_a_path_names_the_line() -> None:
    with pytest.raises(InvalidUnit, match=r"^line 2: 'x' is neither"):
        parse_unit("[A]\nx\n")


def test_bytes_that_are_no_text_are_refused_with_their_line() -> None:
    with pytest.raises(InvalidUnit, match=r"^u\.service:2: this is not UTF-8 text"):
        read_unit(b"[A]\nx=\xff\n", path="u.service")


def test_bytes_are_read_like_their_text() -> None:
    assert read_unit("[A]\nx=ü\r\n".encode()) == parse_unit("[A]\nx=ü\r\n")


def test_unit_beyond_the_limit_is_refused_and_one_at_it_is_not() -> None:
    largest = "[A]\nx=" + "a" * (MAX_UNIT_BYTES - len("[A]\nx="))
    parse_unit(largest)

    with pytest.raises(InvalidUnit, match=f"has {MAX_UNIT_BYTES + 1} bytes; the limit is"):
        parse_unit(largest + "a")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("# why\n[A]\nx=1\n", id="comments"),
        pytest.param("[A]\r\nx=1\r\n", id="carriage returns"),
        pytest.param("  [A]\n\tx =  1  \n\n\n", id="blanks"),
        pytest.param("[A]\nx=1", id="no line break at the end"),
        pytest.param("[A]\nx=1 \\\n  2", id="a value of two lines"),
        pytest.param("\ufeffrubbish\n[A]\nx=1\x85\n", id="rubbish and odd blanks"),
    ],
)
def test_text_is_kept_byte_for_byte(text: str) -> None:
    assert parse_unit(text).text == text
    assert read_unit(text.encode()).text.encode() == text.encode()


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        pytest.param("", "", id="nothing"),
        pytest.param("# only this", "", id="a comment"),
        pytest.param("[A]\n", "", id="a section without options"),
        pytest.param("[A]\n x = 1 \n# c\ny=2", "[A]\nx=1\ny=2\n", id="blanks and comments go"),
        pytest.param("[B]\ny=2\n[A]\nx=1", "[B]\ny=2\n\n[A]\nx=1\n", id="sections as first seen"),
        pytest.param(
            "[A]\nx=1\n[B]\ny=2\n[A]\nx=3", "[A]\nx=1\nx=3\n\n[B]\ny=2\n", id="sections merge"
        ),
        pytest.param("[A]\nx=1\nx=1\n", "[A]\nx=1\nx=1\n", id="duplicates stay"),
        pytest.param("[A]\nx=a \\\n  b\n", "[A]\nx=a \\\n  b\n", id="lines of a value stay"),
        pytest.param(
            "[A]\nx=a \\\n\ny=1", "[A]\nx=a \\\n\ny=1\n", id="the blank line that ends one"
        ),
    ],
)
def test_canonical_text(text: str, canonical: str) -> None:
    unit = parse_unit(text)

    assert unit.canonical == canonical
    assert parse_unit(canonical).canonical == canonical
    assert parse_unit(canonical).hash == unit.hash


def test_unit_tells_its_values_and_sections() -> None:
    unit = parse_unit("[Unit]\nDescription=a\nDescription=b\n[Install]\nWantedBy=c\n")

    assert unit.values("Unit", "Description") == ("a", "b")
    assert unit.values("Unit", "description") == ()
    assert unit.description == "a"
    assert unit.has_section("Install")
    assert not unit.has_section("Service")
    assert parse_unit("[Service]\nDescription=x").description is None


def test_options_are_equal_wherever_they_stand() -> None:
    assert UnitOption("A", "x", "1", line=3) == UnitOption("A", "x", "1")


def test_unit_of_options_has_the_canonical_text_and_no_lines() -> None:
    given = [UnitOption("A", "x", "1"), UnitOption("B", "y", "2"), UnitOption("A", "z", "3 \\\n4")]

    unit = unit_from_options(given)

    assert unit.text == unit.canonical == "[A]\nx=1\nz=3 \\\n4\n\n[B]\ny=2\n"
    assert sorted(unit.options, key=str) == sorted(given, key=str)
    assert {option.line for option in unit.options} == {0}


def test_unit_of_the_options_of_a_file_has_its_hash() -> None:
    file = parse_unit("[A]\nx=1\n# c\n[B]\ny= 2 \\\n  3\n\n[A]\nz=")

    assert unit_from_options(file.options).hash == file.hash
    assert unit_from_options([]) == UnitFile("", ())


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([UnitOption("A", "x", "1\ny=2")], id="a value that is another option too"),
        pytest.param([UnitOption("A", "x", "1\nwords")], id="a value of two lines"),
        pytest.param([UnitOption("A", "x", "1\n[B]\ny=2")], id="a value with a section"),
        pytest.param([UnitOption("A", "x\n#", "1")], id="a name with a comment"),
        pytest.param([UnitOption("A", "#x", "1")], id="a name that is a comment"),
        pytest.param([UnitOption("A", "[B]", "1")], id="a name that is a section"),
        pytest.param([UnitOption("A", "x=y", "1")], id="a name with an equals sign"),
        pytest.param([UnitOption("A]", "x", "1")], id="a section with a bracket"),
        pytest.param([UnitOption("A\nB", "x", "1")], id="a section of two lines"),
        pytest.param(
            [UnitOption("A", "x", "1\\"), UnitOption("A", "y", "2")], id="a value that swallows"
        ),
        pytest.param([UnitOption("A", "x", "\ud800")], id="half a surrogate pair"),
    ],
)
def test_options_that_would_read_otherwise_are_refused(options: list[UnitOption]) -> None:
    with pytest.raises(InvalidUnit, match="option"):
        unit_from_options(options)


def test_rendered_options_of_no_section_are_nothing() -> None:
    assert render_options([]) == ""


_TOKENS = ("[A]\n", "[B]\n", "x=", "1", " ", "\\", "\n", "#", "\r\n")


def _parsed(text: str) -> UnitFile | None:
    try:
        return parse_unit(text)
    except InvalidUnit:
        return None


@pytest.mark.parametrize("first", _TOKENS)
def test_every_small_file_is_refused_or_means_what_its_canonical_text_means(first: str) -> None:
    for rest in itertools.product(_TOKENS, repeat=4):
        text = "".join(("[A]\n", first, *rest, "\n"))
        unit = _parsed(text)
        # A value that ends in a backslash would go on: such options are refused, see above.
        if unit is None or any(option.value.endswith("\\") for option in unit.options):
            continue
        lines = text.split("\n")
        assert unit.text == text
        assert all("x=" in lines[option.line - 1] for option in unit.options)
        assert parse_unit(unit.canonical).hash == unit.hash, text
        assert unit_from_options(unit.options).hash == unit.hash, text
