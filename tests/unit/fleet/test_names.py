"""Unit names: which texts are one, what they are made of, what a typed argument means."""

import pytest

from fleet.names import (
    MAX_NAME_BYTES,
    TEMPLATE_TYPES,
    UNIT_TYPES,
    InvalidName,
    complete_name,
    parse_name,
    split_name,
)

_LONGEST = "a" * (MAX_NAME_BYTES - len(".service")) + ".service"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("hello.service", id="a plain service"),
        pytest.param("web@.service", id="a template"),
        pytest.param("web@1.service", id="an instance"),
        pytest.param("web@a@b.service", id="an instance whose name has an at sign"),
        pytest.param("foo.1.service", id="a dot in the stem"),
        pytest.param("foo-1_2:3.service", id="dash, underscore and colon"),
        pytest.param("dev-disk\\x2dby.mount", id="an escape of systemd's"),
        pytest.param(".hidden.service", id="a leading dot"),
        pytest.param("-.mount", id="the root mount"),
        pytest.param(_LONGEST, id="255 bytes, systemd's longest"),
        *[pytest.param(f"x.{kind}", id=f"type {kind}") for kind in sorted(UNIT_TYPES)],
        *[pytest.param(f"x@1.{kind}", id=f"instance of {kind}") for kind in sorted(TEMPLATE_TYPES)],
    ],
)
def test_name_is_accepted(text: str) -> None:
    assert parse_name(text) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "unit name cannot be empty", id="nothing"),
        pytest.param("a" + _LONGEST, "unit name exceeds maximum length (255)", id="256 bytes"),
        pytest.param("é" * 124 + ".service", "maximum length", id="too long in bytes only"),
        pytest.param("foo", 'unit name must contain "."', id="no dot"),
        pytest.param("foo@bar", 'unit name must contain "."', id="an at sign and no dot"),
        pytest.param("foo.", 'unit name cannot end in "."', id="a dot at the end"),
        pytest.param("foo.service.", 'unit name cannot end in "."', id="a dot after the type"),
        pytest.param("foo.unknown", 'invalid unit type: "unknown"', id="a type systemd lacks"),
        pytest.param("foo.Service", 'invalid unit type: "Service"', id="a type in the wrong case"),
        pytest.param("x@1.mount", 'invalid unit type for template: "mount"', id="mount template"),
        pytest.param("x@.device", 'invalid unit type for template: "device"', id="device template"),
        pytest.param("a b.service", "invalid character ' ' in unit name", id="a blank"),
        pytest.param("a/b.service", "invalid character '/' in unit name", id="a slash"),
        pytest.param("../../x.service", "invalid character '/' in unit name", id="a way out"),
        pytest.param("a\nb.service", "invalid character", id="a line break"),
        pytest.param("a%i.service", "invalid character '%' in unit name", id="a specifier"),
        pytest.param("ü.service", "invalid character 'ü' in unit name", id="not ASCII"),
        pytest.param("\ud800.service", "invalid character", id="half a surrogate pair"),
        pytest.param("@.service", 'unit name cannot start in "@"', id="a template of nothing"),
        pytest.param("@1.service", 'unit name cannot start in "@"', id="an instance of nothing"),
        pytest.param(".service", "nothing before its type", id="a type only"),
    ],
)
def test_name_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidName) as refusal:
        parse_name(text)

    assert reason in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "prefix", "instance", "suffix", "template"),
    [
        pytest.param("foo.service", "foo", None, "service", None, id="neither"),
        pytest.param("foo@.service", "foo", "", "service", None, id="a template"),
        pytest.param("foo@bar.service", "foo", "bar", "service", "foo@.service", id="an instance"),
        pytest.param(
            "foo@a@b.service", "foo", "a@b", "service", "foo@.service", id="the first at sign parts"
        ),
        pytest.param(
            "foo.1@2.service", "foo.1", "2", "service", "foo.1@.service", id="the last dot parts"
        ),
        pytest.param("ssh@1.socket", "ssh", "1", "socket", "ssh@.socket", id="not a service"),
        pytest.param("foo", "foo", None, "", None, id="no dot"),
        pytest.param("a@b", "a", "b", "", "a@.", id="no dot but an at sign"),
    ],
)
def test_name_comes_apart(
    name: str, prefix: str, instance: str | None, suffix: str, template: str | None
) -> None:
    parts = split_name(name)

    assert (parts.prefix, parts.instance, parts.suffix) == (prefix, instance, suffix)
    assert parts.is_template == (instance == "")
    assert parts.is_instance == bool(instance)
    assert parts.template == template


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        pytest.param("foo", "foo.service", id="service is what is meant"),
        pytest.param("foo.service", "foo.service", id="a service"),
        pytest.param("foo.1", "foo.1.service", id="a dot makes no type"),
        pytest.param("foo@1", "foo@1.service", id="an instance"),
        pytest.param("foo.socket", "foo.socket", id="a socket"),
        pytest.param("foo.timer", "foo.timer", id="a timer"),
        pytest.param("foo.path", "foo.path", id="a path"),
        pytest.param("foo.device", "foo.device", id="a device"),
        pytest.param("foo.mount", "foo.mount", id="a mount"),
        pytest.param("foo.automount", "foo.automount", id="an automount"),
        pytest.param("foo.target", "foo.target.service", id="targets are not addressed"),
        pytest.param("foo.link", "foo.link.service", id="no type of systemd's"),
        pytest.param("units/foo", "foo.service", id="a path"),
        pytest.param("/etc/units/foo.timer", "foo.timer", id="an absolute path"),
        pytest.param("units/foo/", "foo.service", id="a slash at the end"),
        pytest.param("service", "service.service", id="a unit called service"),
    ],
)
def test_argument_means_a_unit(argument: str, name: str) -> None:
    assert complete_name(argument) == name
