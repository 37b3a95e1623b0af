"""Set before JAX starts: eight simulated devices, fast compilation, one compilation cache for the whole run."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 " + os.environ.get("XLA_FLAGS", "")
)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

import json

import numpy as np
import pytest
from absl import flags

GOLDENS = Path(__file__).parent / "goldens"


@pytest.fixture(scope="session", autouse=True)
def parsed_flags():
    """grain's workers read absl flags, which only a command's main parses."""
    flags.FLAGS.mark_as_parsed()


def golden(name: str):
    """Contents of tests/goldens/NAME.npz or NAME.json; see the README there."""
    path = GOLDENS / name
    return json.loads(path.read_text()) if path.suffix == ".json" else dict(np.load(path))
