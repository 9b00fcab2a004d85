from .arm import arms as arms
from .repetition import repeated_recipes as repeated_recipes
from .repetition import repetition_line as repetition_line
from .sharing import course as course
from .sharing import shared_starts as shared_starts
from .sharing import shared_tokens as shared_tokens
from .sweep import reference_name as reference_name
from .sweep import run_sweep as run_sweep
