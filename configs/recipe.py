"""The sections of a recipe. Frozen: a change is a new recipe, never an assignment."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)

from configs.evals import Evals
from configs.section import Fraction, PositiveCount, Section
from configs.sweep import Sweep
from configs.units import Share

Weights = dict[str, Annotated[float, Field(gt=0)]]
LR_PHASES = ("warmup", "stable", "anneal")
"""The phases of the learning rate, each of which may carry a mix under its name."""
RATE_WORDS = ("auto", "continued")
"""What ``schedule.peak_lr`` can be besides a number."""


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _rate(value: float | str) -> float | str:
    if value in RATE_WORDS:
        return value
    try:
        rate = float(value)  # YAML reads 1e-4, without a point, as a string
    except ValueError:
        rate = math.nan
    if not 0 < rate < 1:
        raise ValueError(f"a learning rate is between 0 and 1, or {' or '.join(RATE_WORDS)}")
    return rate


class Base(Section):
    """The checkpoint that training starts from."""

    model: str | None = None
    """Hub id, Hugging Face folder, or the folder of an Alloy run (its newest checkpoint)."""
    revision: str | None = None
    """Hub revision, for models that publish their stages."""
    architecture: dict[str, Any] | None = None
    """A transformers config (with ``model_type``) to start from random weights instead."""
    embedding_std: Annotated[float, Field(gt=0)] | None = None
    """Standard deviation of random embeddings; left out: the architecture's own. An optimizer
    step changes wide embeddings relatively less."""
    residual_scale: Annotated[float, Field(gt=0)] | None = None
    """Factor on the random output projections of attention and MLP, where GPT-2 has
    1/sqrt(2 x layers); left out: 1."""
    step: Annotated[int, Field(gt=0)] | None = None
    """Checkpoint of an Alloy run, by its step; left out: its newest good one."""
    start: Literal["weights", "weights+moments"] = "weights"
    """What is taken over: optimizer moments exist only in the folder of an Alloy run."""
    data: Literal["fresh", "continued"] = "fresh"
    """continued: sources that the run named in ``model`` read are read on where it stopped, in
    its order, and their ``max_epochs`` count its reading too; its tokens are counted on.
    fresh: every source begins anew."""
    compare_with: str | None = None
    """The model that arms are compared with, where it is not ``model`` itself: the annealed
    sibling of an un-annealed start. Arms end annealed, so their reference must be too."""
    compare_with_revision: str | None = None
    """Hub revision of ``compare_with``."""

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if (self.model is None) == (self.architecture is None):
            raise ValueError("give exactly one of base.model and base.architecture")
        if self.architecture is not None and "model_type" not in self.architecture:
            raise ValueError("base.architecture needs a model_type, such as llama")
        if self.architecture is not None and self.start != "weights":
            raise ValueError("random weights have no moments: base.start must be weights")
        if self.architecture is not None and (self.step is not None or self.data != "fresh"):
            raise ValueError("random weights come of no run: base.step and base.data have no use")
        return self


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


class Mix(Section):
    """How the sources share the training."""

    unit: Literal["supervised_tokens", "tokens"] = "supervised_tokens"
    """What a share counts: targets of the loss, or all tokens of the rows."""
    general: Fraction = 0.25
    """Share of all general sources together; the domain gets the rest."""
    weights: Weights = {}
    """Relative weights inside a side; a side without any is weighted by its sources' sizes."""


class PhaseMix(Section):
    """A phase's own mix, where it differs from ``mix``, and the length of a phase that is named.

    warmup, stable and anneal are as long as the learning rate says. Any other name is a part of
    the stable stretch, in the order of the recipe; what is left of the stretch is ``stable``,
    where it is listed or else before the others.
    """

    token_fraction: Annotated[Share, Field(gt=0, le=1)] | None = None
    """Share of the run's tokens; only for a named part of the stable stretch, which needs it."""
    general: Fraction | None = None
    """Share of the general sources in this phase; left out: ``mix.general``."""
    weights: Weights = {}
    """Relative weights inside a side in this phase; a side without any keeps ``mix.weights``."""


class Schedule(Section):
    """Length of the run and its learning rate, both by position in tokens."""

    tokens: PositiveCount
    """How long to train, rounded down to whole steps; ``tokens_of`` says what is counted."""
    tokens_of: Literal["run", "domain"] = "run"
    """run: positions of the whole run (rows x seq_len). domain: what the domain sources give, in
    ``mix.unit``, repeats counted; the general share comes on top, and the run's length follows."""
    batch_tokens: PositiveCount = 1_000_000
    """Positions in one optimizer step, rounded down to whole rows."""
    peak_lr: Annotated[float | str, AfterValidator(_rate)]
    """Learning rate of the stable phase. continued: the rate at which the base, an Alloy run,
    stands at its checkpoint. auto: that rate for an un-annealed run or catalog model, and a
    tenth of the base's own peak for an annealed one; `alloy plan` says which and why."""
    warmup: Fraction = 0.01
    """Share of the tokens with a rising learning rate."""
    anneal: Fraction = 0.2
    """Share of the tokens, at the end, with a falling learning rate; warmup + stable + anneal
    make up the whole."""
    anneal_shape: Literal["linear", "1-sqrt", "cosine", "exponential"] = "linear"
    """linear and 1-sqrt (Haegele et al. 2024) reach final_lr_ratio x peak at the end."""
    final_lr_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Learning rate at the end of the anneal, as a share of the peak."""
    phases: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")], PhaseMix] = {}
    """Mixes of single phases: warmup, stable, anneal, and named parts of the stable stretch."""

    @property
    def peak(self) -> float:
        """``peak_lr`` of a schedule whose start is known, so that it is a number."""
        assert isinstance(self.peak_lr, float)
        return self.peak_lr

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.warmup + self.anneal > 1 + 1e-12:
            raise ValueError(
                f"schedule.warmup {self.warmup:.0%} + schedule.anneal {self.anneal:.0%} "
                f"is {self.warmup + self.anneal:.0%}, over 100%"
            )
        if self.anneal_shape == "exponential" and self.final_lr_ratio == 0:
            raise ValueError("an exponential anneal needs schedule.final_lr_ratio over 0")
        return self

    @model_validator(mode="after")
    def _named_phases_fit(self) -> Self:
        for name, phase in self.phases.items():
            if name in LR_PHASES and phase.token_fraction is not None:
                raise ValueError(
                    f"schedule.phases.{name} takes no token_fraction: schedule.warmup and "
                    "schedule.anneal say how long it is"
                )
            if name not in LR_PHASES and phase.token_fraction is None:
                raise ValueError(
                    f"schedule.phases.{name} needs a token_fraction: it is a part of the stable "
                    "stretch (only warmup, stable and anneal have a length already)"
                )
        named, stretch = self.named_fraction, 1 - self.warmup - self.anneal
        if named > stretch + 1e-9:
            raise ValueError(
                f"the named phases take {named:.4%} of the tokens, and "
                f"{max(0.0, stretch):.4%} are left between warmup and anneal"
            )
        return self

    @property
    def named_fraction(self) -> float:
        """Share of the tokens that the named parts of the stable stretch take."""
        return math.fsum(p.token_fraction or 0.0 for p in self.phases.values())


class Train(Section):
    """How the steps are computed."""

    zero: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO stage."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Compute precision; masters and moments are fp32."""
    ranks: PositiveCount = 1
    """Processes on this machine: one a GPU, or CPU processes where there is none."""
    nodes: PositiveCount = 1
    """Machines, each with ``ranks`` processes; see ``hostfile`` and `alloy train --launcher`."""
    hostfile: str | None = None
    """Lines ``host slots=N`` of the machines, which the deepspeed launcher reaches over ssh."""
    micro_batch_rows: PositiveCount = 1
    """Most rows of one forward pass on one rank; what remains of a step is accumulated."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """On matrices only: not on norms, biases and embeddings."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """AdamW's decay of the first moment."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """AdamW's decay of the second moment."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """AdamW's term against division by zero."""
    grad_clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest global gradient norm."""
    z_loss: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the squared log-partition (PaLM); 1e-5..1e-4 steadies very deep anneals."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of random weights and dropout."""
    checkpoint_tokens: PositiveCount | None = None
    """Positions between two checkpoints; left out: only the stage ends are kept."""
    keep_last: PositiveCount = 2
    """Checkpoints kept besides the stage ends."""
    eval_tokens: PositiveCount | None = None
    """Positions between two measurements of held-out and retention bits-per-byte on the live
    model, also before the first step; left out: none. ``evals.bpb_tokens`` says on how much."""
    attention: Literal["auto", "flash", "flex", "sdpa", "eager"] = "auto"
    """How attention is computed. auto: on a GPU flash attention where it is installed, else flex
    attention; on a CPU SDPA; eager where the model has no other. What is named and cannot be had
    is refused."""
    cross_entropy: Literal["whole", "chunked"] = "whole"
    """chunked: logits are computed for some positions at a time and again in the backward pass:
    less memory, one more product of the head. For models whose logits are the head's."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    offload_optimizer: bool = False
    """Keep the fp32 masters and moments in the memory of the host (ZeRO 1 to 3)."""
    compile: bool = False
    """torch.compile the model; the first steps take minutes."""
    tensorboard: bool = False
    """Also write the metrics of each step for TensorBoard, into the run folder."""
    peak_tflops: Annotated[float, Field(gt=0)] | None = None
    """Peak of one device in TFLOP/s, for MFU; left out: known by the name of the GPU, and on a
    CPU no MFU is claimed."""
    timeout_minutes: Annotated[float, Field(gt=0)] = 30.0
    """Longest that ranks wait for each other before the one that hangs is named."""
    max_skipped_steps: Annotated[int, Field(ge=0)] = 10
    """Steps in a row with non-finite gradients before the run stops."""
    deepspeed: dict[str, Any] = {}
    """Raw DeepSpeed keys; the ones that Alloy owns are refused."""

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        if self.compile and self.cross_entropy == "chunked":
            raise ValueError("train.compile goes with train.cross_entropy: whole only")
        return self


class Budget(Section):
    """The forgetting that is allowed; left out: none is judged."""

    mmlu_points: Annotated[float, Field(gt=0)] | None = None
    """Largest drop of MMLU accuracy in points (hundredths)."""
    retention_bpb: Annotated[float, Field(gt=0)] | None = None
    """Largest rise of bits-per-byte on retention text."""
    domain_f1: Annotated[float, Field(gt=0)] | None = None
    """Largest loss of domain F1 (0 to 1) against the arm of a sweep with the least general text:
    what mixing may cost. The control and the saturation run are not judged by it."""
    tasks: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Largest drop of any task of ``evals.domain`` or ``evals.lm_eval``, by its name, in points
    (hundredths) of its headline against the base."""


class Recipe(Section):
    """All of a run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]
    """Name of the run; its folder is ``run_dir``/``name``."""
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
        return self


def _require_evals(asked: tuple[str, ...], names: tuple[str, ...]) -> None:
    """``data.decontaminate`` names evals of the recipe, each by a name of its own."""
    strangers = sorted(set(asked) - set(names))
    if strangers:
        valid = ", ".join(names) or "none: the recipe has no evals"
        raise ValueError(f"data.decontaminate names '{strangers[0]}'; valid names: {valid}")
    unclear = sorted(name for name in set(asked) if asked.count(name) + names.count(name) > 2)
    if unclear:
        raise ValueError(f"data.decontaminate: '{unclear[0]}' is named twice")
