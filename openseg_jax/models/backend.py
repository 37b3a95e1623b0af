"""What the net's computation takes from the devices it is compiled for. The only place that decides by them.

A program is traced inside `on(mesh)`. Outside of it the devices are JAX's default one.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import NamedTuple

import jax
from jax.experimental.layout import Format, Layout
from jax.sharding import Mesh, NamedSharding, PartitionSpec


class Backend(NamedTuple):
    """Devices, and the choices that depend on them.

    Attributes:
        platform: "cpu", "gpu" or "tpu".
        mesh: Their mesh if there are several.
    """

    platform: str
    mesh: Mesh | None = None

    @property
    def pointwise_by_product(self) -> bool:
        """Whether 1x1 convolutions are matrix products, on a CPU several times as fast as XLA's own."""
        return self.platform == "cpu"

    def one_by_one(self, groups: int) -> bool:
        """Whether a convolution does its groups one by one.

        On a CPU XLA's own groups take four times as long forward, and five to a hundred times backward.
        """
        return self.platform == "cpu" and 1 < groups <= 4

    @property
    def joins_maps(self) -> bool:
        """Whether maps are joined for a convolution of all of them; if not, each has its part of the kernel.

        Joining copies the maps, and on a GPU both forms stay in memory for the backward pass. The sum of several
        convolutions is rounded once more.
        """
        return self.platform == "cpu"

    @property
    def selects_relu(self) -> bool:
        """Whether a bfloat16 ReLU is a selection, not a maximum.

        XLA gets the maximum wrong on the CPU of jax 0.11 and 0.12 (docs/differences.md). On a GPU only a maximum
        becomes a part of the convolution before it.
        """
        return self.platform == "cpu"

    @property
    def joins_sums(self) -> bool:
        """Whether two sums over the same map are one reduction of pairs.

        XLA otherwise reads the map twice on a GPU where it takes two kernels for them. On a CPU it does not vectorise
        reductions of pairs.
        """
        return self.platform == "gpu"

    @property
    def takes_two_passes(self) -> bool:
        """Whether the variance is taken about the mean itself, in a second pass, which on a CPU is in its caches.

        It rounds least, as torch does: a CPU adds one value after the other, where a GPU adds in a tree.
        """
        return self.platform == "cpu"

    @property
    def kernel_order(self) -> tuple[int, ...] | None:
        """The order in memory, from the slowest, of the axes of kernels (height, width, in, out); None for this one."""
        return (3, 0, 1, 2) if self.platform == "gpu" else None

    @property
    def shape(self) -> tuple[int, int]:
        """The number of devices that divide a batch, and of those that divide the rows of each image."""
        return (1, 1) if self.mesh is None else self.mesh.devices.shape

    def everywhere(self, x: jax.Array) -> jax.Array:
        """Gives every device the whole of a small array, in one collective."""
        if self.mesh is None:
            return x
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, PartitionSpec()))


_current: contextvars.ContextVar[Backend | None] = contextvars.ContextVar("backend", default=None)


def placed(sharding: NamedSharding, order: tuple[int, ...] | None, shape: jax.ShapeDtypeStruct):
    """Returns where an array lies, and how if it is the kernel of a convolution: a sharding, or a jax.Format."""
    return Format(Layout(order), sharding) if order and len(shape.shape) == 4 else sharding


@contextlib.contextmanager
def on(mesh: Mesh) -> Iterator[None]:
    """Has what is traced inside compiled for the devices of a mesh."""
    platform = mesh.devices.flat[0].platform
    platform = "gpu" if platform in ("cuda", "rocm") else platform
    token = _current.set(Backend(platform, mesh if mesh.size > 1 else None))
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Backend:
    """Returns the devices for which a program is traced."""
    return _current.get() or Backend(jax.default_backend())
