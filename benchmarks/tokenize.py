"""python benchmarks/tokenize.py: the benchmark of benchmarks/tokenizing.py.

Scripts of this folder have it first in their path, where this file hides the standard library's
module of the same name; imported, it is therefore that module.
"""

import importlib.util
import os
import sys

if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    from tokenizing import main

    main()
else:
    _spec = importlib.util.spec_from_file_location(
        __name__, os.path.join(os.path.dirname(os.__file__), "tokenize.py")
    )
    assert _spec is not None and _spec.loader is not None  # noqa: PT018
    sys.modules[__name__] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[__name__])
