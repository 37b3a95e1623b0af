"""How worker processes start, and how they end with their parent."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2


def start_worker() -> None:
    """Initializes a process of a pool."""
    cv2.setNumThreads(0)  # the processes are the parallelism
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # Ctrl-C reaches all processes, and the parent cleans up
    parent = multiprocessing.parent_process()

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()  # a killed parent leaves no workers behind


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
