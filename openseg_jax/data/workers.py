"""Work in several processes or threads; how processes start, and how they end with their parent.

Parent and workers talk through sockets alone. So nothing is left of them, in /dev/shm for example, however they end,
and whoever reads from a process that was killed knows it at once.
"""

import atexit
import contextlib
import itertools
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait

import cv2

from openseg_jax.errors import RunError


class WorkerError(RunError):
    """A worker process ended before its work was done."""


def in_processes(function: Callable, *arguments: Iterable, workers: int) -> Iterator:
    """Yields what `map` would, in the order of completion, from processes if there are more than one.

    Raises:
        WorkerError: A process was killed.
    """
    calls = list(zip(*arguments, strict=True))
    if min(workers, len(calls)) <= 1:
        yield from itertools.starmap(function, calls)
        return
    waiting = iter(calls)
    with _processes(_answer, [(function,)] * min(workers, len(calls))) as connections:
        for connection, call in zip(connections, waiting, strict=False):
            _send(connection, call)
        busy = list(connections)
        while busy:
            for connection in wait(busy):
                try:
                    result = _result(connection)
                except WorkerError as error:
                    raise WorkerError(
                        f"{error}: run the same command again with fewer --workers, and it continues from here"
                    ) from error
                call = next(waiting, None)
                if call is None:
                    busy.remove(connection)
                else:
                    _send(connection, call)
                yield result


def in_turn(make: Callable[[int], Iterable], workers: int) -> Iterator:
    """Yields the first item of make(0), of make(1), ..., then their second ones, without end.

    Process i goes through make(i), whose items never end, and is ahead of what was taken by one item and by what the
    iterable computes ahead by itself. Arrays in the items are read-only.

    Raises:
        WorkerError: A process was killed.
    """
    with _processes(_send_all, [(make, index) for index in range(workers)]) as connections:
        for connection in itertools.cycle(connections):
            yield _result(connection)


def in_threads(function: Callable, items: Iterable, threads: int = 4) -> Iterator:
    """Yields function(item) for each item, in order, while threads compute the next ones, 2 * `threads` at most."""
    ahead: deque = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            if len(ahead) == 2 * threads:
                yield ahead.popleft().result()
            ahead.append(pool.submit(function, item))
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


# ---------------------------------------------------------------------------------------------------------------------
# Processes


@contextlib.contextmanager
def _processes(work: Callable, arguments: Iterable[tuple]) -> Iterator[list[Connection]]:
    """Starts a process that calls work(connection, *a) for each a of `arguments`; yields the other ends.

    The processes are killed when the block ends.
    """
    context = multiprocessing.get_context("spawn")
    connections, processes = [], []
    try:
        for of_one in arguments:
            ours, theirs = context.Pipe()
            process = context.Process(target=_run, args=(work, theirs, *of_one), daemon=True)
            connections.append(ours)
            with theirs, _without_interrupts():
                process.start()
                processes.append(process)
            atexit.register(process.kill)  # multiprocessing itself would send a SIGTERM, and wait
        yield connections
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
            atexit.unregister(process.kill)
        for connection in connections:
            connection.close()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Lets a process that starts in the block ignore Ctrl-C and SIGTERM, which may reach the whole group.

    What they ask for is the parent's decision: on SIGTERM training saves, for which it needs its workers.
    """
    resource_tracker.ensure_running()  # it starts with the first process otherwise, and then lets the signals through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run(work: Callable, connection: Connection, *arguments) -> None:
    """Is what a worker process does."""
    cv2.setNumThreads(0)  # the processes are the parallelism
    parent = multiprocessing.parent_process()

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()  # a killed parent leaves no workers behind
    try:
        work(connection, *arguments)
    except Exception as error:
        error.add_note(traceback.format_exc())  # which a pickle does not have
        _send(connection, error)


def _answer(connection: Connection, function: Callable) -> None:
    """Sends function(*call) for each call that it receives."""
    while True:
        _send(connection, function(*_receive(connection)))


def _send_all(connection: Connection, make: Callable[[int], Iterable], index: int) -> None:
    for item in make(index):
        _send(connection, item)


def _send(connection: Connection, item) -> None:
    """Sends an item, the content of its arrays as it is: within the pickle they would be copied several times.

    If the other side has ended nothing happens: who waits for its answer sees that, and a worker ends with its parent.
    """
    arrays: list[pickle.PickleBuffer] = []
    content = pickle.dumps(item, 5, buffer_callback=arrays.append)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.send((content, len(arrays)))
        for array in arrays:
            connection.send_bytes(array.raw())


def _receive(connection: Connection):
    """Returns what `_send` sent; raises EOFError or ConnectionResetError if the other side has ended."""
    content, count = connection.recv()
    return pickle.loads(content, buffers=[connection.recv_bytes() for _ in range(count)])


def _result(connection: Connection):
    """Returns the next item of a worker, or raises the error that it sent, or WorkerError if it was killed."""
    try:
        item = _receive(connection)
    except (EOFError, ConnectionResetError) as error:
        raise WorkerError("a worker process was killed, perhaps because memory ran out") from error
    if isinstance(item, Exception):
        raise item
    return item
