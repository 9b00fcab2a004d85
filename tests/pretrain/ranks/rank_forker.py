"""Forks training ranks from a process that has imported everything, for proofs by many kills.

Each line of standard input is a JSON object of environment variables for each rank; the answer is
a line with the pids of the ranks. A rank's start takes a fraction of a second instead of ten.
"""

import json
import os
import signal
import sys
import traceback
from typing import NoReturn

from pretrain.ranks import worker


def fork(variables: dict[str, str]) -> int:
    pid = os.fork()
    if pid == 0:
        run(variables)
    return pid


def run(variables: dict[str, str]) -> NoReturn:
    """Be a rank, as if started by a launcher; its own end is ``os._exit`` too."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.update(variables)
    try:
        worker.main()
    except BaseException:  # noqa: BLE001  (a process of its own, which ends here)
        traceback.print_exc()
    os._exit(1)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that killed ranks leave no zombies
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what ranks print goes to the log
    for line in sys.stdin:
        print(json.dumps([fork(variables) for variables in json.loads(line)]), file=answers)
        answers.flush()


if __name__ == "__main__":
    main()
