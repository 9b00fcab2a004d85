"""The ``alloy`` command: names of the verbs, and errors as one line and an exit code.

Verbs are imported when they are used, so that help and plans come without loading torch.
"""

import importlib
import logging
import os
import signal
import sys

import click

from alloy import __version__
from configs import AlloyError, StopSignal, exit_code_of, raise_on_stop

_VERBS = {
    "demo": "Train and measure the embedded tiny world: the whole path in minutes.",
    "plan": "Say what a recipe will do: rows, epochs, learning rate, steps.",
    "build": "Tokenize the sources of a recipe into the store.",
    "corpus": "Verify a blended corpus, trace its documents, erase some, export it.",
    "train": "Train one recipe; running it again goes on where it stopped.",
    "eval": "Measure a model on a recipe's exam, domain tasks and held-out text.",
    "sweep": "Train and measure an arm for each general share of a recipe.",
    "report": "Write the forgetting report of a sweep.",
    "catalog": "Open models that publish their stages: ends, rates, what the hub has.",
    "checkpoints": "List and verify the checkpoints of a run.",
    "export": "Write a Hugging Face folder from a run's checkpoint.",
    "merge": "Blend a base with its continuation, or add what tuning made of it.",
}


class LazyGroup(click.Group):
    """A group whose commands live in ``alloy.commands.<name>`` as ``command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_VERBS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        module = "evaluate" if cmd_name == "eval" else cmd_name
        return importlib.import_module(f"alloy.commands.{module}").command

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_VERBS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="alloy")
def cli() -> None:
    """Blend your text with general text, continue pretraining, and measure what was forgotten."""


def main() -> None:
    """Entry point: 0 done, 1 a check failed or a run did not finish, 2 a mistake to correct, 130
    and 143 stopped by Ctrl-C and by SIGTERM."""
    # Child processes (tokenizing, ranks) must not import packages from the working directory,
    # where a user may well have folders called evals or configs.
    os.environ["PYTHONSAFEPATH"] = "1"
    # It is loaded by transformers, and warns of a missing GPU where nothing is trained. Ranks are
    # processes of their own.
    logging.getLogger("DeepSpeed").disabled = True
    try:
        raise_on_stop()
        code = cli.main(standalone_mode=False)
    except AlloyError as error:
        sys.exit(_complain(error.message, error.hint, error.exit_code))
    except click.ClickException as error:
        sys.exit(_complain(error.format_message(), "see `alloy --help`", 2))
    except (click.Abort, KeyboardInterrupt) as error:
        number = _signal_of(error)
        by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
        sys.exit(_complain(f"interrupted{by}", "run it again to go on", exit_code_of(number)))
    sys.exit(code if isinstance(code, int) else 0)


def _signal_of(error: BaseException) -> int:
    """Of the stop that ``error`` is, or that click made an Abort of."""
    found = error if isinstance(error, StopSignal) else error.__cause__
    return found.number if isinstance(found, StopSignal) else signal.SIGINT


def _complain(message: str, hint: str, code: int) -> int:
    click.echo(f"error: {' '.join(message.split())}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
    return code
