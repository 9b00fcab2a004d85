"""The evals section of a recipe: what the base and every arm are measured on."""

import string
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.section import Fraction, PositiveCount, Section


class MmluTask(Section):
    """Multiple choice in MMLU's form."""

    path: str | None = None
    """Folder with test/*_test.csv and dev/*_dev.csv, in either published layout; left out: the
    hub."""
    hub: str | None = None
    """Instead of ``path``: a dataset of the Hugging Face hub in cais/mmlu's layout (Parquet files
    <subject>/test-* and dev-*), or its local folder; left out with ``path``: cais/mmlu."""
    revision: str | None = None
    """Revision of the hub's dataset; left out: its newest. The commit is in the result."""
    shots: Annotated[int, Field(ge=0, le=5)] = 5
    """Worked examples before each question, from the dev files."""
    limit_per_subject: PositiveCount | None = None
    """Questions of each subject; left out: all."""
    scorer: Literal["native", "lm_eval"] = "native"
    """native shares what prompts have in common; lm_eval is lm-eval's own Hugging Face backend,
    the oracle: the same numbers, many times slower."""
    generative: bool = False
    """Whether the model is also asked to write the letter: where it falls behind the likeliest
    letter, it has lost the form and not the knowledge."""
    items: str | None = None
    """JSONL of {subject, index, replayed}: which items ask for what the general sources hold,
    so that replayed and never-replayed knowledge are scored apart."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.path is not None and (self.hub or self.revision) is not None:
            raise ValueError("give path or hub, not both; revision goes with hub")
        return self


DomainMetric = Literal["exact_label", "label_path", "multi_label", "moderation", "extractive"]


class DomainTask(Section):
    """A labelled test set of the domain."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Short name, used in every table."""
    path: str
    """JSONL with a prompt and the expected label in each row."""
    prompt_column: str = "prompt"
    """Key of the text that the model continues."""
    template: str | None = None
    """Prompt with the row's columns in braces, such as "{comment}\\nLabel:", in place of
    ``prompt_column``; write a brace itself as two. Training rows should look the same."""
    label_column: str = "label"
    """Key of the expected answer: text, a list, or a verdict {flag, category}."""
    metric: DomainMetric = "exact_label"
    """label_path scores 'a > b > c' per level and as a whole; multi_label sets of labels;
    moderation Yes or No with categories, as text or JSON; extractive free answers."""
    labels: str | None = None
    """File with one label a line: known labels beside those of the test set."""
    likelihood: bool = False
    """Whether every label's probability is scored beside the generated answer."""
    max_new_tokens: PositiveCount = 32
    """Longest generated answer."""
    stop: Literal["line", "end"] = "line"
    """Where an answer ends: at the first line break, or only at the end of the text (JSON over
    several lines)."""
    fixed_precision: Annotated[Fraction, Field(gt=0)] = 0.9
    """Precision at which the recall is reported."""
    limit: PositiveCount | None = None
    """Test rows; left out: all."""

    @model_validator(mode="after")
    def _scorable(self) -> Self:
        if self.likelihood and self.metric in ("multi_label", "extractive"):
            raise ValueError(f"likelihood needs one label to a row, which {self.metric} has not")
        if self.template is not None:
            _require_columns(self.template)
        return self


def _require_columns(template: str) -> None:
    """A template names columns, and nothing else goes into its braces."""
    try:
        fields = [(f, s, c) for _, f, s, c in string.Formatter().parse(template) if f is not None]
    except ValueError as error:
        raise ValueError(f"template: {error}; write a brace itself as two") from None
    strange = [f for f, spec, convert in fields if not f.isidentifier() or spec or convert]
    if strange or not fields:
        named = f"names '{{{strange[0]}}}'" if strange else "names no column"
        raise ValueError(f"template {named}: write {{column}}, and a brace itself as two")


class LmEvalTask(Section):
    """A task of lm-eval, by its name there."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name in lm-eval; its rows come from the hub unless ``path`` is given."""
    path: str | None = None
    """JSONL of the test rows, for gsm8k, ifeval, arc_easy and hellaswag without the hub."""
    fewshot_path: str | None = None
    """JSONL of the worked examples, where ``path`` and ``shots`` are given."""
    shots: Annotated[int, Field(ge=0)] = 0
    """Worked examples before each question."""
    limit: PositiveCount | None = None
    """Test rows, the first ones; left out: all."""
    nltk_data: str | None = None
    """Folder of nltk's data with tokenizers/punkt_tab, which ifeval counts sentences with; left
    out: where nltk looks."""

    @model_validator(mode="after")
    def _has_rows(self) -> Self:
        wanted = self.path is not None and self.shots > 0
        if wanted != (self.fewshot_path is not None):
            raise ValueError("fewshot_path is given where path and shots are, and only there")
        if self.nltk_data is not None and "ifeval" not in self.name:
            raise ValueError("nltk_data is for ifeval")
        return self


class Evals(Section):
    """What the base and every arm are measured on, all in the same way."""

    mmlu: MmluTask | None = None
    domain: tuple[DomainTask, ...] = ()
    lm_eval: tuple[LmEvalTask, ...] = ()
    batch_tokens: PositiveCount = 8192
    """Tokens of one forward pass in evaluation."""
    bpb_tokens: PositiveCount = 200_000
    """Most tokens of each source for bits-per-byte."""
    bootstrap: PositiveCount = 2000
    """Resamples of an interval."""

    @property
    def names(self) -> tuple[str, ...]:
        """What is measured: ``mmlu`` where it is, and the domain tasks."""
        return (*(() if self.mmlu is None else ("mmlu",)), *(task.name for task in self.domain))
