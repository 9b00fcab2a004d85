"""sweep.json: what a sweep writes after each arm, and what the report and later starts read."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from configs import UserError

NAME = "sweep.json"
NOT_RUN = "not run yet"
NOT_FINISHED = "not finished yet"
"""Of an arm that a stop cut off."""
UNFINISHED = (NOT_RUN, NOT_FINISHED)
"""Reasons for no scores that are no failures: the next start of the sweep goes on there."""


class Entry(BaseModel):
    """Frozen; keys that this version does not know are kept."""

    model_config = ConfigDict(
        frozen=True, extra="allow", allow_inf_nan=False, populate_by_name=True
    )


class BaseEntry(Entry):
    """The model that arms are compared with; ``annealed``: whether its learning rate was decayed,
    None where it does not say."""

    name: str
    model: str | None = None
    run: str | None = None
    annealed: bool | None = None
    eval: str
    """Folder of its records, relative to the sweep's."""


class SharedSteps(Entry):
    """The first steps of an arm, where another one trained them."""

    arm: str
    steps: int
    tokens: int


class RepeatedSource(Entry):
    """Passes over a source in an arm and in the full run that it stands for."""

    name: str
    epochs: float
    full_epochs: float


class ArmRepetition(Entry):
    """How an arm repeats its sources: ``subset`` is the share of each that it reads."""

    full_tokens: int
    subset: float
    sources: tuple[RepeatedSource, ...]


class MergeOf(Entry):
    """How far a merge lies between the base (0) and an arm (1)."""

    share: float = Field(alias="lambda")
    of: str


class AverageOf(Entry):
    """The mean of so many last checkpoints of an arm."""

    checkpoints: int
    of: str


class ArmEntry(Entry):
    """An arm, or a model made of arms; folders are relative to the sweep's."""

    name: str
    kind: Literal["arm", "control", "saturation", "confirm", "merge", "average"]
    general_share: float | None
    """None of a merge and of an average, which were not trained."""
    tokens: int
    seed: int | None = None
    settings: dict[str, Any] = {}
    """Recipe keys that this arm sets besides its share and seed."""
    merge: MergeOf | None = None
    average: AverageOf | None = None
    ranks: int | None = None
    """Processes that trained it."""
    run: str | None
    eval: str
    repetition: ArmRepetition | None = None
    shared: SharedSteps | None = None
    failed: str | None = None
    """Why it has no scores."""


class BudgetEntry(Entry):
    """What is allowed: lost points of exam accuracy, risen bits per byte on retention text, domain
    F1 lost against the least general arm."""

    mmlu_points: float | None = None
    retention_bpb: float | None = None
    domain_f1: float | None = None
    tasks: dict[str, float] = {}
    """Lost points of any task's headline, by its name."""


class SweepRecord(Entry):
    """sweep.json as a whole."""

    name: str
    seconds: float | None = None
    """Of all starts of the sweep together."""
    tokens_per_arm: int | None = None
    """None where arms are of different lengths."""
    budget: BudgetEntry = BudgetEntry()
    note: str | None = None
    base: BaseEntry
    arms: tuple[ArmEntry, ...]

    def failures(self) -> list[str]:
        """A line for each arm without scores."""
        return [f"{arm.name}: {arm.failed}" for arm in self.arms if arm.failed]

    def to_json(self) -> dict[str, Any]:
        """The keys that were given, as sweep.json has them."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


def read_sweep(folder: Path) -> SweepRecord:
    """The record of a sweep's folder. Raises UserError where it is missing or damaged."""
    path = folder / NAME
    try:
        return SweepRecord.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        hint = "give the folder that `alloy sweep` wrote"
        raise UserError(f"{folder}: holds no {NAME}", hint) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        told = f"{where}: {first['msg']}" if where else first["msg"]
        raise UserError(f"{path}: {told}", "run `alloy sweep` again") from None
