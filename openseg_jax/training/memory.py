"""How much memory a training step takes on a device, estimated from shapes alone."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
from jax.extend.core import Jaxpr, Literal

from openseg_jax import models
from openseg_jax.training.step import TrainStep

# They only look at an array in another way, so their results are no arrays of their own.
_VIEWS = ("reshape", "squeeze", "expand_dims", "copy", "stop_gradient", "name", "sharding_constraint")
_RECOMPUTED = ("checkpoint", "remat", "remat2")
_PRODUCTS = ("conv_general_dilated", "dot_general")
_READERS = (*_PRODUCTS, "reduce_window_max", "reduce_window", "select_and_gather_add")


class Memory(NamedTuple):
    """Bytes on one device; `kept` is what the forward pass keeps for the backward pass."""

    state: int
    gradients: int
    kept: int

    @property
    def total(self) -> int:
        """What is there at the same time: the gradients take the place of what was kept."""
        return self.state + max(self.gradients, self.kept)


def estimate_memory(step: TrainStep, batch: dict, devices: int) -> Memory:
    """Estimates the memory of a training step.

    A step keeps what its convolutions, matrix products and poolings read, and what convolutions and matrix products
    give, which is what norms and softmaxes read: each array once, in its own type. Elementwise operations between them
    are computed again in kernels of the backward pass. Of a part that is recomputed only what goes into it is kept, and
    once the most that is kept within one. The gradient of the largest array comes on top.

    Args:
        step: The training step.
        batch: The shapes of a batch over all devices.
        devices: How many share it.
    """
    variables, parts = models.shapes(step.model), step.train.accumulate
    rows = {key: jax.ShapeDtypeStruct((len(x) // parts, *x.shape[1:]), x.dtype) for key, x in batch.items()}

    def loss(params, batch_stats, batch):
        return step.compute_loss(params, batch_stats, batch, jax.random.key(0), 1.0)

    jaxpr = jax.make_jaxpr(loss)(variables["params"], variables["batch_stats"], rows).jaxpr
    kept = _Kept()
    kept.walk(jaxpr, [None] * len(jaxpr.invars))
    own = (math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(step.shapes))
    gradients = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(variables["params"]))
    return Memory(sum(own), gradients, (kept.bytes + max(kept.arrays).bytes) // devices)


class _Array(NamedTuple):
    """An array of a forward pass. A function that is called twice has the same variables, so these are no names."""

    bytes: int
    number: int


class _Kept:
    """Walks through a forward pass. `arrays` are those that it keeps, with how often each is made."""

    def __init__(self):
        self.arrays: dict[_Array, int] = {}
        self.recomputed = 0  # the most bytes that a part keeps while it is recomputed
        self._count = itertools.count()

    @property
    def bytes(self) -> int:
        return self.recomputed + sum(times * array.bytes for array, times in self.arrays.items())

    def array(self, aval) -> _Array:
        """Returns a new array."""
        return _Array(aval.size * getattr(aval.dtype, "itemsize", 0), next(self._count))

    def walk(self, jaxpr: Jaxpr, inputs: Sequence[_Array | None], times: int = 1) -> list[_Array | None]:
        """Returns the outputs of a program that runs `times` times. None are arrays that count elsewhere."""
        known = dict(zip(jaxpr.invars, inputs, strict=True))
        of = lambda var: None if isinstance(var, Literal) else known.get(var)  # noqa: E731
        for eqn in jaxpr.eqns:
            primitive, read = eqn.primitive.name, [of(var) for var in eqn.invars]
            made = [self.array(var.aval) for var in eqn.outvars]
            inner, skipped = _program(eqn)
            if primitive in _VIEWS:
                made = read[:1]
            elif primitive in _READERS:
                self._keep(read + (made if primitive in _PRODUCTS else []), times)
            elif primitive in _RECOMPUTED:
                self._keep(read, times)
                part = _Kept()
                part.walk(inner, [None] * len(inner.invars))
                self.recomputed = max(self.recomputed, part.bytes)
            elif primitive == "scan":
                self.walk(inner, read, times * eqn.params["length"])
            elif inner:
                made = self.walk(inner, read[skipped:], times)
            known.update(zip(eqn.outvars, made, strict=True))
        return [of(var) for var in jaxpr.outvars]

    def _keep(self, arrays: Iterable[_Array | None], times: int) -> None:
        self.arrays.update((array, times) for array in arrays if array)


def _program(eqn) -> tuple[Jaxpr | None, int]:
    """Returns the program that an equation runs, if any, and how many inputs do not go into it.

    Of a condition it is the first branch.
    """
    if eqn.primitive.name == "cond":
        return eqn.params["branches"][0].jaxpr, 1
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if key in eqn.params:
            return getattr(eqn.params[key], "jaxpr", eqn.params[key]), 0
    return None, 0
