"""Says what a start keeps and what begins anew, and refuses starts that cannot go well.

{weights | weights+moments} x {rate continued | re-warmed | given} x {counters kept | reset}
"""

import re
from dataclasses import dataclass
from pathlib import Path

from alloy.models import habits, known_model, local_model
from alloy.planning.planning import Planned
from alloy.planning.starting import StartPoint
from checkpoints import Checkpoint, chosen, is_alloy, read_object, text_part
from configs import Base, Data, UserError
from mixing.blend import Plan
from pretrain.model import require_positions
from pretrain.training import first_steps

_INSTRUCT = re.compile(r"(^|[-_/.])(instruct|chat|it|sft|dpo|rlhf|think)([-_/.]|$)", re.IGNORECASE)
RESIDUAL = (
    "train the base model instead, then `alloy merge --base BASE --trained RUN --add INSTRUCT`"
)


@dataclass(frozen=True)
class StartCell:
    """The cell of the matrix that a start is."""

    weights: str
    """The base's name, or ``random``."""
    moments: str
    """``kept`` or ``begin at zero``."""
    rate: str
    """``continued``, ``re-warmed`` or ``given``."""
    peak_lr: float
    reason: str
    """Where the peak rate comes from."""
    warmup_steps: int
    counters: str
    """``kept`` where the order of data goes on from the parent, else ``reset``."""
    tokens_before: int
    """Tokens that the parent had been trained on; 0 where the order of data begins anew."""

    def sentence(self, step: int | None, revision: str | None) -> str:
        """The cell in a line, for people. ``step`` and ``revision`` are those of the base."""
        at = f", step {step}" if step is not None else f" at {revision}" if revision else ""
        counters = (
            f"data goes on after {self.tokens_before:,} tokens"
            if self.counters == "kept"
            else "data begins anew"
        )
        random = self.weights == "random"
        weights = "random weights" if random else f"weights of {self.weights}"
        many = self.warmup_steps
        warm = f" after {many:,} step{'s' * (many > 1)} of warm-up" if many else ""
        return (
            f"{weights}{at}; moments {self.moments}; "
            f"rate {self.rate}, {self.peak_lr:.4g}{warm} ({self.reason}); {counters}"
        )


def warm_steps_needed(steps: int) -> int:
    """Least warm-up of an optimizer whose moments start at zero: 1% of the steps, or 100."""
    return min(100, round(0.01 * steps))


def warmup_percent(steps: int) -> str:
    """``schedule.warmup``, in per cent, that gives ``warm_steps_needed`` of ``steps``."""
    return f"{100 * warm_steps_needed(steps) / steps:.3g}"


def require_rows_fit(base: Base, data: Data) -> None:
    """Before hours of building: rows of ``data.seq_len`` tokens must be within the positions of the
    base, where its config is to be had. Raises UserError; the ranks ask the model itself."""
    config = base.architecture or {}
    if base.model is not None:
        config = read_object(_model_folder(base, base.model) / "config.json")
    text = text_part(config)
    require_positions(data.seq_len, text.get("max_position_embeddings", text.get("n_positions")))


def _model_folder(base: Base, model: str) -> Path:
    if is_alloy(Path(model)):
        return chosen(Path(model), base.step, deep=False).path
    return local_model(model, base.revision, weights=False)


def start_cell(start: StartPoint, plan: Plan, reached: Checkpoint | None = None) -> StartCell:
    """The cell of the matrix that this start is. Raises UserError for one that is refused.

    ``reached`` is the run's own newest good checkpoint. A run that has one goes on with the moments
    in it: its warm-up was judged when it began, and what was trained of it cannot change.
    """
    base = start.base
    assert base is not None
    warm, _ = first_steps(plan)
    moments = base.start == "weights+moments"
    needed = warm_steps_needed(plan.steps)
    begins = reached is None or reached.step == 0
    if begins and not moments and warm < needed:
        raise UserError(
            f"base.start weights with {warm} steps of warm-up: without moments the first steps of "
            f"AdamW are as large as its last ones, {needed} of {plan.steps} are warmed at least",
            f"set schedule.warmup: {warmup_percent(plan.steps)}%",
        )
    if moments and start.rate_continues and warm > 0:
        raise UserError(
            f"the rate continues at {start.schedule.peak:g} with moments kept, and {warm} steps of "
            "warm-up would lower it first",
            "set schedule.warmup: 0%, or give schedule.peak_lr as a number to re-warm",
        )
    return StartCell(
        weights=base.model or "random",
        moments="kept" if moments else "begin at zero",
        rate="continued" if start.rate_continues else "re-warmed" if warm else "given",
        peak_lr=start.schedule.peak,
        reason=start.lr_reason,
        warmup_steps=warm,
        counters="kept" if base.data == "continued" else "reset",
        tokens_before=start.tokens_before,
    )


def start_lines(planned: Planned, reached: Checkpoint | None = None) -> list[str]:
    """What the start of a recipe is, for people; a base that looks instruction-tuned is named.

    ``reached`` and what is raised: as in ``start_cell``.
    """
    base = planned.start.base
    if base is None:
        return []
    cell = start_cell(planned.start, planned.plan, reached)
    lines = ["start: " + cell.sentence(base.step, base.revision)]
    lines += [f"warning: passed over {line}" for line in planned.start.passed_over]
    if base.model is not None and planned.start.parent is None:
        folder = local_model(base.model, base.revision, weights=False)
        warning = instruct_warning(base.model, has_chat_template(folder))
        lines += [f"warning: {warning}"] if warning else []
        known = known_model(base.model)
        lines += [f"trained with {habits(known)}"] if known is not None else []
    return lines


def has_chat_template(folder: Path) -> bool:
    path = folder / "tokenizer_config.json"
    config = read_object(path) if path.is_file() else {}
    return "chat_template" in config or (folder / "chat_template.jinja").is_file()


def instruct_warning(name: str, has_chat_template: bool) -> str | None:
    """A line about a base that looks instruction-tuned; None where it does not."""
    sign = "its name says so" if _INSTRUCT.search(name) else None
    sign = sign or ("it has a chat template" if has_chat_template else None)
    if sign is None:
        return None
    return (
        f"{name} looks instruction-tuned ({sign}): continued pretraining takes much of that away; "
        + RESIDUAL
    )
