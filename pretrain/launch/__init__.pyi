from .launch import run_ranks as run_ranks
from .launchers import slurm_script as slurm_script
from .launchers import torchrun_lines as torchrun_lines
from .machines import named as named
