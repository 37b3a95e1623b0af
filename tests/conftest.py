"""Set before JAX starts: four simulated devices, fast compilation, one compilation cache for the whole run."""

import os
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = " ".join(
    (
        "--xla_force_host_platform_device_count=4",
        "--xla_backend_optimization_level=0",
        # compiles a third faster, in less memory; a flag that another version does not know is fatal
        "--xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.10.") else "",
        os.environ.get("XLA_FLAGS", ""),
    )
)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import ctypes
import gc
import json

import jax
import numpy as np
import pytest
from absl import flags

gc.freeze()  # the modules stay; and tracing a net makes many objects, of which few are garbage
gc.set_threshold(50_000, 20, 100)
M_ARENA_MAX = -8
ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)  # every thread's own arena keeps what others could use

# Comparisons with PyTorch, which is not installed for other Pythons than 3.11.
collect_ignore = (
    [] if find_spec("torch") else ["converters", *(f"models/test_{n}.py" for n in ("blocks", "layers", "parity"))]
)
GOLDENS = Path(__file__).parent / "goldens"


def pytest_collection_modifyitems(items):
    """The longest test comes first: at the end, one worker would run it while the other has nothing to do."""
    items.sort(key=lambda item: not item.name.startswith("test_every_head_learns_alike"))


@pytest.fixture(scope="session", autouse=True)
def parsed_flags():
    """grain's workers read absl flags, which only a command's main parses."""
    flags.FLAGS.mark_as_parsed()


@pytest.fixture(autouse=True)
def bounded_memory():
    """Forgets what was compiled where that adds up to more than 1.5 GB."""
    yield
    if resident() > 1.5e9:
        collect()
    if resident() > 1.5e9:
        forget_programs()


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def collect():
    """Gives the memory of what nothing refers to any more back to the system."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def forget_programs():
    """Lets go of compiled programs."""
    jax.clear_caches()
    collect()


def golden(name: str):
    """Contents of tests/goldens/NAME.npz or NAME.json; see the README there."""
    path = GOLDENS / name
    return json.loads(path.read_text()) if path.suffix == ".json" else dict(np.load(path))
