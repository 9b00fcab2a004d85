"""Groups folders whose records may be compared: one base, one task, one budget."""

from collections.abc import Sequence
from dataclasses import replace

from alloy.reports.records import Entry, Records
from alloy.sweep_record import ArmEntry


def group_records(found: Sequence[Records]) -> list[Records]:
    """Folders whose bases are the same weights on the same items become one; order is kept.

    A folder whose base says neither weights nor items stays alone.
    """
    groups: list[list[Records]] = []
    for records in found:
        home = next((group for group in groups if _alike(group[0], records)), None)
        if home is None:
            groups.append([records])
        else:
            home.append(records)
    return [_merged(group) if len(group) > 1 else group[0] for group in groups]


def _alike(one: Records, other: Records) -> bool:
    left, right = one.base.summary, other.base.summary
    if None in (left.weights_hash, left.task_hash):
        return False
    return (
        left.weights_hash == right.weights_hash
        and left.task_hash == right.task_hash
        and one.sweep.budget == other.sweep.budget
    )


def _merged(group: Sequence[Records]) -> Records:
    """All arms under the base of the first; arms of one name get their folder's name before it."""
    sweeps = [records.sweep for records in group]
    names = [arm.spec.name for records in group for arm in records.arms]
    arms = [
        _renamed(arm, records.sweep.name) if names.count(arm.spec.name) > 1 else arm
        for records in group
        for arm in records.arms
    ]
    tokens = {sweep.tokens_per_arm for sweep in sweeps}
    seconds = [sweep.seconds for sweep in sweeps if sweep.seconds is not None]
    sweep = sweeps[0].model_copy(
        update={
            "name": " + ".join(sweep.name for sweep in sweeps),
            "seconds": sum(seconds) if seconds else None,
            "tokens_per_arm": tokens.pop() if len(tokens) == 1 else None,
            "note": " ".join(dict.fromkeys(s.note for s in sweeps if s.note)) or None,
            "arms": tuple(arm.spec for arm in arms),
        }
    )
    return Records(sweep=sweep, base=group[0].base, arms=tuple(arms))


def _renamed(arm: Entry, sweep: str) -> Entry:
    assert isinstance(arm.spec, ArmEntry)
    return replace(arm, spec=arm.spec.model_copy(update={"name": f"{sweep}: {arm.spec.name}"}))
