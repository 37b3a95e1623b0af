"""The two kinds of error whose message is meant for the user, and how commands end on them."""

import sys
from collections.abc import Callable
from logging import getLogger
from typing import NoReturn

from absl import logging

from openseg_jax.text import visible


class InputError(ValueError):
    """Something that the user gave is wrong.

    The message is one sentence on one line: what was found, what was wanted, and what to do. What it quotes from data
    is made visible.
    """

    def __init__(self, message: str):
        super().__init__(visible(message.replace("\n", " ")))


class RunError(RuntimeError):
    """A run failed because of its own numbers, for example a loss that became NaN."""


def run_command(main: Callable[[], int | None], verbose: bool = False) -> NoReturn:
    """Runs the main function of a command and exits.

    The exit status is what `main` returns, by default 0; 1 if a run failed; and 2 with one sentence on stderr if the
    input was wrong. `verbose` shows log messages and tracebacks.
    """
    # Orbax logs every step that it takes and reports a full disk once per task; the sentence below is enough.
    logging.set_verbosity(logging.INFO if verbose else logging.FATAL)
    if not verbose:
        getLogger("asyncio").setLevel("CRITICAL")
    try:
        status = main() or 0
    except (ValueError, RunError) as error:
        if verbose:
            raise
        print(f"error: {' '.join(visible(str(error)).split())}", file=sys.stderr)
        status = 1 if isinstance(error, RunError) else 2
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
