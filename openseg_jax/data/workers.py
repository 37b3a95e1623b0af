"""How worker processes start, and how they end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading

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
