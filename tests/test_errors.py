"""How commands end on Ctrl-C."""

import signal
import subprocess
import sys
import time

import pytest

from tests import commands

PROGRAM = """
import hashlib, time
from openseg_jax.errors import run_command

class Owner:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(60)

def dropped():
    Owner()
    time.sleep(60)

def turned_into_another():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        raise ImportError("of an extension")

def in_c():
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)

run_command(WHERE)
"""


@pytest.mark.parametrize("where", ["dropped", "turned_into_another", "in_c"])
def test_ctrl_c_is_never_swallowed(where):
    command = [sys.executable, "-c", PROGRAM.replace("WHERE", where)]
    with subprocess.Popen(command, cwd=commands.ROOT, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.communicate()[1] == ""
    assert process.returncode == 130
    assert time.monotonic() - begin < 3
