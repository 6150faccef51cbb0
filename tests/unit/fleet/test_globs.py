"""Globs over unit names: Go's path.Match, with its oddities."""

import pytest

from fleet.globs import InvalidGlob, compile_glob, glob_matches


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        pytest.param("foo.service", "foo.service", id="itself"),
        pytest.param("*", "foo.service", id="a star alone"),
        pytest.param("*", "", id="a star and nothing"),
        pytest.param("foo.*", "foo.socket", id="a star at the end"),
        pytest.param("*.service", "a.b.service", id="a star takes dots"),
        pytest.param("foo@*.service", "foo@12.service", id="a star within"),
        pytest.param("foo@*.service", "foo@.service", id="a star that stands for nothing"),
        pytest.param("*b*d*", "abcd", id="several stars"),
        pytest.param("a**c", "abc", id="two stars are one"),
        pytest.param("*ab", "aab", id="the star is not too greedy"),
        pytest.param("*.service*.service", "a.service.service", id="the last star is greedy"),
        pytest.param("foo@?.service", "foo@1.service", id="a question mark"),
        pytest.param("?", "ü", id="a character, not a byte"),
        pytest.param("foo@[abc].service", "foo@a.service", id="a class"),
        pytest.param("foo@[a-c0-9].service", "foo@7.service", id="ranges"),
        pytest.param("foo@[^a-c].service", "foo@d.service", id="a negated class"),
        pytest.param("[!a]", "!", id="an exclamation mark negates nothing"),
        pytest.param("[a^]", "^", id="a caret further back is itself"),
        pytest.param("[\\]]", "]", id="an escaped bracket in a class"),
        pytest.param("[\\-x]", "-", id="an escaped dash in a class"),
        pytest.param("[\\^]", "^", id="an escaped caret in a class"),
        pytest.param("[a&&b]", "&", id="signs that other syntaxes know"),
        pytest.param("[*?]", "?", id="wildcards in a class are themselves"),
        pytest.param("[^b-a]", "a", id="all but an empty range"),
        pytest.param("\\*", "*", id="an escaped star"),
        pytest.param("\\a", "a", id="an escape that was not needed"),
        pytest.param("a\\\\b", "a\\b", id="an escaped backslash"),
        pytest.param("a.b+(c)$", "a.b+(c)$", id="signs of regular expressions"),
        pytest.param("]", "]", id="a closing bracket alone"),
        pytest.param("a/*", "a/b", id="a slash that is written"),
    ],
)
def test_glob_matches(pattern: str, name: str) -> None:
    assert glob_matches(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        pytest.param("foo.service", "bar.service", id="another name"),
        pytest.param("foo.service", "xfoo.service", id="only the end of it"),
        pytest.param("foo.service", "foo.servicex", id="only the beginning of it"),
        pytest.param("foo", "foo.service", id="the suffix counts"),
        pytest.param("FOO.service", "foo.service", id="case counts"),
        pytest.param("*", "a/b", id="a star does not cross a slash"),
        pytest.param("a?b", "a/b", id="nor does a question mark"),
        pytest.param("foo@?.service", "foo@.service", id="a question mark needs something"),
        pytest.param("foo@[abc].service", "foo@d.service", id="not in the class"),
        pytest.param("[^a]", "a", id="in the negated class"),
        pytest.param("[b-a]", "b", id="a range that is empty"),
        pytest.param("a.c", "abc", id="a dot is a dot"),
        pytest.param("a", "a\n", id="a line break at the end counts"),
        pytest.param("", "a", id="nothing matches nothing else"),
    ],
)
def test_glob_does_not_match(pattern: str, name: str) -> None:
    assert not glob_matches(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        pytest.param("[", "[", id="a class without end"),
        pytest.param("[a", "a", id="a class without its bracket"),
        pytest.param("[]", "]", id="an empty class"),
        pytest.param("[]a]", "]", id="a bracket at the beginning of a class"),
        pytest.param("[^]", "^", id="a negation of nothing"),
        pytest.param("[-]", "-", id="a dash alone"),
        pytest.param("[a-]", "a", id="a range without end"),
        pytest.param("[-a]", "a", id="a range without beginning"),
        pytest.param("[a-b-c]", "a", id="a range of a range"),
        pytest.param("[a-\\", "a", id="an escape of nothing in a class"),
        pytest.param("a\\", "a\\", id="an escape of nothing"),
        pytest.param("*[", "x", id="malformed after a star"),
    ],
)
def test_malformed_glob_is_refused_and_matches_nothing(pattern: str, name: str) -> None:
    with pytest.raises(InvalidGlob, match="pattern"):
        compile_glob(pattern)
    assert not glob_matches(pattern, name)


def test_glob_of_many_stars_is_decided_at_once() -> None:
    assert not glob_matches("*a" * 100 + "b", "a" * 255)
    assert glob_matches("*a" * 100 + "*", "a" * 255)
