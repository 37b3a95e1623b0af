"""The two kinds of error whose message is meant for the user, and how commands end on them."""

import _thread
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from logging import getLogger
from typing import NoReturn

from openseg_jax.text import visible

_GRACE = 2  # seconds that a command has for its own end after Ctrl-C


class InputError(ValueError):
    """Something that the user gave is wrong.

    The message is one sentence on one line: what was found, what was wanted, and what to do. What it quotes from data
    is made visible.
    """

    def __init__(self, message: str):
        super().__init__(visible(message.replace("\n", " ")))


class RunError(RuntimeError):
    """A run failed although its input is right: a loss became NaN, the disk is full, a process was killed."""


def run_command(main: Callable[[], int | None], verbose: bool = False) -> NoReturn:
    """Runs the main function of a command and exits.

    The exit status is what `main` returns, by default 0; 1 if a run failed; 2 with one sentence on stderr if the input
    was wrong; and 130 after Ctrl-C. `verbose` shows log messages and tracebacks.
    """
    try:
        with _ends_on_interrupt():
            _limit_logs(verbose)
            status = main() or 0
    except (ValueError, RunError) as error:
        if verbose:
            raise
        print(f"error: {' '.join(visible(str(error)).split())}", file=sys.stderr)
        status = 1 if isinstance(error, RunError) else 2
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)


def _limit_logs(verbose: bool) -> None:
    """Silences libraries: Orbax logs every step that it takes, and reports a full disk once per task."""
    from absl import logging

    logging.set_verbosity(logging.INFO if verbose else logging.FATAL)
    if not verbose:
        getLogger("asyncio").setLevel("CRITICAL")


@contextlib.contextmanager
def _ends_on_interrupt() -> Iterator[None]:
    """Ends the process soon after Ctrl-C, also where Python itself does not.

    Python raises KeyboardInterrupt when the main thread comes back to Python code: after minutes, if it is compiling.
    A library may drop the exception, or turn it into another one, if it comes in a callback or an import. So dropped
    ones are raised again, and a thread of its own hears of the signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # whoever owns the process handles its signals
        return
    interrupted = threading.Event()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def interrupt(_, frame) -> NoReturn:
        interrupted.set()
        while frame:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                _end()  # an exception within the import of a library's native code may crash the process
            frame = frame.f_back
        raise KeyboardInterrupt

    def follow() -> None:
        with ours:
            while number := ours.recv(1):
                if number[0] == signal.SIGINT:
                    time.sleep(_GRACE)
                    _end()

    def again(dropped) -> None:
        if interrupted.is_set():
            threading.Timer(0.05, _thread.interrupt_main).start()  # when the callback has returned
        else:
            report(dropped)

    threading.Thread(target=follow, daemon=True).start()
    handler = signal.signal(signal.SIGINT, interrupt)
    descriptor = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    report, sys.unraisablehook = sys.unraisablehook, again
    try:
        yield
    except BaseException:
        if interrupted.is_set():
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):
                    stream.flush()
            _end()
        raise
    finally:
        signal.set_wakeup_fd(descriptor)
        theirs.close()
        sys.unraisablehook = report
        signal.signal(signal.SIGINT, handler)


def _end() -> NoReturn:
    """Ends the process as it is: libraries' own ends would wait for threads and for other processes."""
    if sys.stdout.isatty():
        os.write(1, b"\x1b[?25h")  # shows the cursor, which progress bars hide
    os._exit(130)
