from .adopting import begin_from as begin_from
from .building import build_recipe as build_recipe, open_built as open_built
from .erasing import erase_documents as erase_documents
from .evaluation import evaluate as evaluate
from .merging import RECORD as RECORD, average_last as average_last, average_steps as average_steps, merge_between as merge_between, merge_residual as merge_residual, open_part as open_part, told as told
from .stages import evaluate_stages as evaluate_stages
from .training import corpus_receipt as corpus_receipt, prepare_run as prepare_run, train_recipe as train_recipe
