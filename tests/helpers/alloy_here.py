"""`alloy` with the one rank of every run in its own process, for tests that start it often.

    python alloy_here.py sweep RECIPE

Nothing else differs: a rank that a launcher starts imports torch anew, which takes longer than all
that a tiny run computes.
"""

from typing import Any

from one_rank import joined

from alloy.cli import main
from alloy.runs import training
from pretrain.job import Job, write_job
from pretrain.ranks.assembly import run_job


def run_ranks(job: Job, _: Any) -> None:
    write_job(job)
    run_job(job, lambda: False)


if __name__ == "__main__":
    training.run_ranks = run_ranks
    with joined():
        main()
