"""The GPUs for which programs can be compiled without having one."""

from importlib import resources
from importlib.util import find_spec
from typing import NamedTuple

import jax
from jax.experimental import topologies

from openseg_jax.errors import InputError


class Target(NamedTuple):
    """What a GPU can do, by its data sheet.

    Attributes:
        bandwidth: Of its memory, bytes per second.
        peak: Dense floating-point operations per second, by the type of the factors.
    """

    bandwidth: float
    peak: dict[str, float]


_HOPPER = {"bf16": 989e12, "f16": 989e12, "f32": 67e12, "f64": 67e12}
TARGETS = {"h100": Target(3.35e12, _HOPPER), "h200": Target(4.8e12, _HOPPER)}


def installed() -> bool:
    """Returns whether there is a compiler for GPUs: JAX's plugin for CUDA."""
    return bool(find_spec("jax_plugins") and find_spec("jax_plugins.xla_cuda13"))


def devices(target: str, count: int) -> list[jax.Device]:
    """Returns devices of which JAX knows enough to compile for them.

    Raises InputError if there is no such target, or no compiler.
    """
    if target not in TARGETS:
        raise InputError(f"the target is one of {', '.join(TARGETS)}, found {target}")
    if not installed():
        raise InputError("the CUDA plugin of JAX is missing: pip install 'openseg_jax[gpu-compile]'")
    description = (resources.files(__package__) / "targets" / f"{target}.txtpb").read_text()
    options = {"target_config": description, "topology": f"1x1x{count}"}
    return list(topologies.get_topology_desc(platform="cuda", **options).devices)
