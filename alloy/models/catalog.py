"""The catalog of open models that publish their stages, and what the hub really has of them.

Facts are in open_models.yaml; a key that is not there is not known, and nothing is derived from
how such models are usually made.
"""

import re
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from httpx2 import HTTPError
from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError
from pydantic import Field

from configs import CheckFailed, Count, Section

_FILE = Path(__file__).with_name("open_models.yaml")


class Stage(Section):
    """A stretch of a model's training, by its end."""

    name: str
    revision: str | None = None
    """Branch at its end; in braces what varies between branches."""
    tokens: Count | None = None
    end_lr: float | None = None
    annealed: bool


class PublishedMmlu(Section):
    """A score of MMLU that somebody has published, and how it was got."""

    model: str
    """Hub id of the model that it is of, as released (its main branch)."""
    form: Literal["letter", "cloze"]
    shots: int
    accuracy: Annotated[float, Field(gt=0, lt=1)]
    harness: str
    """Whose prompts and scoring."""
    source: str


class OpenModel(Section):
    """What is known of a model and its sisters that were trained alike."""

    id: str
    also: tuple[str, ...] = ()
    schedule: str | None = None
    peak_lr: Annotated[float, Field(gt=0)] | None = None
    document_mask: bool | None = None
    """Whether attention stayed inside a document."""
    bos: bool | None = None
    """Whether every document began with a token of its own."""
    eos: bool | None = None
    """Whether every document ended in the end-of-text token."""
    borders_source: str | None = None
    """Where ``bos`` and ``eos`` were read."""
    replay: tuple[str, ...] = ()
    """Corpora that it was trained on, which are replay for it."""
    stages: tuple[Stage, ...]
    stable_until: int | None = None
    """Last step of a constant rate, in branches called ``step-N``."""
    main: str | None = None
    """What the main branch is, where it is the model as released."""
    recalled: tuple[str, ...] = ()
    """Keys that were not read at the source."""
    published: tuple[PublishedMmlu, ...] = ()

    @property
    def stage_ends(self) -> list[str]:
        """Branches at the ends of un-annealed stages whose rate is known."""
        open_ends = [s for s in self.stages if not s.annealed and s.end_lr is not None]
        return [s.revision for s in open_ends if s.revision and "{" not in s.revision]

    def open_rate(self, revision: str | None) -> float | None:
        """The learning rate at a branch, where it is known and has not been annealed away."""
        for stage in self.stages:
            if stage.revision == revision and not stage.annealed:
                return stage.end_lr
        step = re.fullmatch(r"step-(\d+)", revision or "")
        if step and self.stable_until and int(step[1]) <= self.stable_until:
            return self.peak_lr
        return None

    def is_final(self, revision: str | None) -> bool:
        """Whether a branch is the model as released, or the end of an annealed stage."""
        ends = {s.revision for s in self.stages if s.annealed and s.revision}
        return (revision in (None, "main") and self.main is not None) or revision in ends


@cache
def open_models() -> tuple[OpenModel, ...]:
    tree = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return tuple(OpenModel.model_validate(entry) for entry in tree["models"])


def known_model(name: str) -> OpenModel | None:
    return next((m for m in open_models() if name == m.id or name in m.also), None)


def nearest_model(name: str) -> str | None:
    """The id in the catalog that ``name`` may be meant for, with or without its organisation."""
    ids = {entry for m in open_models() for entry in (m.id, *m.also)}
    short = {entry.rpartition("/")[2].lower(): entry for entry in sorted(ids)}
    near = get_close_matches(name.rpartition("/")[2].lower(), short, 1)
    return short[near[0]] if near else None


def published_scores(name: str, revision: str | None) -> list[dict[str, Any]]:
    """What is published on MMLU of a model, its sisters or its other checkpoints, for
    ``evals.exam.published``; ``other_model`` says why a score is not of this one, or is None."""
    found = []
    for entry in open_models():
        names = {entry.id, *entry.also, *(score.model for score in entry.published)}
        for score in entry.published if name in names else ():
            other = None if score.model == name else f"published for {score.model}, not {name}"
            if other is None and revision not in (None, "main"):
                other = f"published for the released model, not revision {revision}"
            found.append(score.model_dump() | {"other_model": other})
    return found


def habits(model: OpenModel) -> str:
    """How the documents that a model was trained on were set apart, as far as that is known."""
    known = [
        {None: "attention: ?", True: "attention inside a document"}.get(
            model.document_mask, "attention across documents"
        ),
        {None: "BOS: ?", True: "BOS before each document"}.get(model.bos, "no BOS"),
        {None: "EOS: ?", True: "EOS after each document"}.get(model.eos, "no EOS"),
    ]
    source = f" ({model.borders_source})" if model.borders_source else ""
    return ", ".join(known) + source


def published_revisions(name: str) -> list[str]:
    """The branches and tags that the hub has of a model. CheckFailed where it cannot be asked."""
    try:
        refs = HfApi().list_repo_refs(name)
    except (HTTPError, HFValidationError, OSError, RuntimeError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckFailed(
            f"{name}: the hub cannot be asked for its revisions: {first}",
            "without --online the catalog needs no network",
        ) from None
    return sorted(ref.name for ref in (*refs.branches, *refs.tags))
