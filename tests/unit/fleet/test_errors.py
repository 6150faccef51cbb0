"""Errors: what their sentences say, and what builtin each one is as well."""

import pytest

from fleet.errors import FleetError, InvalidRequest, InvalidUnit, NotFound, SystemdError


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        pytest.param(InvalidUnit("no"), "no", id="nowhere"),
        pytest.param(InvalidUnit("no", path="a.service"), "a.service: no", id="in a file"),
        pytest.param(InvalidUnit("no", line=3), "line 3: no", id="in a line"),
        pytest.param(InvalidUnit("no", path="a.service", line=3), "a.service:3: no", id="in both"),
    ],
)
def test_invalid_unit_says_where(error: InvalidUnit, sentence: str) -> None:
    assert str(error) == sentence
    assert error.problem == "no"


def test_systemd_error_says_what_failed_on_what() -> None:
    error = SystemdError("start", "a.service", "Unit is masked.")

    assert str(error) == "systemd could not start a.service: Unit is masked."
    assert (error.action, error.unit, error.cause) == ("start", "a.service", "Unit is masked.")


def test_errors_are_the_builtins_that_fit() -> None:
    assert isinstance(InvalidUnit("x"), ValueError)
    assert isinstance(InvalidRequest("x"), ValueError)
    assert isinstance(NotFound("x"), LookupError)
    assert all(issubclass(kind, FleetError) for kind in (InvalidUnit, NotFound, SystemdError))
