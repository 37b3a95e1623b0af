"""How much memory a training step takes on a device, estimated from shapes alone."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

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

    kept = kept_bytes(jax.make_jaxpr(loss)(variables["params"], variables["batch_stats"], rows))
    own = (math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(step.shapes))
    gradients = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(variables["params"]))
    return Memory(sum(own), gradients, kept // devices)


def kept_bytes(forward: ClosedJaxpr) -> int:
    """Returns the bytes that a forward pass keeps, without its inputs, with room for the largest gradient."""
    kept = _Kept()
    kept.walk(forward.jaxpr, [None] * len(forward.jaxpr.invars))
    return kept.bytes + max((array.size for array in kept.arrays), default=0)


class _Array(NamedTuple):
    """An array of `size` bytes that a forward pass makes `times` times, in a loop.

    The number says which it is: a function that is called twice has the same variables.
    """

    size: int
    times: int
    number: int


class _Kept:
    """Walks through a forward pass. `arrays` are those that it keeps."""

    def __init__(self):
        self.arrays: set[_Array] = set()
        self.recomputed = 0  # the most bytes that a part keeps while it is recomputed
        self._count = itertools.count()

    @property
    def bytes(self) -> int:
        return self.recomputed + sum(array.times * array.size for array in self.arrays)

    def walk(self, jaxpr: Jaxpr, inputs: Sequence[_Array | None], times: int = 1) -> list[_Array | None]:
        """Returns the outputs of a program that runs `times` times. None are arrays that count elsewhere."""
        known = dict(zip(jaxpr.invars, inputs, strict=True))
        of = lambda var: None if isinstance(var, Literal) else known.get(var)  # noqa: E731
        for eqn in jaxpr.eqns:
            primitive, read = eqn.primitive.name, [of(var) for var in eqn.invars]
            made = [self._array(var, times) for var in eqn.outvars]
            inner, skipped = _program(eqn)
            if primitive in _VIEWS:
                made = read[:1]
            elif primitive in _READERS:
                self._keep(read + (made if primitive in _PRODUCTS else []))
            elif primitive in _RECOMPUTED:
                self._keep(read)
                part = _Kept()
                part.walk(inner, [None] * len(inner.invars))
                self.recomputed = max(self.recomputed, part.bytes)
            elif primitive == "scan":
                self._loop(eqn, inner, read, times * eqn.params["length"])
            elif inner:
                made = self.walk(inner, read[skipped:], times)
            known.update(zip(eqn.outvars, made, strict=True))
        return [of(var) for var in jaxpr.outvars]

    def _loop(self, eqn, body: Jaxpr, read: list[_Array | None], times: int) -> None:
        """Walks through the body of a loop: constants are the same every time, a carry and slices are not."""
        constants, carried = eqn.params["num_consts"], eqn.params["num_consts"] + eqn.params["num_carry"]
        inside = [self._array(var, times) for var in body.invars]
        slices = [new if outer else None for new, outer in zip(inside[carried:], read[carried:], strict=True)]
        self.walk(body, [*read[:constants], *inside[constants:carried], *slices], times)

    def _array(self, var, times: int) -> _Array:
        return _Array(var.aval.size * getattr(var.aval.dtype, "itemsize", 0), times, next(self._count))

    def _keep(self, arrays: Iterable[_Array | None]) -> None:
        self.arrays.update(array for array in arrays if array)


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
