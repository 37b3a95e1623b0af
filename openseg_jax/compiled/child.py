"""Compiles in a process of its own, whose JAX knows no other devices."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from openseg_jax.config import Config
from openseg_jax.errors import InputError, RunError


def compile_program(
    config: Config,
    program: str,
    *,
    target: str = "h200",
    devices: int = 1,
    size: tuple[int, int] | None = None,
    hlo: str | Path | None = None,
) -> dict:
    """Compiles a program of a config for a GPU. That takes minutes of a CPU core for a large net.

    Args:
        config: The config, whose batch sizes are those of all devices together.
        program: "train", "eval" or "refine", see `openseg_jax.programs`.
        target: The GPU, of `TARGETS`.
        devices: How many there are.
        size: (height, width) of the images of "eval" and "refine".
        hlo: A file to which the optimised program is written.

    Returns:
        `facts` of the program on one device, with "trace_s" and "compile_s", the seconds that this took, and
        "products", what computes matrix products: "Triton", or "cuBLAS" where the compiler failed with that.

    Raises:
        InputError: If the CUDA plugin of JAX is not installed, or the config does not fit the devices.
        RunError: If the compiler failed.
    """
    request = {"config": config.to_dict(), "program": program, "target": target, "devices": devices}
    request |= {"size": size, "hlo": None if hlo is None else str(Path(hlo).expanduser().absolute())}
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    done, products = _compile(request, flags), "Triton"
    if done.returncode not in (0, 2):
        # Without a GPU to try tiles on, XLA may find none for a matrix product in Triton.
        first, products = done, "cuBLAS"
        done = _compile(request, f"{flags} --xla_gpu_enable_triton_gemm=false")
        if done.returncode not in (0, 2):
            raise RunError(f"the compiler for {target} failed: {_message(first)[:500]}")
    if done.returncode:
        raise InputError(_message(done).removeprefix("error: "))
    return json.loads(done.stdout.splitlines()[-1]) | {"products": products}


def _compile(request: dict, flags: str) -> subprocess.CompletedProcess:
    # With the CPU as its platform JAX makes no client of the GPUs that may be there.
    environment = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    return subprocess.run(
        [sys.executable, "-m", __package__],
        input=json.dumps(request),
        env=os.environ | environment | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )


def _message(done: subprocess.CompletedProcess) -> str:
    """Returns the line of stderr that says what is wrong; JAX and XLA write many after it."""
    lines = [line for line in done.stderr.splitlines() if re.match(r"error: |[\w.]+Error: |F\d{4} ", line)]
    return lines[-1] if lines else f"it ended with exit code {done.returncode}"
