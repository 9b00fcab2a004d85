from .verbs import BuildResult as BuildResult
from .verbs import EvaluateResult as EvaluateResult
from .verbs import ExportResult as ExportResult
from .verbs import MergeResult as MergeResult
from .verbs import PlanResult as PlanResult
from .verbs import ReportResult as ReportResult
from .verbs import SweepResult as SweepResult
from .verbs import TrainResult as TrainResult
from .verbs import build as build
from .verbs import evaluate as evaluate
from .verbs import export as export
from .verbs import load as load
from .verbs import merge as merge
from .verbs import plan as plan
from .verbs import report as report
from .verbs import sweep as sweep
from .verbs import train as train

__version__: str
