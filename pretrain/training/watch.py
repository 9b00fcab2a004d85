"""What a run shows while it goes: a line for people, metrics.jsonl, TensorBoard; rank 0 only."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import torch.distributed as dist

from pretrain.job import SHOWN
from pretrain.model import mfu
from pretrain.run_folder import Metrics, read_metrics
from pretrain.training.heldout import HELDOUT, Measurement

_LINES = 20
_LINE_S = 30.0
"""At least so many lines a run, and one in so many seconds."""


class Watch:
    """The outputs of rank 0. A resumed run drops the rows of steps that it will do again."""

    def __init__(
        self,
        folder: Path,
        steps: int,
        first_step: int,
        token_flops: float,
        peak: float | None,
        ranks: int,
        tensorboard: bool,
    ) -> None:
        self._steps = steps
        self._every = max(1, steps // _LINES)
        self._utilisation = (token_flops, peak, ranks)
        self._metrics = Metrics(folder / "metrics.jsonl", first_step)
        # A run that begins measures before its first step too, whatever an earlier try left.
        self._heldout = Metrics(folder / HELDOUT, first_step or -1)
        self._heldout_path = folder / HELDOUT
        self._line: tuple[float, int] | None = None
        self._board = None
        if tensorboard:
            # Imported where it is used: it takes seconds that few runs want to spend.
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)

    def step(self, row: dict[str, Any]) -> None:
        """A step was done."""
        row = self._with_mfu(row, row["tokens_per_second"])
        self._metrics.write(row)
        self._draw(row, row["step"])
        now = time.monotonic()
        if self._line is None:
            step_tokens = row["tokens"] // row["step"]
            self._line = now - step_tokens / row["tokens_per_second"], row["tokens"] - step_tokens
        since, tokens = self._line
        due = row["step"] % self._every == 0 or row["step"] == self._steps
        if due or now - since >= _LINE_S or not row["applied"]:
            # Of all the time since the last line: single steps vary, and saving takes time too.
            row = self._with_mfu(row, (row["tokens"] - tokens) / (now - since))
            say(progress_line(row, self._steps))
            self._line = now, row["tokens"]

    def measured(
        self, found: dict[str, Any], step: int, tokens: int, annealed: bool, plan: Measurement
    ) -> None:
        """Bits per byte were measured after ``step`` steps."""
        earlier = read_metrics(self._heldout_path)
        first = earlier[0]["sources"] if earlier else found
        warning = plan.warning(first, found, annealed)
        row = {"step": step, "tokens": tokens, "annealed": annealed, "sources": found}
        self._heldout.write({**row, "warning": warning})
        self._draw({f"bpb/{name}": part["bpb"] for name, part in found.items()}, step)
        figures = "  ".join(f"{name} {part['bpb']:.4f}" for name, part in found.items())
        say(f"step {step}/{self._steps}  bits per byte: {figures}")
        if warning is not None:
            say(f"warning: step {step}: {warning}")

    def close(self) -> None:
        self._metrics.close()
        self._heldout.close()
        if self._board is not None:
            self._board.close()

    def _with_mfu(self, row: dict[str, Any], tokens_per_second: float) -> dict[str, Any]:
        used = mfu(tokens_per_second, *self._utilisation)
        return {**row, "tokens_per_second": tokens_per_second, "mfu": used}

    def _draw(self, row: dict[str, Any], step: int) -> None:
        if self._board is None:
            return
        flat = {k: v for k, v in row.items() if isinstance(v, int | float)}
        flat |= {f"loss/{name}": v for name, v in row.get("loss_by_source", {}).items()}
        for name, value in flat.items():
            self._board.add_scalar(name, value, step)


def progress_line(row: dict[str, Any], steps: int) -> str:
    """A step's row for people."""
    left = (steps - row["step"]) * row["tokens"] / row["step"] / row["tokens_per_second"]
    used = "" if row["mfu"] is None else f"  MFU {row['mfu']:.1%}"
    shares = row["realised_shares"]
    mixed = "" if len(shares) < 2 else "  " + " ".join(f"{n} {s:.2%}" for n, s in shares.items())
    skipped = "" if row["applied"] else "  NON-FINITE GRADIENTS, step not applied"
    return (
        f"step {row['step']}/{steps}  loss {row['loss']:.4f}  lr {row['lr']:.3g}  "
        f"{row['tokens_per_second']:,.0f} tokens/s{used}{mixed}  {duration(left)} left{skipped}"
    )


def duration(seconds: float) -> str:
    """For people: seconds up to two minutes, then minutes, hours, days with the part below."""
    if round(seconds) <= 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours, days = minutes // 60, minutes // 1440
    if hours == 0:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if days == 0 else f"{days} d {hours % 24} h"


def say(line: str) -> None:
    """A line for the person who started the run; where that process is gone, this one saves and
    stops as if asked to."""
    try:
        print(SHOWN + line, flush=True)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        signal.raise_signal(signal.SIGTERM)


def say_once(line: str) -> None:
    """As ``say``, from rank 0 alone."""
    if not dist.is_initialized() or dist.get_rank() == 0:
        say(line)
