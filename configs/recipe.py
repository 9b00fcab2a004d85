"""A recipe: its sections together, and what must fit between them.

Frozen: a change is a new recipe, never an assignment.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from configs.base import Base
from configs.data import Data
from configs.evals import Evals
from configs.mix import Mix
from configs.schedule import Schedule
from configs.section import Section
from configs.sweep import Sweep
from configs.train import Train


class Budget(Section):
    """The forgetting that is allowed; left out: none is judged."""

    mmlu_points: Annotated[float, Field(gt=0)] | None = None
    """Largest drop of MMLU accuracy in points (hundredths)."""
    retention_bpb: Annotated[float, Field(gt=0)] | None = None
    """Largest rise of bits-per-byte on retention text."""
    domain_f1: Annotated[float, Field(gt=0)] | None = None
    """Largest loss of domain F1 (0 to 1) against the arm of a sweep with the least general text:
    what mixing may cost. That arm, the control and the saturation run are not judged by it."""
    tasks: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Largest drop of any task of ``evals.domain`` or ``evals.lm_eval``, by its name, in points
    (hundredths) of its headline against the base."""


class Recipe(Section):
    """All of a run."""

    name: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$")
    ]
    """Name of the run; its folder is ``run_dir``/``name``, and never above ``run_dir``."""
    run_dir: str = "runs"
    """Folder that holds the run folders."""
    note: str | None = None
    """A sentence for the report's caveats: what a reader must know about this data."""
    base: Base | None = None
    data: Data
    mix: Mix = Mix()
    schedule: Schedule
    train: Train = Train()
    evals: Evals = Evals()
    budget: Budget = Budget()
    sweep: Sweep | None = None

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        if self.base is None and self.data.tokenizer is None:
            raise ValueError("without a base, data.tokenizer says how to tokenize")
        random = self.base is not None and self.base.architecture is not None
        if random and self.data.tokenizer is None:
            raise ValueError("random weights have no tokenizer: give data.tokenizer")
        if self.schedule.batch_tokens < self.data.seq_len:
            raise ValueError(
                f"schedule.batch_tokens {self.schedule.batch_tokens} holds no row of "
                f"data.seq_len {self.data.seq_len}"
            )
        in_run = self.schedule.tokens_of == "run"
        if in_run and self.schedule.tokens < self.schedule.batch_tokens:
            raise ValueError(
                f"schedule.tokens {self.schedule.tokens} is under one step of "
                f"schedule.batch_tokens {self.schedule.batch_tokens}"
            )
        known = {s.name for s in self.data.sources if s.role != "retention"}
        weighted = {f"schedule.phases.{n}": p.weights for n, p in self.schedule.phases.items()}
        for where, weights in {"mix": self.mix.weights, **weighted}.items():
            strangers = sorted(set(weights) - known)
            if strangers:
                raise ValueError(
                    f"{where}.weights names '{strangers[0]}', which no trained source is"
                )
        _require_evals(self.data.decontaminate, self.evals.names)
        tasks = [task.name for task in (*self.evals.domain, *self.evals.lm_eval)]
        unknown = sorted(set(self.budget.tasks) - set(tasks))
        if unknown:
            raise ValueError(
                f"budget.tasks names '{unknown[0]}'; valid names: {', '.join(tasks) or 'none'}"
            )
        _require_measured(self.budget, self)
        return self


def _require_measured(budget: Budget, recipe: "Recipe") -> None:
    """What a budget is on must be measured: what is not measured is never kept."""
    retention = any(source.role == "retention" for source in recipe.data.sources)
    for name, allowed, measured, missing in (
        ("mmlu_points", budget.mmlu_points, recipe.evals.mmlu, "evals.mmlu"),
        ("domain_f1", budget.domain_f1, recipe.evals.domain, "a task of evals.domain"),
        ("retention_bpb", budget.retention_bpb, retention, "a source with role: retention"),
    ):
        if allowed is not None and not measured:
            raise ValueError(f"budget.{name} is judged on {missing}, which the recipe has not")


def _require_evals(asked: tuple[str, ...], names: tuple[str, ...]) -> None:
    """``data.decontaminate`` names evals of the recipe, each by a name of its own."""
    strangers = sorted(set(asked) - set(names))
    if strangers:
        valid = ", ".join(names) or "none: the recipe has no evals"
        raise ValueError(f"data.decontaminate names '{strangers[0]}'; valid names: {valid}")
    unclear = sorted(name for name in set(asked) if asked.count(name) + names.count(name) > 2)
    if unclear:
        raise ValueError(f"data.decontaminate: '{unclear[0]}' is named twice")
