"""Running the project's commands as a user does."""

import os
import subprocess
import sys
from pathlib import Path

from openseg_jax import cli

ROOT = Path(__file__).parent.parent
FRONTS = {  # python -m NAME: the words of `openseg` that it stands for
    "converters": ["convert"],
    "openseg_jax.recipes.legacy": ["convert", "config"],
    "openseg_jax.evaluation": [],
}


def environment(devices: int = 1) -> dict[str, str]:
    flags = os.environ["XLA_FLAGS"].replace("device_count=4", f"device_count={devices}")  # else those of conftest.py
    return os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "COLUMNS": "200"}


def start(*arguments, devices: int = 1) -> subprocess.Popen:
    command = [sys.executable, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment(devices), **pipes)


def run(*arguments, expect: int = 0, devices: int = 1) -> str:
    """stdout and stderr of a command that must end with the exit code `expect`."""
    process = start(*arguments, devices=devices)
    out, err = process.communicate(timeout=600)
    assert process.returncode == expect, f"exit code {process.returncode}\n{out}\n{err}"
    return out + err


def fails(*arguments, code: int = 2) -> str:
    """The one sentence that a command says about wrong input."""
    process = start(*arguments)
    _, err = process.communicate(timeout=600)
    assert process.returncode == code, f"exit code {process.returncode}\n{err}"
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    return lines[0]


def call(module: str, *arguments) -> int:
    """Exit code of `python -m module arguments`, run in this process: starting a new one takes seconds."""
    try:
        cli.main([*FRONTS.get(module, [module.removeprefix("openseg_jax.")]), *arguments])
    except SystemExit as end:
        return end.code


def fails_here(capsys, module: str, *arguments) -> str:
    """As `fails`, in this process."""
    capsys.readouterr()
    assert call(module, *arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    return line
