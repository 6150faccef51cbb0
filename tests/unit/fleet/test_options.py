"""The `[X-Fleet]` section: value syntax, legacy names, specifiers, what excludes what."""

from dataclasses import replace

import pytest

from fleet.conditions import Condition
from fleet.errors import InvalidUnit
from fleet.options import (
    KNOWN_OPTIONS,
    Preference,
    Requirements,
    check_unit,
    find_contradiction,
    fleet_options,
    read_requirements,
    split_values,
    unknown_options,
)
from fleet.resources import Resources
from fleet.unit import UnitFile, parse_unit


def _unit(*lines: str) -> UnitFile:
    return parse_unit("\n".join(["[X-Fleet]", *lines]))


def _asked(*lines: str, name: str | None = None) -> Requirements:
    return read_requirements(fleet_options(_unit(*lines)), name)


@pytest.mark.parametrize(
    ("value", "values"),
    [
        pytest.param("", [""], id="nothing is one empty value"),
        pytest.param("bar", ["bar"], id="a word"),
        pytest.param("foo bar", ["foo bar"], id="unquoted blanks part nothing"),
        pytest.param('"bar"', ["bar"], id="one in quotes"),
        pytest.param('"bar" "ping" "pong"', ["bar", "ping", "pong"], id="three in quotes"),
        pytest.param('"a"  "b"', ["a", "", "b"], id="two blanks have an empty value between"),
        pytest.param('"a b" "c"', ["a b", "c"], id="a blank in quotes"),
        pytest.param('"a"\t"b"', ["a\tb"], id="a tab parts nothing"),
        pytest.param('"a""b"', ["ab"], id="quotes side by side"),
        pytest.param('""', [""], id="empty quotes"),
        pytest.param('"', [""], id="a quote alone is its own beginning and end"),
        pytest.param('"bar', ['"bar'], id="only a beginning"),
        pytest.param('bar"', ['bar"'], id="only an end"),
        pytest.param('foo\\"bar', ['foo\\"bar'], id="a quote within"),
        pytest.param('"bar" "', ["bar", ""], id="an end that is a beginning"),
        pytest.param('"foo\\"bar"', ["foo\\bar"], id="an escaped quote toggles all the same"),
    ],
)
def test_value_splits(value: str, values: list[str]) -> None:
    assert split_values(value) == values


@pytest.mark.parametrize(
    ("lines", "machine_id"),
    [
        pytest.param([], None, id="none"),
        pytest.param(["MachineID=a"], "a", id="modern"),
        pytest.param(["X-ConditionMachineID=a"], "a", id="legacy"),
        pytest.param(["X-ConditionMachineBootID=a"], "a", id="older still"),
        pytest.param(["MachineID=a", "MachineID=b"], "a", id="the first line counts"),
        pytest.param(['MachineID="a" "b"'], "a", id="the first value counts"),
        pytest.param(
            ["X-ConditionMachineBootID=a", "X-ConditionMachineID=b"], "b", id="legacy before older"
        ),
        pytest.param(["X-ConditionMachineID=a", "MachineID=b"], "b", id="modern before legacy"),
        pytest.param(
            ["X-ConditionMachineBootID=a", "X-ConditionMachineID=b", "MachineID=c"],
            "c",
            id="modern before all",
        ),
    ],
)
def test_machine_id_is_the_first_of_the_newest_name(
    lines: list[str], machine_id: str | None
) -> None:
    assert _asked(*lines).machine_id == machine_id


@pytest.mark.parametrize(
    ("lines", "metadata"),
    [
        pytest.param([], {}, id="none"),
        pytest.param(["MachineMetadata=a=b"], {"a": {"b"}}, id="one"),
        pytest.param(['MachineMetadata="a=b" "c=d"'], {"a": {"b"}, "c": {"d"}}, id="two keys"),
        pytest.param(['MachineMetadata="a=b" "a=c"'], {"a": {"b", "c"}}, id="one key, two choices"),
        pytest.param(
            ["MachineMetadata=a=b", "X-ConditionMachineMetadata=a=c"],
            {"a": {"b", "c"}},
            id="legacy and modern together",
        ),
        pytest.param(
            ['MachineMetadata="a=b"  "c=d" '], {"a": {"b"}, "c": {"d"}}, id="two blanks do no harm"
        ),
        pytest.param(
            ['MachineMetadata="a=b" \\', '  "c=d"'], {"a": {"b"}, "c": {"d"}}, id="two lines"
        ),
        pytest.param(["MachineMetadata=a= b"], {"a": {" b"}}, id="nothing is trimmed"),
        pytest.param(["MachineMetadata=a=b*"], {"a": {"b*"}}, id="a star is a star"),
    ],
)
def test_metadata_has_choices_for_each_key(lines: list[str], metadata: dict[str, set[str]]) -> None:
    assert _asked(*lines).metadata == metadata


@pytest.mark.parametrize(
    ("lines", "asked"),
    [
        pytest.param(
            ['X-ConditionMachineOf="foo.service" "bar.service"'],
            Requirements(machine_of=("foo.service", "bar.service")),
            id="MachineOf has several in quotes",
        ),
        pytest.param(
            ["MachineOf=b.service", "X-ConditionMachineOf=a.service"],
            Requirements(machine_of=("a.service", "b.service")),
            id="MachineOf has the legacy ones first",
        ),
        pytest.param(
            ["MachineOf=a.service b.service"],
            Requirements(machine_of=("a.service b.service",)),
            id="MachineOf is not split at blanks",
        ),
        pytest.param(
            ["Conflicts=a*", "X-Conflicts=*b*"],
            Requirements(conflicts=("*b*", "a*")),
            id="Conflicts has the legacy ones first",
        ),
        pytest.param(
            ["Conflicts=a* \t b*", 'Conflicts="c* d*" "e*"'],
            Requirements(conflicts=("a*", "b*", "c*", "d*", "e*")),
            id="Conflicts is split at blanks",
        ),
        pytest.param(
            ["Conflicts=a* \\", "  b*"],
            Requirements(conflicts=("a*", "b*")),
            id="Conflicts goes on over lines",
        ),
        pytest.param(["Conflicts="], Requirements(), id="Conflicts of nothing"),
        pytest.param(
            ["Replaces=a.service", 'Replaces="b*" "c*"'],
            Requirements(replaces=("a.service", "b*", "c*")),
            id="Replaces adds up",
        ),
        pytest.param(["X-Replaces=a"], Requirements(), id="Replaces has no legacy name"),
        pytest.param(["X-Global=true"], Requirements(), id="Global has no legacy name"),
        pytest.param(
            ["HealthCommand=/bin/true", "HealthCommand=/bin/curl -fsS \\", "  http://[::1]:80/"],
            Requirements(health_command=("/bin/curl", "-fsS", "http://[::1]:80/")),
            id="the last HealthCommand counts, and goes on over lines",
        ),
        pytest.param(
            ["""HealthCommand="/opt/my app/check" '--name' "a b\""""],
            Requirements(health_command=("/opt/my app/check", "--name", "a b")),
            id="the quotes of a HealthCommand are its own",
        ),
        pytest.param(
            ["HealthCommand=/bin/true", "HealthCommand=", "HealthTimeout=1m30s"],
            Requirements(health_timeout_s=90.0),
            id="an empty HealthCommand is none",
        ),
        pytest.param(["machineid=a"], Requirements(), id="case counts"),
    ],
)
def test_requirements_are_read(lines: list[str], asked: Requirements) -> None:
    assert _asked(*lines) == asked


@pytest.mark.parametrize("word", ["true", "TRUE", "True", "yes", "Yes", "1", "on", "ON", "t", "T"])
def test_global_is_true(word: str) -> None:
    assert _asked(f"Global={word}").is_global


@pytest.mark.parametrize("word", ["false", "False", "no", "NO", "0", "off", "f", "", '""'])
def test_global_is_false(word: str) -> None:
    assert not _asked(f"Global={word}").is_global


def test_global_last_value_counts() -> None:
    assert not _asked("Global=true", "Global=false").is_global
    assert _asked("Global=false", "Global=true").is_global
    assert _asked('Global="false" "true"').is_global


def test_global_is_false_when_nobody_asks() -> None:
    assert not _asked().is_global
    assert not read_requirements([]).is_global


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("MachineMetadata=a", "write key=value", id="metadata without a value"),
        pytest.param("MachineMetadata=a=", "write key=value", id="metadata with an empty value"),
        pytest.param("MachineMetadata==b", "write key=value", id="metadata with an empty key"),
        pytest.param("MachineMetadata=", "write key=value", id="metadata of nothing"),
        pytest.param("MachineMetadata=a=b c=d", "write key=value", id="two without quotes"),
        pytest.param('MachineMetadata="a=b" "c"', "write key=value", id="the second of two"),
        pytest.param("X-ConditionMachineMetadata=a", "write key=value", id="by the legacy name"),
        pytest.param("Global=maybe", "write true or false", id="neither true nor false"),
        pytest.param("Global=y", "write true or false", id="a word the original held for false"),
        pytest.param("MachineID=", "give it a value", id="no machine"),
        pytest.param("MachineOf=", "give it a value", id="no unit"),
        pytest.param('MachineOf="" ""', "give it a value", id="nothing in quotes"),
        pytest.param("Replaces=", "give it a value", id="nothing to replace"),
        pytest.param("Conflicts=a[", "has a [ without its ]", id="a class without end"),
        pytest.param("Conflicts=ok b[]", "malformed", id="the second glob of a line"),
        pytest.param("Replaces=a\\ ", "lone backslash", id="an escape of nothing"),
        pytest.param("HealthCommand=curl x", "full path of a program", id="no path"),
        pytest.param("HealthCommand=-/bin/true", "without a prefix", id="a prefix"),
        pytest.param("HealthCommand=/bin/true 'x", "No closing quotation", id="an open quote"),
        pytest.param("HealthTimeout=0", "how long it may take", id="no time at all"),
        pytest.param("HealthTimeout=soon", "is no duration", id="a time that is none"),
    ],
)
def test_malformed_value_is_refused_with_its_line(line: str, message: str) -> None:
    unit = parse_unit(f"[Unit]\nDescription=x\n\n[X-Fleet]\n{line}\n")

    with pytest.raises(InvalidUnit) as refusal:
        check_unit(unit, path="web.service")

    name = line.partition("=")[0]
    assert str(refusal.value).startswith(f"web.service:5: [X-Fleet] {name}=")
    assert message in str(refusal.value)
    assert refusal.value.line == 5


@pytest.mark.parametrize(
    ("name", "specifier", "expanded"),
    [
        pytest.param("test.service", "%n", "test.service", id="full name"),
        pytest.param("test.service", "%N", "test", id="name without its type"),
        pytest.param("test.service", "%p", "test", id="prefix of a plain unit"),
        pytest.param("test.service", "a%ib", "ab", id="a plain unit has no instance"),
        pytest.param("ssh@2.service", "%n", "ssh@2.service", id="full name of an instance"),
        pytest.param("ssh@2.service", "%N", "ssh@2", id="instance without its type"),
        pytest.param("ssh@2.service", "%p", "ssh", id="prefix of an instance"),
        pytest.param("ssh@2.service", "%i", "2", id="instance"),
        pytest.param("ssh@2.service", "%p@%i.socket", "ssh@2.socket", id="several"),
        pytest.param("ssh@2.service", "%%i", "%2", id="no escape"),
        pytest.param("ssh@2.service", "%h%I%", "%h%I%", id="no other specifier"),
        pytest.param("a.b@c@d.service", "%p/%i/%N", "a.b/c@d/a.b@c@d", id="dots and at signs"),
        pytest.param("ssh", "%n", "%n", id="no dot, no expansion"),
        pytest.param("ssh@.service", "%p@%i", "%p@%i", id="a template is not run"),
    ],
)
def test_specifiers_are_expanded(name: str, specifier: str, expanded: str) -> None:
    assert _asked(f"MachineOf={specifier}", name=name).machine_of == (expanded,)


def test_specifiers_are_kept_without_a_name() -> None:
    assert _asked("MachineOf=%p@%i.service").machine_of == ("%p@%i.service",)


def test_specifiers_are_expanded_in_every_option() -> None:
    asked = _asked(
        "MachineMetadata=host=%i",
        "Conflicts=%p@* %n",
        "Replaces=old-%p.*",
        "HealthCommand=/opt/%p/check --unit %n 80%i",
        name="web@1.service",
    )

    assert asked.metadata == {"host": {"1"}}
    assert asked.conflicts == ("web@*", "web@1.service")
    assert asked.replaces == ("old-web.*",)
    assert asked.health_command == ("/opt/web/check", "--unit", "web@1.service", "801")


def test_template_may_ask_for_its_instance() -> None:
    unit = _unit("MachineMetadata=host=%i")

    assert check_unit(unit).metadata == {"host": {"%i"}}
    assert _asked("MachineMetadata=host=%i", name="web@.service").metadata == {"host": {"%i"}}


def test_unit_without_an_instance_may_not_ask_for_it() -> None:
    with pytest.raises(InvalidUnit, match="MachineMetadata=host= is malformed"):
        _asked("MachineMetadata=host=%i", name="web.service")


def test_name_with_an_escape_is_itself_in_a_glob() -> None:
    name = "dev-disk\\x2dby@1.service"
    asked = _asked("Conflicts=%p@*.service", "MachineOf=%n", name=name)

    assert asked.conflicts == ("dev-disk\\\\x2dby@*.service",)
    assert asked.machine_of == (name,)


_EVERYTHING = Requirements(
    machine_id="m",
    metadata={"a": frozenset({"b"})},
    machine_of=("p.service",),
    conflicts=("c.service",),
    replaces=("r.service",),
    is_global=True,
)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        pytest.param(
            ["MachineOf=a.service", "Conflicts=a.service"],
            'unresolvable requirements: peer "a.service" matches conflict "a.service"',
            id="a peer that conflicts",
        ),
        pytest.param(
            ["MachineOf=a.service", "MachineOf=b.service", "Conflicts=x*", "Conflicts=b.*"],
            'unresolvable requirements: peer "b.service" matches conflict "b.*"',
            id="the second peer by the second glob",
        ),
        pytest.param(
            ["MachineOf=a.service", "Replaces=*.service"],
            'unresolvable requirements: peer "a.service" matches replace "*.service"',
            id="a peer that is replaced",
        ),
        pytest.param(
            ["MachineOf=a.service", "Conflicts=a.service", "Replaces=a.service"],
            'unresolvable requirements: peer "a.service" matches conflict "a.service"',
            id="conflict before replace",
        ),
        pytest.param(
            ["MachineID=m", "MachineOf=a.service"],
            "MachineID cannot be used with Peers",
            id="machine and peer",
        ),
        pytest.param(
            ["MachineID=m", "Conflicts=a"],
            "MachineID cannot be used with Conflicts",
            id="machine and conflict",
        ),
        pytest.param(
            ["MachineID=m", "Global=true"],
            "MachineID cannot be used with Global",
            id="machine and global",
        ),
        pytest.param(
            ["MachineID=m", "Replaces=a"],
            "MachineID cannot be used with Replaces",
            id="machine and replace",
        ),
        pytest.param(
            ["Global=true", "MachineOf=a.service"],
            "Global cannot be used with Peers",
            id="global and peer",
        ),
        pytest.param(
            ["Global=true", "Replaces=a"],
            "Global cannot be used with Replaces",
            id="global and replace",
        ),
        pytest.param(
            ["Conflicts=a", "Replaces=b"],
            "Conflicts cannot be used with Replaces",
            id="conflict and replace",
        ),
        pytest.param(
            ["X-ConditionMachineBootID=m", "X-Conflicts=a"],
            "MachineID cannot be used with Conflicts",
            id="by their legacy names",
        ),
        pytest.param(
            ["MachineOf=web@%i.service", "Conflicts=web@*.service"],
            'unresolvable requirements: peer "web@%i.service" matches conflict "web@*.service"',
            id="before specifiers are expanded",
        ),
    ],
)
def test_requirements_that_exclude_each_other_are_refused(lines: list[str], problem: str) -> None:
    with pytest.raises(InvalidUnit) as refusal:
        check_unit(_unit(*lines), path="a.service")

    assert str(refusal.value) == f"a.service: {problem}"


def test_contradictions_are_told_in_the_originals_order() -> None:
    without_peers = replace(_EVERYTHING, machine_of=())
    without_conflicts = replace(without_peers, conflicts=())
    without_global = replace(without_conflicts, is_global=False)
    without_replaces = replace(without_global, replaces=())
    worlds = (_EVERYTHING, without_peers, without_conflicts, without_global, without_replaces)

    assert [find_contradiction(asked) for asked in worlds] == [
        "MachineID cannot be used with Peers",
        "MachineID cannot be used with Conflicts",
        "MachineID cannot be used with Global",
        "MachineID cannot be used with Replaces",
        None,
    ]


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([], id="nothing"),
        pytest.param(["Global=true", "MachineMetadata=a=b"], id="global and metadata"),
        pytest.param(["Global=true", "Conflicts=a"], id="global and conflict"),
        pytest.param(["Global=false", "MachineID=m"], id="not global and machine"),
        pytest.param(["MachineOf=a.service", "Conflicts=b*"], id="peer and another conflict"),
        pytest.param(["MachineOf=a.service", "Replaces=b*"], id="peer and another replaced"),
        pytest.param(["MachineID=m", "MachineMetadata=a=b"], id="machine and metadata"),
        pytest.param(["Foo=bar", "X-Peers=a"], id="unknown options"),
    ],
)
def test_requirements_that_go_together_are_accepted(lines: list[str]) -> None:
    check_unit(_unit(*lines))


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        pytest.param("MachineId", "MachineID", id="wrong case"),
        pytest.param("MachinID", "MachineID", id="a letter missing"),
        pytest.param("Conflict", "Conflicts", id="singular"),
        pytest.param("X-Global", "Global", id="a prefix too many"),
        pytest.param("X-Replaces", "Replaces", id="a legacy name that never was"),
        pytest.param("MachineMetaData", "MachineMetadata", id="camel case"),
        pytest.param("Pants", None, id="nothing near"),
    ],
)
def test_unknown_option_is_told_with_the_nearest(name: str, nearest: str | None) -> None:
    (unknown,) = unknown_options(_unit("Global=true", f"{name}=x"))

    assert (unknown.name, unknown.nearest, unknown.line) == (name, nearest, 3)


def test_known_options_are_not_told() -> None:
    assert unknown_options(_unit(*(f"{name}=x" for name in sorted(KNOWN_OPTIONS)))) == ()
    assert unknown_options(parse_unit("[Unit]\nPants=on\n")) == ()


def test_what_repels_is_all_that_a_machine_judges_by_itself() -> None:
    assert _EVERYTHING.only_repelling() == Requirements(
        conflicts=("c.service",), replaces=("r.service",)
    )


@pytest.mark.parametrize(
    ("line", "conditions"),
    [
        pytest.param("cpus>=8", ["cpus>=8"], id="at least"),
        pytest.param("cpus < 8", ["cpus<8"], id="less, with blanks"),
        pytest.param("disk!=hdd", ["disk!=hdd"], id="not"),
        pytest.param("region in eu, us", ["region in eu,us"], id="in"),
        pytest.param("region not  in eu", ["region not in eu"], id="not in"),
        pytest.param('"cpus>=8" "region in eu,us"', ["cpus>=8", "region in eu,us"], id="several"),
    ],
)
def test_metadata_may_be_compared(line: str, conditions: list[str]) -> None:
    asked = _asked(f"MachineMetadata={line}", "MachineMetadata=disk=ssd")
    assert [str(condition) for condition in asked.conditions] == conditions
    assert asked.metadata == {"disk": {"ssd"}}


@pytest.mark.parametrize(
    ("value", "metadata"),
    [
        pytest.param("a=b>c", {"a": {"b>c"}}, id="a comparison in the value"),
        pytest.param("a=in b", {"a": {"in b"}}, id="in, in the value"),
        pytest.param("a =b", {"a ": {"b"}}, id="blanks"),
        pytest.param("x in a=b", {"x in a": {"b"}}, id="in, in the key"),
    ],
)
def test_metadata_of_the_original_keeps_its_meaning(
    value: str, metadata: dict[str, set[str]]
) -> None:
    asked = _asked(f"MachineMetadata={value}")
    assert asked.metadata == metadata
    assert asked.conditions == ()


def test_number_to_compare_with_may_be_the_instance() -> None:
    line = "MachineMetadata=slots>=%i"
    assert check_unit(_unit(line)).conditions == (Condition("slots", ">=", ("%i",)),)
    assert _asked(line, name="w@8.service").conditions == (Condition("slots", ">=", ("8",)),)
    with pytest.raises(InvalidUnit, match="compares numbers"):
        _asked(line, name="w@many.service")


def test_wishes_limits_and_reservations_are_read() -> None:
    asked = _asked(
        "Spread=rack",
        "Spread=zone",
        "MaxPerMachine=2",
        "CPU=1.5",
        "Memory=1.5G",
        "Prefer=region=eu",
        'Prefer="disk in ssd,nvme 10" "cpus >= 8"',
    )
    assert asked == Requirements(
        spread=("rack", "zone"),
        max_per_machine=2,
        reserves=Resources(cpus=1.5, memory=1536 << 20),
        prefer=(
            Preference(Condition("region", "=", ("eu",)), 1),
            Preference(Condition("disk", "in", ("ssd", "nvme")), 10),
            Preference(Condition("cpus", ">=", ("8",)), 1),
        ),
    )


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("MachineMetadata=cpus>=many", ">= compares numbers, and 'many' is none"),
        ("MachineMetadata=cpus>=8=9", 'write key=value, or several as "a=b" "c>=d"'),
        ("MachineMetadata=region in eu,,us", "a value is missing between the commas"),
        ("Spread=rack zone", "write one metadata key; several are lines of their own, or quoted"),
        ("MaxPerMachine=0", "write a number from 1 on"),
        ("MaxPerMachine=many", "write a number from 1 on"),
        ("CPU=0", "write a number of processors such as 2 or 0.5"),
        ("CPU=50%", "write a number of processors such as 2 or 0.5"),
        ("Memory=2GB", "write a number of bytes such as 512M or 1.5G"),
        ("Memory=9999999T", "write a number of bytes such as 512M or 1.5G"),
        ("Prefer=eu", "write key=value, cpus>=8 or the like, and a weight after a blank"),
        ("Prefer=region=eu 0", "write a number from 1 on"),
        (
            "Prefer=region=eu much",
            "write key=value, cpus>=8 or the like, and a weight after a blank",
        ),
    ],
)
def test_malformed_wish_is_refused_with_its_line(line: str, advice: str) -> None:
    with pytest.raises(InvalidUnit) as caught:
        check_unit(_unit("# one", line))
    assert caught.value.line == 3
    assert str(caught.value) == f"line 3: [X-Fleet] {line} is malformed: {advice}"


@pytest.mark.parametrize("line", ["Spread=rack", "Prefer=region=eu", "MaxPerMachine=1"])
def test_global_unit_cannot_wish_for_machines(line: str) -> None:
    with pytest.raises(InvalidUnit, match=f"Global cannot be used with {line.partition('=')[0]}"):
        check_unit(_unit("Global=true", line))
