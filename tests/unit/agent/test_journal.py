from agent.journal import journal_matches
from fleet.names import UnitName

WEB = UnitName("web.service")


def test_lines_of_a_unit_are_its_processes_and_what_root_says_of_it() -> None:
    assert " ".join(journal_matches(WEB)) == (
        "_SYSTEMD_UNIT=web.service + _UID=0 UNIT=web.service"
        " + _UID=0 OBJECT_SYSTEMD_UNIT=web.service"
    )


def test_lines_of_a_users_unit_are_that_users() -> None:
    assert " ".join(journal_matches(WEB, user=1000)) == (
        "_SYSTEMD_USER_UNIT=web.service _UID=1000 + USER_UNIT=web.service _UID=1000"
    )
