"""The two kinds of error that are messages to the user, and how commands end on them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from logging import getLogger

from absl import logging


class InputError(ValueError):
    """Something given from outside is wrong. The message is one sentence: what was found, wanted, and what to do."""


class RunError(RuntimeError):
    """A run went wrong for reasons that lie in its own numbers, such as a loss that became NaN."""


def run_command(main: Callable[[], int | None], verbose: bool = False) -> None:
    """Runs a command's main and exits: with 0, 1 if a check or a run failed, 2 and one sentence on wrong input."""
    # What goes wrong is told once, below; orbax logs every step that it takes, and a full disk for each of its tasks.
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
