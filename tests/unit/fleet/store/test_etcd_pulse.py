"""Signs of life of servers."""

import math

from fleet.store.etcd_pulse import Pulse


def test_server_that_never_answered_has_been_silent_for_ever() -> None:
    assert Pulse().age_s("http://a", 100.0) == math.inf


def test_latest_sign_of_life_counts_however_answers_overtake_each_other() -> None:
    pulse = Pulse()
    pulse.beat("http://a", 5.0)
    pulse.beat("http://a", 3.0)
    assert pulse.age_s("http://a", 7.0) == 2.0
    assert pulse.age_s("http://b", 7.0) == math.inf
