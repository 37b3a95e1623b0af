"""Counts the parameters and the multiply-adds of a model without allocating or running anything."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from openseg_jax.models.segmentor import Segmentor
from openseg_jax.models.variables import apply, shapes


def parameters(model: Segmentor) -> int:
    """Counts the numbers that training changes, running statistics not among them."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes(model)["params"]))


def multiply_adds(model: Segmentor, height: int, width: int) -> int:
    """Counts the multiply-adds of convolutions and matrix products for one image of this size."""
    images = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    needs_labels = model.head is not None and model.head.needs_labels
    labels = jax.ShapeDtypeStruct((1, height, width), jnp.int32) if needs_labels else None
    run = jax.make_jaxpr(lambda v, x, y: apply(model, v, x, labels=y))
    return _count(run(shapes(model), images, labels).jaxpr)


def _count(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        outputs = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            numbers = equation.params["dimension_numbers"].rhs_spec  # where (out, in, *spatial) stand in the kernel
            total += outputs * math.prod(kernel[axis] for axis in numbers[1:])
        elif equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += outputs * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        repeats = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for value in jax.tree.leaves(equation.params):
            if isinstance(value, (core.Jaxpr, core.ClosedJaxpr)):  # a program that the operation calls
                total += repeats * _count(getattr(value, "jaxpr", value))
    return total
