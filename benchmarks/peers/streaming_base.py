"""MosaicML Streaming without its vision half, which asks for torchvision."""

import importlib.util
import sys
import types

_spec = importlib.util.find_spec("streaming")
assert _spec is not None
_package = types.ModuleType("streaming")
_package.__path__ = list(_spec.submodule_search_locations or ())
sys.modules["streaming"] = _package
