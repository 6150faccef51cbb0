"""Processors and memory: how they are written, and when a machine has no more."""

import pytest

from fleet.resources import (
    Resources,
    decode_resources,
    encode_resources,
    lacking,
    parse_bytes,
    parse_cpus,
    show_bytes,
    show_cpus,
)

GIB = 1 << 30
MACHINE = Resources(cpus=4, memory=8 * GIB)


@pytest.mark.parametrize(
    ("text", "count"),
    [("1", 1), ("512K", 512 << 10), ("1.5G", 1536 << 20), ("2T", 2 << 40), ("300M", 300 << 20)],
)
def test_bytes_are_read(text: str, count: int) -> None:
    assert parse_bytes(text) == count
    assert parse_bytes(show_bytes(count)) == count


@pytest.mark.parametrize("text", ["", "0", "-1", "2GB", "2g", "1e9", "G", "99999999T"])
def test_what_is_no_number_of_bytes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="number of bytes"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "50%", "1e3", "nan", "9999999999"])
def test_what_is_no_number_of_processors_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="number of processors"):
        parse_cpus(text)


def test_processors_are_shown_as_they_are_written() -> None:
    assert [show_cpus(parse_cpus(text)) for text in ("2", "0.5", "1.25")] == ["2", "0.5", "1.25"]


@pytest.mark.parametrize(
    ("asked", "reserved", "reason"),
    [
        (Resources(), [MACHINE, MACHINE], ""),
        (Resources(cpus=1, memory=GIB), [Resources(cpus=3, memory=7 * GIB)], ""),
        (Resources(cpus=0.1), [Resources(cpus=0.1)] * 39, ""),
        (
            Resources(cpus=1),
            [Resources(cpus=1.5)] * 2 + [Resources(cpus=0.5)],
            "it asks for CPU=1, 0.5 of 4 is free",
        ),
        (
            Resources(memory=2 * GIB),
            [Resources(memory=round(6.8 * GIB))],
            "it asks for Memory=2G, 1.2G of 8G is free",
        ),
        (Resources(cpus=5), [], "it asks for CPU=5, 4 of 4 is free"),
        (Resources(memory=GIB), [MACHINE, MACHINE], "it asks for Memory=1G, 0 of 8G is free"),
    ],
)
def test_room_is_what_others_have_not_reserved(
    asked: Resources, reserved: list[Resources], reason: str
) -> None:
    assert lacking(asked, MACHINE, reserved) == reason


def test_machine_that_does_not_tell_what_it_has_has_no_room() -> None:
    told = lacking(Resources(memory=GIB), Resources())
    assert told == "it asks for Memory=1G, and the machine does not say what it has"


def test_resources_are_stored_and_read() -> None:
    assert decode_resources(encode_resources(MACHINE)) == MACHINE
    assert decode_resources({}) == Resources()
