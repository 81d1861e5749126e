"""How a command fails: one line on stderr and an exit code, never a traceback.

0 is success; 1 a refusal (a proof that does not verify, a run whose promises did not hold); 2 bad input or a
missing thing; 130 Ctrl-C.
"""

REFUSED = 1
BAD_INPUT = 2
INTERRUPTED = 130


class CliError(Exception):
    """Ends the command with one line and `exit_code`."""

    def __init__(self, message: str, *, exit_code: int = BAD_INPUT) -> None:
        super().__init__(message)
        self.exit_code = exit_code
