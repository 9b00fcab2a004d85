"""The section of how steps are computed."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from configs.section import PositiveCount, Section


class Train(Section):
    """How the steps are computed."""

    zero: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO stage."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Compute precision; masters and moments are fp32."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """What the ranks compute on. auto: the GPUs of the machine that trains, where it has some;
    cuda: they must be there (AMD's too); cpu: never a GPU."""
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
    cross_entropy: Literal["whole", "chunked", "fused"] = "whole"
    """chunked: logits are computed for some positions at a time and again in the backward pass:
    less memory, one more product of the head. fused: torch's linear_cross_entropy, without z_loss;
    in bf16 it rounds the reported loss of each token. Both are for models whose logits are the
    head's."""
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
    stop_minutes: Annotated[float, Field(gt=0)] = 2.0
    """Time to save in when a run is stopped: Slurm asks for the stop so long before the job's time
    is over, and torchrun ends ranks that need longer."""
    max_skipped_steps: Annotated[int, Field(ge=0)] = 10
    """Steps in a row with non-finite gradients before the run stops."""
    deepspeed: dict[str, Any] = {}
    """Raw DeepSpeed keys that change time and memory alone; all others are refused."""

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        if self.compile and self.cross_entropy != "whole":
            raise ValueError("train.compile goes with train.cross_entropy: whole only")
        if self.z_loss and self.cross_entropy == "fused":
            raise ValueError("train.z_loss goes with train.cross_entropy: whole or chunked")
        return self
