"""A rank that tells what it holds between steps, and with gradients, at each setting.

torchrun --nproc-per-node 2 states_here.py '[{"zero": 2, "precision": "bf16"}]' OUT
"""

import datetime
import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from mapped import in_memory, own
from transformers import AutoConfig, AutoModelForCausalLM

from configs import Train
from pretrain.engine.engine import Engine, join_ranks

SHAPE = {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 4}
PATIENCE = datetime.timedelta(minutes=1)


def held(train: Train) -> dict[str, int]:
    """Weights of a model, bytes of this rank before, during and after its second step."""
    before = in_memory().keys()
    config = AutoConfig.for_model("llama", vocab_size=2000, **SHAPE, **HEADS)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    count = sum(p.numel() for p in model.parameters())
    engine = Engine(model, train, 1, 1, PATIENCE)
    found = {"count": count}
    for moment in ("first", "second"):
        found[f"before the {moment}"] = own(before)
        engine.backward(
            engine.forward(input_ids=torch.arange(8).view(1, 8)).float().square().mean()
        )
        found[f"during the {moment}"] = own(before)
        engine.step(1e-4)
    return found


if __name__ == "__main__":
    join_ranks(PATIENCE)
    rows = [held(Train.model_validate(keys)) for keys in json.loads(sys.argv[1])]
    if dist.get_rank() == 0:
        Path(sys.argv[2]).write_text(json.dumps(rows), encoding="utf-8")
    dist.barrier()
    os._exit(0)
