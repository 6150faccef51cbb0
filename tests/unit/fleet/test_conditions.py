"""Conditions on metadata: which machines meet them, and what is no condition."""

import pytest

from fleet.conditions import read_condition, read_preference


@pytest.mark.parametrize(
    ("text", "met", "unmet"),
    [
        ("cpus>=8", ["8", "8.0", "16"], ["7.5", "many", "", None]),
        ("cpus>8", ["9"], ["8", None]),
        ("cpus<8", ["7", "-1"], ["8", None]),
        ("cpus<=8", ["8"], ["8.5", None]),
        ("disk!=hdd", ["ssd", None], ["hdd"]),
        ("region in eu,us", ["eu", "us"], ["asia", "eu,us", None]),
        ("region not in eu,us", ["asia", None], ["eu"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_condition_is_met(text: str, met: list[str | None], unmet: list[str | None]) -> None:
    condition = read_condition(text)
    assert condition is not None
    assert str(condition) == text
    for values, answer in ((met, True), (unmet, False)):
        for value in values:
            has = {} if value is None else {condition.key: value}
            assert condition.is_met(has) is answer, value


@pytest.mark.parametrize(
    "text",
    [
        "region=eu",
        "a==b",
        "cpus>=8=9",
        "cpus=>8",
        "=8",
        ">=8",
        "cpus>=",
        "region in",
        "in eu",
        "a>>8",
    ],
)
def test_what_the_original_may_mean_is_no_condition(text: str) -> None:
    assert read_condition(text) is None


def test_preference_may_be_for_one_value() -> None:
    preferred = read_preference("region=eu")
    assert preferred is not None
    assert preferred.is_met({"region": "eu"})
    assert not preferred.is_met({})
