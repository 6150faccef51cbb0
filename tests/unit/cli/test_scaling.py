"""Which instances of a template are to run, which are too many, and which are nobody's business."""

import pytest

from cli.scaling import NoTemplate, Scale, instance_of, parse_template, plan_scale, scaled_sentence
from fleet.errors import InvalidRequest
from fleet.names import UnitName

WEB = UnitName("web@.service")


def names(*instances: str) -> tuple[UnitName, ...]:
    return tuple(UnitName(f"web@{instance}.service") for instance in instances)


@pytest.mark.parametrize(
    ("there", "count", "scale"),
    [
        pytest.param((), 2, Scale(wanted=names("1", "2")), id="from nothing"),
        pytest.param(
            names("1", "9", "10", "2"),
            2,
            Scale(wanted=names("1", "2"), surplus=names("10", "9")),
            id="highest first, as numbers",
        ),
        pytest.param(names("1", "2"), 0, Scale(surplus=names("2", "1")), id="down to none"),
        pytest.param(
            (*names("blue", "0", "01", "٣", "3x", "4"), UnitName("db@9.service"), WEB),
            1,
            Scale(
                wanted=names("1"), surplus=names("4"), others=names("0", "01", "3x", "blue", "٣")
            ),
            id="what is not numbered from 1 is left alone",
        ),
        pytest.param((UnitName("web@7.timer"),), 0, Scale(), id="another type is another template"),
    ],
)
def test_scale_of(there: tuple[UnitName, ...], count: int, scale: Scale) -> None:
    assert plan_scale(WEB, count, there) == scale


@pytest.mark.parametrize(
    ("argument", "template"),
    [
        pytest.param("web@", "web@.service", id="short"),
        pytest.param("web@.timer", "web@.timer", id="with its type"),
        pytest.param("units/web@.service", "web@.service", id="in a folder"),
    ],
)
def test_template_is_meant_by(argument: str, template: str) -> None:
    assert parse_template(argument) == template


@pytest.mark.parametrize("argument", ["web", "web.service", "web@1", "web@1.service"])
def test_what_is_no_template_is_refused(argument: str) -> None:
    with pytest.raises(NoTemplate):
        parse_template(argument)


@pytest.mark.parametrize("argument", ["", "web@*", "@", "web@.socket@.service/"])
def test_what_is_no_name_is_refused(argument: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_template(argument)


def test_instance_keeps_the_folder_of_its_template() -> None:
    assert instance_of("a@b/web@.service", 3) == "a@b/web@3.service"


def test_sentence_tells_only_what_was_done() -> None:
    def told(starts: int, destroys: int, *, is_done: bool = True) -> str:
        return scaled_sentence(WEB, 1, starts=starts, destroys=destroys, is_done=is_done)

    assert told(0, 0) == "web@.service has 1 instance already"
    assert told(1, 0) == "Scaled web@.service to 1 instance: 1 started"
    assert told(0, 2) == "Scaled web@.service to 1 instance: 2 destroyed"
    assert told(1, 2, is_done=False) == (
        "Scaling web@.service to 1 instance: 1 to start, 2 to destroy"
    )
