"""The only room that knows DeepSpeed.

    Train ─▶ deepspeed_settings ─▶ engine: state in, steps, state out     model ─▶ optimizer

engine.py              wraps DeepSpeed: set-up, steps, state; the only file that imports it
deepspeed_settings.py  writes DeepSpeed's config and refuses raw keys that would change results
optimizer.py           makes AdamW: which parameters are frozen, which decay
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
