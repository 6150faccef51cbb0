"""The witness of the rounds of faults: what counts as running on two machines at once."""

import pytest

from tests.faults.fencing_rounds import Life, overlaps

A = Life("a.service", "m1", 1.0, 2.0)


@pytest.mark.parametrize(
    ("other", "found"),
    [
        pytest.param(Life("a.service", "m2", 2.0, 3.0), True, id="touching"),
        pytest.param(Life("a.service", "m2", 0.0, 9.0), True, id="around-it"),
        pytest.param(Life("a.service", "m2", 2.1, 3.0), False, id="after-it"),
        pytest.param(Life("b.service", "m2", 1.0, 2.0), False, id="another-unit"),
        pytest.param(Life("a.service", "m1", 1.5, 3.0), False, id="the-same-machine"),
    ],
)
def test_overlap_is_of_one_unit_on_two_machines(other: Life, found: bool) -> None:
    assert bool(overlaps([A, other])) is found
    assert bool(overlaps([other, A])) is found
