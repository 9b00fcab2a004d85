"""The exceptions that end a command with one line and a hint instead of a traceback."""


class AlloyError(Exception):
    """Base of the errors that the command line prints as one line.

    ``message`` says what is wrong, with the numbers; ``hint`` says what to do next.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UserError(AlloyError):
    """A mistake in the recipe, the arguments or the input (exit code 2)."""


class CheckFailed(AlloyError):
    """The command ran, and what it checked does not hold (exit code 1)."""

    exit_code = 1
