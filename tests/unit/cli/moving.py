"""A unit on one machine, and on its way to another, as reports tell of it."""

from dataclasses import replace

from fleet.api.reports import ReportedAssignment, UnitReport
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.states import TargetState, UnitState

HERE = MachineId("113f16a7aaaaaaaaaaaaaaaaaaaaaaaa")
THERE = MachineId("2222bbbbaaaaaaaaaaaaaaaaaaaaaaaa")
WEB = UnitName("web.service")
UP = UnitState(
    unit=WEB,
    machine=HERE,
    hash="h",
    current=TargetState.LAUNCHED,
    load="loaded",
    active="active",
    sub="running",
    job="done",
)
UP_THERE = replace(UP, machine=THERE)
ROW = ReportedAssignment(machine=HERE, target=TargetState.LAUNCHED)
LEAVING = replace(ROW, leaving=True)
ROW_THERE = replace(ROW, machine=THERE)
REPORT = UnitReport(
    name=WEB,
    exists=True,
    desired=TargetState.LAUNCHED,
    machine=HERE,
    states=(UP,),
    assignments=(ROW,),
    addresses={HERE: "10.0.0.1", THERE: "10.0.0.2"},
)
MOVING = replace(REPORT, machine=THERE, assignments=(LEAVING, ROW_THERE))
