"""The table of numbers: a new measurement takes the place of the one about the same thing."""

from tests.faults.numbers import BEGIN, END, HEAD, render

POWER = "| power cut until active elsewhere | {} | ≤ 8 s | here |"
OUTAGE = "| etcd gone for 10 minutes | 0 violations | 0 units touched | here |"


def test_rows_are_put_in_order_and_replaced() -> None:
    page = f"before\n\n{BEGIN}\n{HEAD}\n{END}\n\nafter\n"

    once = render([OUTAGE, POWER.format("6 s")], page)
    twice = render([POWER.format("7 s")], once)

    assert once == f"before\n\n{BEGIN}\n{HEAD}\n{POWER.format('6 s')}\n{OUTAGE}\n{END}\n\nafter\n"
    assert twice == once.replace("6 s", "7 s")
