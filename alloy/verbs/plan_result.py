"""What a plan answers: rows, epochs and shares of each phase, rates, disk, memory, arms."""

from dataclasses import dataclass
from typing import Any, ClassVar

from alloy.planning import DiskUse, RankMemory, StartCell
from alloy.sweep_record import ArmRepetition
from alloy.sweeps import repetition_line
from alloy.verbs.result import Result
from alloy.verbs.text_tables import packing_lines, phase_table, table
from mixing.audit import PackingLedger
from pretrain.training import RatePoint


@dataclass(frozen=True)
class SourceInPhase:
    """What a source gives to a phase. ``share`` is in the plan's unit."""

    name: str
    share: float
    rows: int
    tokens: int
    supervised_tokens: int
    epochs: float


@dataclass(frozen=True)
class PlannedPhase:
    """A phase; slot weights are multiples of 1/``denominator``, off by ``weight_error`` of
    themselves at most."""

    name: str
    steps: int
    rows: int
    tokens: int
    general_share: float
    denominator: int
    weight_error: float
    sources: tuple[SourceInPhase, ...]


@dataclass(frozen=True)
class DomainTotals:
    """What the domain sources give in the whole run, repeats counted."""

    rows: int
    tokens: int
    supervised_tokens: int


@dataclass(frozen=True)
class SharedSteps:
    """The first steps of an arm, which another arm trains."""

    arm: str
    steps: int
    tokens: int


@dataclass(frozen=True)
class PlannedArm:
    """An arm of the sweep, planned like the recipe itself."""

    name: str
    kind: str
    general_share: float
    seed: int | None
    settings: dict[str, Any]
    steps: int
    tokens: int
    shared: SharedSteps | None
    most_epochs: float
    repetition: ArmRepetition | None


@dataclass(frozen=True)
class PlannedSweep:
    """All arms; ``tokens_saved`` are trained once for several arms."""

    arms: tuple[PlannedArm, ...]
    tokens: int
    tokens_saved: int

    def lines(self) -> list[str]:
        """For people."""
        rows = [
            [
                arm.name,
                f"{arm.general_share:.2%}",
                f"{arm.steps:,}",
                f"{arm.tokens:,}",
                f"{arm.shared.tokens:,}" if arm.shared else "-",
                f"{arm.most_epochs:.3f}",
            ]
            for arm in self.arms
        ]
        matched = [arm.repetition for arm in self.arms if arm.repetition]
        columns = ["arm", "general", "steps", "tokens", "shared", "most epochs of a source"]
        return [
            "",
            f"sweep: {len(rows)} arms, {self.tokens:,} tokens in all",
            table(columns, rows),
            self._saved_line(),
            *([repetition_line(matched)] if matched else []),
        ]

    def _saved_line(self) -> str:
        """What the arms share, by the arms that train it."""
        if not self.tokens_saved:
            return "no two arms have first steps in common, so none are shared"
        trunks: dict[str, int] = {}
        for arm in self.arms:
            if arm.shared:
                trunks[arm.shared.arm] = trunks.get(arm.shared.arm, 0) + 1
        listed = ", ".join(f"{name} (by {count})" for name, count in trunks.items())
        return (
            f"shared: {self.tokens_saved:,} tokens "
            f"({self.tokens_saved / self.tokens:.1%}) are trained once, in {listed}"
        )


@dataclass(frozen=True)
class PlanResult(Result):
    """What a recipe will do. Tokens are positions (rows x ``seq_len``) unless they are called
    supervised; sizes of sources that are not built yet are estimates."""

    name: str
    estimated: bool
    """Whether some source is not built yet."""
    plan_hash: str
    unit: str
    """What a share counts: ``supervised_tokens`` or ``tokens``."""
    steps: int
    batch_rows: int
    seq_len: int
    tokens: int
    asked_tokens: int
    tokens_of: str
    """Whether ``asked_tokens`` are of the whole ``run`` or of its ``domain`` alone."""
    domain: DomainTotals
    epochs: dict[str, float]
    """Passes over each source."""
    packing: dict[str, PackingLedger]
    """What became of the stored documents of each source; empty for an estimate."""
    phases: tuple[PlannedPhase, ...]
    start: StartCell | None
    """None for a recipe without a base."""
    learning_rate: tuple[RatePoint, ...]
    """At the first and last step of each phase."""
    disk: DiskUse | None
    """None where the number of weights is not known."""
    memory: RankMemory | None
    sweep: PlannedSweep | None
    remarks: tuple[str, ...] = ()
    """Lines on the start, memory and disk, warnings among them; no part of ``to_json``."""

    only_saved: ClassVar[frozenset[str]] = frozenset({"remarks"})

    def table(self) -> str:
        """The plan for people."""
        mark = "  (estimated: not all sources are built)" if self.estimated else ""
        columns = [
            (f"share of {self.unit}", "share", ".4%"),
            ("rows", "rows", ","),
            ("tokens", "tokens", ","),
            ("supervised", "supervised_tokens", ","),
            ("epochs", "epochs", ".3f"),
        ]
        error = max(phase.weight_error for phase in self.phases)
        rates = "  ".join(f"{point.step}: {point.lr:.3g}" for point in self.learning_rate)
        return "\n".join(
            [
                f"{self.name}: {self.steps:,} steps of {self.batch_rows:,} rows x "
                f"{self.seq_len:,} = {self.tokens:,} tokens ({self._asked()}){mark}",
                phase_table(self.phases, columns),
                *packing_lines(self.packing),
                f"slot weights are off by at most {error:.2g} of themselves",
                f"learning rate by step: {rates}",
                f"plan hash {self.plan_hash}",
                *(self.sweep.lines() if self.sweep else []),
                *self.remarks,
            ]
        )

    def _asked(self) -> str:
        if self.tokens_of == "run":
            return f"asked {self.asked_tokens:,}"
        given = getattr(self.domain, self.unit)
        return f"{given:,} {self.unit} of the domain, asked {self.asked_tokens:,}"
