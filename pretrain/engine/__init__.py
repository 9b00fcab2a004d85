"""The only room that knows DeepSpeed.

    Train ─▶ deepspeed_settings ─▶ engine: state in, steps, state out     model ─▶ optimizer

engine.py              the only file that knows DeepSpeed: set-up, state in and out
deepspeed_settings.py  what DeepSpeed is told; which raw keys are refused
optimizer.py           AdamW: which parameters are frozen, and which are decayed
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
