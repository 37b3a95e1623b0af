"""The two kinds of error whose message is meant for the user, and how commands end on them."""

import sys
from collections.abc import Callable
from logging import getLogger
from typing import Any, NoReturn

from absl import logging


class InputError(ValueError):
    """Something that the user gave is wrong.

    The message is one sentence: what was found, what was wanted, and what to do.
    """


class RunError(RuntimeError):
    """A run failed because of its own numbers, for example a loss that became NaN."""


def short(value: Any) -> str:
    """Returns any value as a sentence shows it: on one line, and cut after 80 characters."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # whatever an object of a user raises; for numbers of thousands of digits, and deep nesting
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= 80 else f"{text[:77]}..."


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
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        status = 1 if isinstance(error, RunError) else 2
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
