"""Which model_types are causal language models of transformers, without importing it.

The import takes seconds, and `alloy plan` has one; the table is a literal in one of its files.
"""

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_TABLE = "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"


@cache
def causal_classes() -> dict[str, tuple[str, ...]]:
    """{model_type: names of its classes} of the installed transformers."""
    spec = find_spec("transformers")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "models" / "auto" / "modeling_auto.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            if names == [_TABLE]:
                pairs = ast.literal_eval(node.value.args[0])
                return {kind: (c,) if isinstance(c, str) else tuple(c) for kind, c in pairs}
    raise AssertionError(f"{path} holds no {_TABLE}")
