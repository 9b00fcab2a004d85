"""Where the repository, its helpers of tests, the command and the real data are."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HELPERS = ROOT / "tests" / "helpers"
SHARED_DATA = ROOT.parent / "shared" / "data"
ALLOY = str(Path(sys.executable).with_name("alloy"))


def python_path(*more: Path) -> str:
    """PYTHONPATH of a process that runs a file of tests: the packages, the helpers, ``more``."""
    given = filter(None, [os.environ.get("PYTHONPATH")])
    return os.pathsep.join([str(ROOT), str(HELPERS), *map(str, more), *given])
