"""Memory and time of the output head's loss: whole, in chunks, and torch's own chunked one.

    python benchmarks/cross_entropy.py [--positions 1024] [--hidden 256] [--words 50304]

Each row is a process of its own: a head over random hidden states, forward and backward, the faster
of two passes. Peak memory is what the first pass adds to what was there before it, resident; the
allocator is told to give back what is freed, which it keeps otherwise for blocks below 32 MiB. The
error is the largest difference of the gradients from those of the whole loss in fp32, as a part of
their largest value; the numbers that go in are the same in both types.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

sys.path.append(str(Path(__file__).parent))
from harness import Row, report, run

from pretrain.training.objective import ChunkedHead, Objective

WAYS = ("whole", "chunked", "torch")
NAMES = {
    "whole": "logits of all positions",
    "chunked": "in chunks (train.cross_entropy: chunked)",
    "torch": "torch.nn.functional.linear_cross_entropy",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--positions", type=int, default=1024)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--words", type=int, default=50304)
    parser.add_argument("--chunk-logits", type=int, default=2**22)
    parser.add_argument("--one", nargs=3, metavar=("WAY", "DTYPE", "FILE"), help="internal")
    options = parser.parse_args()
    if options.one:
        way, dtype, file = options.one
        print(json.dumps(measured(way, dtype, file, options)))
        return
    sizes = [f"--positions={options.positions}", f"--hidden={options.hidden}"]
    sizes += [f"--words={options.words}", f"--chunk-logits={options.chunk_logits}"]
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**20)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        exact = Path(folder) / "whole-float32.pt"
        for dtype in ("float32", "bfloat16"):
            for way in WAYS:
                file = Path(folder) / f"{way}-{dtype}.pt"
                ran = run([sys.executable, __file__, *sizes, "--one", way, dtype, str(file)])
                found = json.loads(ran.output.splitlines()[-1])
                rows.append({"loss": NAMES[way], "dtype": dtype, **found, **errors(file, exact)})
    report("cross_entropy", {"head": rows})


def measured(way: str, dtype: str, file: str, options: argparse.Namespace) -> Row:
    torch.manual_seed(0)
    kind = getattr(torch, dtype)
    hidden = torch.randn(1, options.positions, options.hidden).bfloat16().to(kind)
    labels = torch.randint(0, options.words, (1, options.positions))
    head = torch.nn.Linear(options.hidden, options.words, bias=False).bfloat16().to(kind)
    peak_mb, seconds = 0.0, []
    for first in (True, False):
        hidden, head.weight.grad = hidden.detach().requires_grad_(), None
        before = reset_peak_mb()
        began = time.perf_counter()
        nll = losses(way, head, hidden, labels, options.chunk_logits)
        nll.sum().backward()
        seconds.append(time.perf_counter() - began)
        peak_mb = resident_mb("VmHWM") - before if first else peak_mb
    torch.save({"loss": nll.detach(), "hidden": hidden.grad, "head": head.weight.grad}, file)
    return {"peak_mb": peak_mb, "seconds": min(seconds)}


def losses(
    way: str, head: torch.nn.Linear, hidden: torch.Tensor, labels: torch.Tensor, chunk: int
) -> torch.Tensor:
    if way == "torch":
        return F.linear_cross_entropy(
            hidden[0],
            head.weight,
            labels[0],
            reduction="none",
            options=torch.nn.LinearCrossEntropyOptions(),
        )
    chunked = ChunkedHead(head, 0.0, chunk) if way == "chunked" else None

    def forward() -> torch.Tensor:
        return (chunked or head)(hidden)

    return Objective(0.0, chunked)(forward, {}, labels)[0]


def errors(file: Path, exact: Path) -> Row:
    found: dict[str, Any] = torch.load(file)
    expected: dict[str, Any] = torch.load(exact)
    loss = float(found["loss"].double().sum() / expected["loss"].double().sum()) - 1
    gradients = {
        f"{name}_gradient_error": float(
            (found[name].float() - expected[name].float()).abs().max()
            / expected[name].float().abs().max()
        )
        for name in ("hidden", "head")
    }
    return {"loss_error": loss, **gradients}


def reset_peak_mb() -> float:
    """Forget the peak so far (a child begins with its parent's) and give what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident_mb("VmRSS")


def resident_mb(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


if __name__ == "__main__":
    main()
