"""The JAX primitives that the nets of this package use in evaluation, as ONNX nodes.

Each operation: (graph, equation, *values) -> value, or a list of values, where a value is the name of a tensor or a
constant. A case that is not handled here shows in the comparison with the net, before a file is written.
"""

import math
from functools import partial
from string import ascii_lowercase

import numpy as np
from jax import export
from onnx import helper

from openseg_jax.errors import InputError


def fixed(shape: tuple, symbolic: int = 1) -> tuple:
    """Returns a shape with a number in place of a symbolic side."""
    return tuple(symbolic if export.is_symbolic_dim(side) else side for side in shape)


def _node(kind: str, **attributes: str):
    """Makes an operation that is one node, with attributes that are parameters of the equation."""

    def operation(graph, equation, *values):
        return graph.add(kind, *values, **{name: equation.params[of] for name, of in attributes.items()})

    return operation


def _subtract(graph, equation, x, y):
    """Subtracts a constant as an addition, which runtimes fold into the convolution before it."""
    return graph.add("Add", x, -y) if isinstance(y, np.ndarray) else graph.add("Sub", x, y)


def _maximum(graph, equation, x, y):
    return graph.add("Relu", x) if isinstance(y, np.ndarray) and not y.any() else graph.add("Max", x, y)


def _select(graph, equation, which, *cases):
    if isinstance(which, np.ndarray) and (which == which.flat[0]).all():
        return cases[int(which.flat[0])]
    return graph.add("Where", which, cases[1], cases[0])


def _cast(graph, equation, x):
    return graph.add("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(equation.outvars[0].aval.dtype)))


def _reshape(graph, equation, x):
    return graph.add("Reshape", x, np.asarray(fixed(equation.outvars[0].aval.shape, -1)))


def _broadcast(graph, equation, x):
    before, after = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    axes = equation.params["broadcast_dimensions"]
    aligned = [before[axes.index(axis)] if axis in axes else 1 for axis in range(len(after))]
    x = graph.add("Reshape", x, np.asarray(fixed(tuple(aligned), -1)))
    return x if tuple(aligned) == tuple(after) else graph.add("Expand", x, np.asarray(fixed(after)))


def _split(graph, equation, x):
    sizes = np.asarray(equation.params["sizes"], np.int64)
    return graph.add_several("Split", len(sizes), x, sizes, axis=equation.params["axis"])


def _reverse(graph, equation, x):
    for axis in equation.params["dimensions"]:
        x = graph.add("Gather", x, np.arange(equation.invars[0].aval.shape[axis])[::-1], axis=axis)
    return x


def _slice(graph, equation, x):
    p, shape = equation.params, equation.invars[0].aval.shape
    steps = p["strides"] or (1,) * len(shape)
    windows = zip(p["start_indices"], p["limit_indices"], range(len(shape)), steps, strict=True)
    cut = [(start, end, axis, step) for start, end, axis, step in windows if (start, end, step) != (0, shape[axis], 1)]
    return graph.add("Slice", x, *map(np.asarray, zip(*cut, strict=True))) if cut else x


def _pad(graph, equation, x, fill):
    low, high, within = zip(*equation.params["padding_config"], strict=True)
    if any(within):
        raise InputError("this net cannot be written as ONNX: it pads between the elements")
    return graph.add("Pad", x, np.asarray(low + high), fill)


def _gather(graph, equation, x, indices):
    """Gathers at constant places along neighbouring axes, as `jnp.take` and x[:, rows, columns] do, made one axis."""
    numbers, shape = equation.params["dimension_numbers"], equation.invars[0].aval.shape
    axes, others = numbers.start_index_map, equation.invars[1].aval.ndim - 1
    first, end = axes[0], axes[0] + len(axes)
    kept = (*range(first), *range(first + others, others + len(shape) - len(axes)))
    neighbours = axes == numbers.collapsed_slice_dims == tuple(range(first, end))
    if not isinstance(indices, np.ndarray) or not neighbours or numbers.offset_dims != kept:
        raise InputError("this net cannot be written as ONNX: it gathers in a way that is not translated")
    sides = shape[first:end]
    places = np.ravel_multi_index([*np.moveaxis(indices, -1, 0)], sides, mode="clip")
    if len(axes) > 1:
        x = graph.add("Reshape", x, np.asarray(fixed((*shape[:first], math.prod(sides), *shape[end:]), -1)))
    return graph.add("Gather", x, places, axis=first)


def _reduce(kind: str):
    return lambda graph, equation, x: graph.add(kind, x, np.asarray(equation.params["axes"]), keepdims=0)


def _argmax(graph, equation, x):
    (axis,) = equation.params["axes"]
    return _cast(graph, equation, graph.add("ArgMax", x, axis=axis, keepdims=0))


def _rsqrt(graph, equation, x):
    return graph.add("Reciprocal", graph.add("Sqrt", x))


def _channels_first(graph, x, kind: str, *inputs, order=(0, 3, 1, 2), back=(0, 2, 3, 1), **attributes):
    """Adds a convolution or pooling, which in ONNX is of (N, C, H, W)."""
    x = graph.add(kind, graph.add("Transpose", x, perm=order), *inputs, **attributes)
    return graph.add("Transpose", x, perm=back)


def _convolution(graph, equation, x, kernel):
    p = equation.params
    numbers, padding = p["dimension_numbers"], np.asarray(p["padding"])
    window = {"strides": p["window_strides"], "pads": padding.T.ravel(), "dilations": p["rhs_dilation"]}
    orders = {"order": numbers.lhs_spec, "back": np.argsort(numbers.out_spec)}
    kernel = kernel.transpose(numbers.rhs_spec)
    return _channels_first(graph, x, "Conv", kernel, **orders, **window, group=p["feature_group_count"])


def _product(graph, equation, x, y):
    (sums_x, sums_y), (batch_x, batch_y) = equation.params["dimension_numbers"]
    shapes = [v.aval.shape for v in equation.invars]
    if len(shapes[0]) == 4 and isinstance(y, np.ndarray) and y.ndim == 2 and (sums_x, sums_y) == ((3,), (0,)):
        return _channels_first(graph, x, "Conv", y.T[:, :, None, None])  # 1x1, which runtimes join with what follows
    letters = iter(ascii_lowercase)
    of_x = [next(letters) for _ in shapes[0]]
    shared = dict(zip((*batch_y, *sums_y), (*batch_x, *sums_x), strict=True))
    of_y = [of_x[shared[axis]] if axis in shared else next(letters) for axis in range(len(shapes[1]))]
    out = [of_x[axis] for axis in batch_x]
    out += [letter for axis, letter in enumerate(of_x) if axis not in (*batch_x, *sums_x)]
    out += [letter for axis, letter in enumerate(of_y) if axis not in shared]
    return graph.add("Einsum", x, y, equation=f"{''.join(of_x)},{''.join(of_y)}->{''.join(out)}")


def _pool(kind: str, graph, equation, x, **attributes):
    p = equation.params
    pads = np.asarray(p["padding"])[1:3].T.ravel()
    shape = {"kernel_shape": p["window_dimensions"][1:3], "strides": p["window_strides"][1:3], "pads": pads}
    return _channels_first(graph, x, kind, **shape, **attributes)


def _sum_pool(graph, equation, x):
    mean = _pool("AveragePool", graph, equation, x, count_include_pad=1)
    return graph.add("Mul", mean, np.asarray(np.prod(equation.params["window_dimensions"]), np.float32))


OPERATIONS = {
    "add": _node("Add"),
    "argmax": _argmax,
    "broadcast_in_dim": _broadcast,
    "concatenate": _node("Concat", axis="dimension"),
    "conv_general_dilated": _convolution,
    "convert_element_type": _cast,
    "div": _node("Div"),
    "dot_general": _product,
    "exp": _node("Exp"),
    "gather": _gather,
    "ge": _node("GreaterOrEqual"),
    "max": _maximum,
    "mul": _node("Mul"),
    "pad": _pad,
    "reduce_max": _reduce("ReduceMax"),
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_window_max": partial(_pool, "MaxPool"),
    "reduce_window_sum": _sum_pool,
    "reshape": _reshape,
    "rev": _reverse,
    "rsqrt": _rsqrt,
    "select_n": _select,
    "slice": _slice,
    "split": _split,
    "squeeze": _reshape,
    "stop_gradient": _node("Identity"),
    "sub": _subtract,
    "transpose": _node("Transpose", perm="permutation"),
}
