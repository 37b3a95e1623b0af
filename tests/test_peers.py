"""Several processes, one of which dies or fails."""

import contextlib
import re
import socket
import subprocess
import sys

import pytest

from tests import commands

PROGRAM = """
import sys, time
from openseg_jax import peers
from openseg_jax.errors import InputError, run_command
address, index, ends = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def main():
    with peers.joined(address, 2, index), peers.says_when_lost(lambda: "step 4 is saved"):
        print("ready", flush=True)
        if ends == "fails":
            raise InputError("it is wrong")
        if ends == "waits":
            time.sleep(60)
run_command(main)
"""


@contextlib.contextmanager
def pair_of(first: str, second: str):
    """Two processes, which wait, fail or end, and know each other."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    environment = commands.environment() | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    with contextlib.ExitStack() as stack:
        pair = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", PROGRAM, address, str(index), how],
                    cwd=commands.ROOT, env=environment, stdout=-1, stderr=-1, text=True,
                )
            )
            for index, how in enumerate((first, second))
        ]  # fmt: skip
        for process in pair:
            stack.callback(process.kill)
        for process in pair:
            while (line := process.stdout.readline()) != "ready\n":
                assert line, process.communicate()
        yield pair


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_others_with_a_sentence(victim):
    with pair_of("waits", "waits") as pair:
        pair[victim].kill()
        _, err = pair[1 - victim].communicate(timeout=10)
    assert pair[1 - victim].returncode == 1
    told = f"error: process {victim} was killed, .*; step 4 is saved: start all processes again with the .*"
    assert re.fullmatch(told, err.splitlines()[-1])  # JAX may have come first, with a line of its own


@pytest.mark.parametrize("first", ["fails", "waits"])
def test_what_fails_is_told(first):
    """By each process that fails; the others end, too."""
    with pair_of(first, "fails") as pair:
        texts = [process.communicate(timeout=30)[1] for process in pair]
    wrong = "error: it is wrong\n"
    if first == "fails":
        assert texts[0] == wrong
    else:
        assert texts[0].startswith("error: process 1 failed, and says why; step 4 is saved: start all")
    assert texts[1] == wrong
    assert [process.returncode for process in pair] == [2 if first == "fails" else 1, 2]
