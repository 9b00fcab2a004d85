"""The section of the checkpoint that training starts from."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from configs.section import Section


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
