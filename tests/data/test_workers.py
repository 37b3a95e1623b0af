"""Processes that work for another one: what they send, and how they end."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from openseg_jax.data.workers import WorkerError, in_processes, in_turn
from openseg_jax.errors import InputError
from tests import commands
from tests.robustness import kills

LOADS = """
from openseg_jax.data import SyntheticSource
from openseg_jax.data.augmentation import Augmentation
from openseg_jax.data.collate import Collate
from openseg_jax.data.pipeline import TrainSamples, train_batches
source = SyntheticSource("train", 10, (40, 48))
samples = TrainSamples(source, Augmentation(crop=(32, 40)), Collate(size=(32, 40)), 5, 4)
for batch in train_batches(samples, workers=2):
    print("batch", flush=True)
"""
COMPUTES = """
import time
from openseg_jax.data.workers import in_processes
from openseg_jax.errors import run_command
def main():
    for _ in in_processes(time.sleep, [0, 0, 60, 60], workers=2):
        print("done", flush=True)
run_command(main)
"""


def start(program: str) -> subprocess.Popen:
    """Starts a program in a session of its own, and waits for its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=commands.ROOT, stdout=-1, stderr=-1, text=True, start_new_session=True
    )
    assert process.stdout.readline(), process.communicate()
    return process


def refuse(number):
    raise InputError(f"{number} is wrong")


def same(index):
    while True:
        yield index


def test_results_come_from_processes():
    assert sorted(in_processes(math.hypot, [3, 5, 8], [4, 12, 15], workers=2)) == [5, 13, 17]
    assert not multiprocessing.active_children()


def test_errors_come_from_processes():
    with pytest.raises(InputError, match="1 is wrong"):
        list(in_processes(refuse, [1, 1], workers=2))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("items", [lambda: in_turn(same, 1), lambda: in_processes(time.sleep, [0, 60, 60], workers=2)])
def test_a_killed_process_is_told_at_once(items):
    items = items()
    next(items)
    multiprocessing.active_children()[0].kill()
    with pytest.raises(WorkerError, match="a worker process was killed, perhaps because memory ran out"):
        for _ in items:  # what it had sent before
            pass
    assert not multiprocessing.active_children()


def test_a_killed_parent_leaves_nothing():
    before = set(os.listdir("/dev/shm"))
    process = start(LOADS)
    process.kill()
    process.communicate()
    assert kills.left(process.pid, before) == []


def test_ctrl_c_ends_the_processes():
    """It reaches the parent alone, while the processes have a minute of work before them."""
    process = start(COMPUTES)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == ""
    assert process.returncode == 130
    assert time.monotonic() - begin < 3
