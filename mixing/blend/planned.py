"""What a compiled plan says: sources, phases, row counts, and the hash chain over the order."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from configs import UserError
from mixing.blend.shares import SourceSize, Unit
from mixing.packing import PackedRows

FORMAT = 2


@dataclass(frozen=True)
class PlanSource(SourceSize):
    """A source of a plan, bound to its content."""

    key: str
    """Key of the tokens in the store; empty while they are only estimated."""
    pack_hash: str
    """``PackedRows.hash`` of its rows; empty while they are only estimated."""
    first_use: int = 0
    """Rows that were read before this plan begins, repeats counted; its reading goes on there."""


@dataclass(frozen=True)
class PhaseSource:
    """A source's part in one phase."""

    name: str
    asked_share: float
    """Of the units of ``Plan.unit``."""
    slot_count: int
    """Slots in one period of ``PlanPhase.denominator`` slots."""
    rows: int
    """Exact, read off the slot sequence."""
    tokens: int
    """Expected: rows x the mean of the source."""
    supervised_tokens: int
    """Expected: rows x the mean of the source."""
    epochs: float
    """Passes over the source in this phase."""


@dataclass(frozen=True)
class PlanPhase:
    """A stretch of whole steps with one mix."""

    name: str
    first_row: int
    rows: int
    first_step: int
    steps: int
    general: float
    """Asked share of the general side."""
    denominator: int
    """Slots of one period; the period begins anew with each phase."""
    weight_error: float
    """Largest relative error of a slot weight, from quantising it to 1/denominator."""
    sources: tuple[PhaseSource, ...]
    """By name; sources without a share are left out."""
    marks: str
    """``slots.marks_of`` its slots, to find any of them without laying out all before."""
    hash: str
    """Of the order of all rows up to the end of this phase."""

    @property
    def slots(self) -> int:
        """Slots of the sequence that are used: a period, or all rows of a phase shorter than it."""
        return min(self.denominator, self.rows)


@dataclass(frozen=True)
class Plan:
    """The order of a run, as a function: ``seek.Order`` gives the row at each position.

    A position counts rows from the start of the run, so neither world size nor micro batch nor
    accumulation appears here.
    """

    seq_len: int
    batch_rows: int
    """Rows of one optimizer step."""
    steps: int
    seed: int
    unit: Unit
    sources: tuple[PlanSource, ...]
    """Trained sources, in the order of the recipe."""
    phases: tuple[PlanPhase, ...]
    estimated: bool
    """Whether sizes are estimates of sources that are not built yet; such a plan is for reading."""

    @property
    def rows(self) -> int:
        return self.steps * self.batch_rows

    @property
    def hash(self) -> str:
        """Of the order of all rows."""
        return self.phases[-1].hash

    @property
    def epochs(self) -> dict[str, float]:
        """Passes over each source in the whole run."""
        rows = {source.name: source.rows for source in self.sources}
        read = dict.fromkeys(rows, 0)
        for phase in self.phases:
            for part in phase.sources:
                read[part.name] += part.rows
        return {name: read[name] / rows[name] for name in rows}

    def past_hash(self, position: int) -> str:
        """Hash of everything that decides the order of rows 0 .. position - 1.

        Two plans with the same past hash agree on them, whatever either does later: a run may be
        extended, its later phases re-weighted, and sources added to them.
        """
        digest = _start_of_chain(self)
        for identity, rows in self._past(position):
            digest = _link(digest, identity, rows)
        return digest

    def common_rows(self, other: "Plan") -> int:
        """How many first rows are the same in both plans."""
        if _start_of_chain(self) != _start_of_chain(other):
            return 0
        common = 0
        for mine, theirs in zip(self._past(self.rows), other._past(other.rows), strict=False):
            if mine[0] != theirs[0]:
                break
            common += min(mine[1], theirs[1])
            if mine[1] != theirs[1]:
                break
        return common

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "hash": self.hash, **asdict(self)}

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> "Plan":
        """The plan back. Raises UserError for a plan of another version of this format, ValueError
        where its order does not hash to the stored hashes."""
        if tree.get("format") != FORMAT:
            raise UserError(
                f"the run's plan has format {tree.get('format')!r}, this version reads {FORMAT}",
                "finish the run with the version that began it, or take another run_dir or name",
            )
        fields = {k: v for k, v in tree.items() if k not in ("format", "hash")}
        fields["sources"] = tuple(PlanSource(**source) for source in tree["sources"])
        fields["phases"] = tuple(
            PlanPhase(**{**phase, "sources": tuple(PhaseSource(**s) for s in phase["sources"])})
            for phase in tree["phases"]
        )
        plan = cls(**fields)
        if [p.hash for p in plan.phases] != [p.hash for p in with_hashes(plan).phases]:
            raise ValueError("the stored plan does not match its own hash")
        return plan

    def _past(self, position: int) -> Iterator[tuple[str, int]]:
        """(what decides the order, rows before ``position``) of each phase that has begun."""
        by_name = {source.name: source for source in self.sources}
        for phase in self.phases:
            rows = min(phase.rows, position - phase.first_row)
            if rows > 0:
                parts = [(by_name[part.name], part.slot_count) for part in phase.sources]
                identity = [[*_identity(source), count] for source, count in parts]
                yield json.dumps(identity), rows


def _identity(source: PlanSource) -> list[Any]:
    """What decides which rows the uses of a source are."""
    begun = [source.first_use] if source.first_use else []
    return [source.name, source.key, source.pack_hash, source.rows, *begun]


def plan_source(
    name: str, role: str, max_epochs: float, key: str, packed: PackedRows
) -> PlanSource:
    """A source of a plan from its packed rows. Sizes are those before erasures: slots, and with
    them the order of a running job, must not depend on them."""
    packed = replace(packed, erased=None)
    return PlanSource(
        name=name,
        role=role,
        rows=packed.rows,
        tokens=packed.tokens,
        supervised_tokens=packed.supervised_tokens,
        max_epochs=max_epochs,
        key=key,
        pack_hash=packed.hash,
    )


def with_hashes(plan: Plan) -> Plan:
    """The plan with the hash of each phase computed."""
    ends = [(phase, phase.first_row + phase.rows) for phase in plan.phases]
    return replace(plan, phases=tuple(replace(p, hash=plan.past_hash(end)) for p, end in ends))


def _start_of_chain(plan: Plan) -> str:
    return hashlib.sha256(f"alloy-order-1:{plan.seed}:{plan.seq_len}".encode()).hexdigest()


def _link(before: str, identity: str, rows: int) -> str:
    return hashlib.sha256(f"{before}:{rows}:{identity}".encode()).hexdigest()
