"""Work in several processes or threads; how processes start, and how they end with their parent."""

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import cv2

from openseg_jax.errors import InputError


def start_worker() -> None:
    """Initializes a process of a pool."""
    cv2.setNumThreads(0)  # the processes are the parallelism
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # Ctrl-C reaches all processes, and the parent cleans up
    parent = multiprocessing.parent_process()

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()  # a killed parent leaves no workers behind


def in_processes(function: Callable, *arguments: Iterable, workers: int) -> Iterator:
    """Yields what `map` would, in the order of completion, from processes if there are more than one.

    Raises:
        InputError: A process was killed.
    """
    calls = list(zip(*arguments, strict=True))
    if min(workers, len(calls)) <= 1:
        yield from itertools.starmap(function, calls)
        return
    with ProcessPoolExecutor(min(workers, len(calls)), multiprocessing.get_context("spawn"), start_worker) as pool:
        futures = [pool.submit(function, *call) for call in calls]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise InputError(
                "a worker process was killed, perhaps because memory ran out: run the same command again with fewer "
                "--workers, and it continues from here"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


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
