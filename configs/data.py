"""The sections of what is tokenized: sources, and how they become rows."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from configs.section import Fraction, PositiveCount, Section
from configs.units import Share


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class Source(Section):
    """One named body of text."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Short name, used in every table."""
    role: Literal["domain", "general", "retention"]
    """domain: your text; general: text mixed in against forgetting; retention: general text
    that is never trained on, on which forgetting is judged."""
    path: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = ()
    """Files, folders or globs: rows in .jsonl, .csv, .tsv, .parquet or .arrow files, or one text
    in each .txt or .md file; all but .parquet and .arrow also as .zst and .gz. Of a folder its
    text files are read only where it has no others."""
    hub: str | None = None
    """Instead of ``path``: a dataset of the Hugging Face hub, streamed, or its local folder."""
    config: str | None = None
    """Configuration of the hub's dataset, where it has several."""
    split: str = "train"
    """Split of the hub's dataset."""
    revision: str | None = None
    """Revision of the hub's dataset; left out: its newest when it is first built, remembered in
    the store."""
    take: PositiveCount | None = None
    """Tokens of this source that are used: documents in a seeded order that goes by their text,
    until they reach it. Of the hub no more is read than that needs."""
    format: Literal["text", "prompt_response", "messages", "converse"] = "text"
    """text: all of it is trained on. The others are conversations of which only the assistant's
    turns are: two columns, OpenAI's ``messages``, or Bedrock's ``system`` and ``messages``. They
    are written by the tokenizer's own chat template, or as ``User:``, ``Assistant:`` and
    end-of-text where it has none, and are never split over rows."""
    text_column: str = "text"
    """Key of the text in each row, for format text."""
    prompt_column: str = "prompt"
    """Key of the user's turn, for format prompt_response."""
    response_column: str = "response"
    """Key of the assistant's turn, for format prompt_response."""
    system_column: str | None = None
    """Key of the system prompt, for format prompt_response; a row may lack it."""
    id_column: str = "id"
    """Key of the document's id; where a row has none, the file name and line are its id."""
    max_epochs: Annotated[float, Field(gt=0)] = 4.0
    """Most passes over this source in one run; a plan that needs more is refused. Four passes
    are worth nearly as much as fresh text (Muennighoff et al. 2023)."""
    heldout: Fraction = 0.005
    """Share of the documents kept out of training, by content hash, for bits-per-byte."""
    max_bad: Fraction = 0.0
    """Share of the rows that may be quarantined before the build fails."""
    max_doc_bytes: PositiveCount = 256_000_000
    """Longest document in UTF-8 bytes; longer ones are quarantined."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if bool(self.path) == (self.hub is not None):
            raise ValueError(f"source '{self.name}': give exactly one of path and hub")
        split = None if self.split == "train" else self.split  # a dump of a recipe names it too
        named = {"config": self.config, "revision": self.revision, "split": split}
        strangers = [name for name, value in named.items() if value is not None]
        if self.hub is None and strangers:
            raise ValueError(f"source '{self.name}': {strangers[0]} goes with hub, not with path")
        return self


class Data(Section):
    """What is tokenized, and how it becomes rows."""

    tokenizer: str | None = None
    """Folder, tokenizer.json or hub id; the base's own when left out."""
    store: str = ".alloy/store"
    """Folder of the built shards, shared by all recipes."""
    seq_len: Annotated[int, Field(ge=8)] = 4096
    """Tokens in a row."""
    packing: Literal["best_fit", "concat"] = "best_fit"
    """best_fit fills rows with whole documents (Ding et al. 2024); concat cuts a stream."""
    document_mask: bool = True
    """Whether attention stays inside a document and positions restart at each."""
    append_eos: bool = True
    """Whether each document ends in the tokenizer's end-of-text token."""
    shard_tokens: PositiveCount = 64_000_000
    """Most tokens in one shard file."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the order of rows, of what ``take`` takes, and of ``subset``."""
    subset: Annotated[Share, Field(gt=0, le=1)] = 1.0
    """Share of what may be trained on that is used, of every trained source: documents in a
    seeded order that goes by their text, the last one cut (a conversation is left whole). A sweep
    with ``sweep.full_tokens`` sets it in its arms."""
    decontaminate: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = ()
    """Evals whose items are left out of training, passage by passage: ``mmlu`` and names of
    ``evals.domain``."""
    max_contaminated: Fraction = 0.01
    """Largest share of a source's tokens that may be left out so; more is refused until a person
    has looked at the matches."""
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        names = [s.name for s in self.sources]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"two sources are called '{twice[0]}'")
        return self

    def by_role(self, role: str) -> tuple[Source, ...]:
        return tuple(s for s in self.sources if s.role == role)
