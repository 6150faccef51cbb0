"""Why a unit runs nowhere, in few words: each reason once, with how many machines it holds for.

For a few machines a refusal keeps a reason for each of them. Of many it says the same in one
sentence, which holds for all of them: nobody reads ten thousand reasons, and the store would keep
them once for every unit that waits.
"""

from collections.abc import Mapping

from fleet.machine import SHORT_ID_LENGTH, MachineId

# Up to so many machines a refusal tells of each.
MOST_TOLD = 100
_HOW_MANY_REASONS = 3


def short(machine: MachineId) -> str:
    """The machine as sentences name it."""
    return machine[:SHORT_ID_LENGTH]


def summarise(reasons: Mapping[str, str]) -> str:
    """The reasons, by machine, as one sentence."""
    if "" in reasons:
        return reasons[""]
    machines: dict[str, list[MachineId]] = {}
    for machine, reason in sorted(reasons.items()):
        machines.setdefault(reason, []).append(MachineId(machine))
    told = [
        f"machine {short(found[0])}: {reason}"
        if len(found) == 1
        else f"{len(found)} machines: {reason}"
        for reason, found in machines.items()
    ]
    return _sentence(told)


def summarise_counts(counts: Mapping[str, int]) -> str:
    """The reasons, with how many machines each holds for, as one sentence; the widest first.

    Large counts are rounded, so that a machine that comes or goes changes few sentences.
    """
    widest = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return _sentence([f"{_about(count)}: {reason}" for reason, count in widest if count])


def _about(count: int) -> str:
    if count < MOST_TOLD:
        return f"{count} machine{'' if count == 1 else 's'}"
    unit = 10 ** (len(str(count)) - 2)
    return f"about {round(count / unit) * unit:,} machines"


def _sentence(told: list[str]) -> str:
    more = len(told) - _HOW_MANY_REASONS
    tail = [f"and {more} reasons more"] if more > 0 else []
    return "; ".join(["no machine suits it", *told[:_HOW_MANY_REASONS], *tail])
