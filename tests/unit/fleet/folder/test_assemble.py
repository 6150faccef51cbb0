"""Desired units: files, drop-ins, templates with their instances, and fleet.toml."""

import pytest

from fleet.folder.assemble import Desired, assemble
from fleet.folder.dropins import dropin_folders
from fleet.folder.found import BadFolder, Found, FoundFile

WEB = "[Service]\nExecStart=/bin/true\n"


def file(path: str, text: str = WEB, *, link: str = "", root: int = 0) -> FoundFile:
    folder, _, name = path.rpartition("/")
    return FoundFile(name=name, path=path, folder=folder, data=text.encode(), link=link, root=root)


def folder(*files: FoundFile, stray: bool = False) -> Found:
    dropins = tuple(each for each in files if each.folder.endswith(".d"))
    settings = tuple(each for each in files if each.name == "fleet.toml")
    units = tuple(each for each in files if each not in dropins and each not in settings)
    return Found(units=units, dropins=dropins, settings=settings, stray=stray)


def made(*files: FoundFile) -> Desired:
    return assemble(folder(*files))


def targets(desired: Desired) -> dict[str, str]:
    return {name: unit.target.value for name, unit in desired.units.items()}


def problems(*files: FoundFile) -> tuple[str, ...]:
    with pytest.raises(BadFolder) as caught:
        made(*files)
    return caught.value.problems


# Units and their target states


def test_units_are_launched_and_templates_stored_without_a_word() -> None:
    assert targets(made(file("web.service"), file("a/job@.service"), file("job@1.service"))) == {
        "job@.service": "inactive",
        "job@1.service": "launched",
        "web.service": "launched",
    }


def test_link_to_the_template_is_an_instance() -> None:
    desired = made(file("job@.service"), file("job@7.service", link="job@.service"))
    assert targets(desired)["job@7.service"] == "launched"


def test_list_of_instances_makes_them_and_a_file_of_its_own_counts_more() -> None:
    toml = '[units."job@.service"]\ninstances = ["a", 2]\ntarget = "loaded"\n'
    own = file("job@2.service", "[Service]\nExecStart=/bin/false\n")
    desired = made(file("job@.service"), own, file("fleet.toml", toml))
    assert targets(desired) == {
        "job@.service": "inactive",
        "job@2.service": "loaded",
        "job@a.service": "loaded",
    }
    assert desired.units["job@2.service"].file.text == own.data.decode()  # type: ignore[index]


def test_nearest_word_on_a_target_state_counts() -> None:
    assert targets(
        made(
            file("fleet.toml", 'target = "loaded"\n[units."c.service"]\ntarget = "inactive"\n'),
            file("a.service"),
            file("c.service"),
            file("low/fleet.toml", 'target = "launched"\n'),
            file("low/b.service"),
            file("lower/d.service"),
        )
    ) == {
        "a.service": "loaded",
        "b.service": "launched",
        "c.service": "inactive",
        "d.service": "loaded",
    }


def test_one_instance_may_be_meant_otherwise_than_its_template_s_others() -> None:
    toml = """
[units."job@.service"]
instances = ["1", "2"]
[units."job@2.service"]
target = "inactive"
"""
    assert targets(made(file("job@.service"), file("fleet.toml", toml))) == {
        "job@.service": "inactive",
        "job@1.service": "launched",
        "job@2.service": "inactive",
    }


def test_settings_of_one_path_say_nothing_of_another() -> None:
    desired = made(
        file("fleet.toml", 'target = "loaded"\n'), file("a.service"), file("b.service", root=1)
    )
    assert targets(desired) == {"a.service": "loaded", "b.service": "launched"}


# Drop-ins


def test_dropins_are_appended_in_the_order_of_their_names_each_under_its_own() -> None:
    desired = made(
        file("web.service", "[Service]\nExecStart=/bin/true"),
        file("web.service.d/20-b.conf", "[X-Fleet]\nMachineMetadata=disk=ssd\n"),
        file("prod/web.service.d/10-a.conf", "# why\n[Service]\nRestart=always\n"),
    )
    assert desired.units["web.service"].file.text == (  # type: ignore[index]
        "[Service]\nExecStart=/bin/true\n"
        "\n# web.service.d/10-a.conf\n# why\n[Service]\nRestart=always\n"
        "\n# web.service.d/20-b.conf\n[X-Fleet]\nMachineMetadata=disk=ssd\n"
    )


def test_more_specific_dropin_takes_the_place_of_one_with_its_name() -> None:
    desired = made(
        file("job@.service"),
        file("job@1.service", link="job@.service"),
        file("service.d/10.conf", "[Unit]\nDescription=type\n"),
        file("job@.service.d/10.conf", "[Unit]\nDescription=template\n"),
        file("job@1.service.d/20.conf", "[Service]\nNice=1\n"),
        file("job@.service.d/30.conf", "[Service]\nUser=nobody\n"),
        file("job@1.service.d/30.conf", ""),
    )
    text = desired.units["job@1.service"].file.text  # type: ignore[index]
    assert "Description=template" in text
    assert "Description=type" not in text
    assert "Nice=1" in text
    assert "User=nobody" not in text
    assert "User=nobody" in desired.units["job@.service"].file.text  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "folders"),
    [
        pytest.param("web.service", ["service.d", "web.service.d"], id="plain"),
        pytest.param(
            "a-b-c.timer",
            ["timer.d", "a-.timer.d", "a-b-.timer.d", "a-b-c.timer.d"],
            id="with dashes",
        ),
        pytest.param(
            "job@1.service", ["service.d", "job@.service.d", "job@1.service.d"], id="an instance"
        ),
    ],
)
def test_dropin_folders_are_systemd_s(name: str, folders: list[str]) -> None:
    assert list(dropin_folders(name)) == folders


# What is wrong


@pytest.mark.parametrize(
    ("files", "told"),
    [
        pytest.param(
            [file("a/web.service"), file("b/web.service")],
            "b/web.service: the same unit is in a/web.service",
            id="a unit twice",
        ),
        pytest.param(
            [file("web.service", "[Service]\nExecStart\n")],
            "web.service:2: 'ExecStart' is neither a section, a comment nor Name=value",
            id="a malformed line",
        ),
        pytest.param([file("web.service", "# nothing\n")], "no options", id="an empty unit"),
        pytest.param(
            [file("web.service"), file("web.service.d/a.conf", "\n[X-Fleet]\nGlobal=maybe\n")],
            "web.service.d/a.conf:3: [X-Fleet] Global=maybe is malformed",
            id="a malformed drop-in, by its own line",
        ),
        pytest.param(
            [file("web.service"), file("web.service.d/a.conf", "# x\nNice=1\n[Service]\n")],
            "web.service.d/a.conf:2: 'Nice=1' stands before any section",
            id="a drop-in that begins without a section",
        ),
        pytest.param(
            [file("web.service", f"{WEB}ExecStop=/bin/a \\\n"), file("web.service.d/a.conf")],
            "web.service:3: the last line goes on",
            id="a file that a drop-in would go on",
        ),
        pytest.param(
            [file("web.service"), file("wbe.service.d/a.conf")],
            "wbe.service.d/a.conf: there is no unit that it belongs to; did you mean web.service?",
            id="a drop-in of nothing",
        ),
        pytest.param(
            [file("web.service", link="db.service")],
            "web.service: it is a link to db.service, and fleet knows no second names",
            id="an alias",
        ),
        pytest.param([file("@.service")], 'cannot start in "@"', id="a name that cannot be"),
        pytest.param(
            [file("web.service"), file("fleet.toml", "targt = 1\n")],
            "fleet.toml: unknown key 'targt'; did you mean target?",
            id="an unknown key",
        ),
        pytest.param(
            [file("web.service"), file("fleet.toml", '[units."web.service"]\ninstance = []\n')],
            "unknown key 'instance'; did you mean instances?",
            id="an unknown key of a unit",
        ),
        pytest.param(
            [file("web.service"), file("fleet.toml", "[[units]]\n")],
            "units has to be tables",
            id="no table of units",
        ),
        pytest.param(
            [file("web.service"), file("fleet.toml", 'target = "up"\n')],
            "invalid target state 'up'",
            id="an unknown target state",
        ),
        pytest.param(
            [file("web.service"), file("fleet.toml", "target = \n")],
            "fleet.toml: this is not TOML",
            id="no TOML",
        ),
        pytest.param(
            [file("web.service"), file("fleet.toml", '[units."wbe.service"]\ntarget="loaded"\n')],
            "there is no such unit in this folder; did you mean web.service?",
            id="settings of nothing",
        ),
        pytest.param(
            [file("web.service"), file("fleet.toml", '[units."web.service"]\ninstances=["1"]\n')],
            "only a template",
            id="instances of no template",
        ),
        pytest.param(
            [file("j@.service"), file("fleet.toml", '[units."j@.service"]\ninstances=["a b"]\n')],
            "invalid character",
            id="an instance that cannot be",
        ),
        pytest.param(
            [file("j@.service"), file("fleet.toml", '[units."j@.service"]\ninstances=[1, "1"]\n')],
            "is empty or there twice",
            id="an instance twice",
        ),
        pytest.param(
            [file("web.service"), file("a/fleet.toml", 'source = "x"\n')],
            "belongs into the fleet.toml at the top",
            id="a source further down",
        ),
        pytest.param(
            [
                file("web.service"),
                file("fleet.toml", 'source = "x"\n'),
                file("fleet.toml", 'source = "y"\n', root=1),
            ],
            "name different sources",
            id="two sources",
        ),
        pytest.param(
            [file("web.service"), file("fleet.toml", 'source = "a\\nb"\n')],
            "a source is a line of text",
            id="a source of two lines",
        ),
    ],
)
def test_mistake_is_told_with_its_place(files: list[FoundFile], told: str) -> None:
    (problem,) = problems(*files)
    assert told in problem


def test_all_mistakes_are_told_at_once() -> None:
    assert (
        len(problems(file("a.service", "x"), file("b.service", "[x"), file("c.timer.d/a.conf")))
        == 3
    )


def test_unknown_option_is_warned_of_by_file_and_line() -> None:
    desired = made(file("web.service"), file("web.service.d/a.conf", "[X-Fleet]\nGlobl=true\n"))
    assert desired.warnings == (
        'web.service.d/a.conf:2: unrecognized requirement in [X-Fleet] section: "Globl" '
        "(did you mean Global?)",
    )


def test_settings_of_other_units_are_passed_over_when_one_file_is_asked_for() -> None:
    toml = file("fleet.toml", '[units."other.service"]\ntarget = "loaded"\n')
    assert targets(assemble(folder(file("web.service"), toml, stray=True))) == {
        "web.service": "launched"
    }


def test_source_is_what_the_folder_calls_itself() -> None:
    assert made(file("web.service"), file("fleet.toml", 'source = "shop"\n')).source == "shop"
