"""From a JAX function to an ONNX graph.

JAX describes a function as a jaxpr, a list of equations over primitives (docs.jax.dev, "Understanding jaxprs").
Each becomes one or a few nodes, as onnx_operations.py has it; what depends on no input is computed here.
"""

from collections.abc import Callable, Mapping

import jax
import numpy as np
import onnx
from jax import export
from jax.extend import core
from onnx import helper, numpy_helper

from openseg_jax.errors import InputError
from openseg_jax.export.onnx_operations import OPERATIONS, fixed

OPSET, IR_VERSION = 18, 8  # of ONNX 1.13 (2022); what is newer is not needed
Value = str | np.ndarray  # the name of a tensor, or a constant


class Graph:
    """The ONNX graph of a function of arrays that returns a tuple of arrays.

    inputs: their names, shapes and dtypes. One dimension may be symbolic (jax.export.symbolic_shape).
    outputs: the names of the results' tensors.
    """

    def __init__(self, function: Callable, inputs: dict[str, jax.ShapeDtypeStruct]):
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, np.ndarray] = {}
        jaxpr = jax.make_jaxpr(function)(*inputs.values())
        self._inputs = [_value_info(name, x) for name, x in inputs.items()]
        self.outputs = [self.name(x) for x in self._convert(jaxpr.jaxpr, jaxpr.consts, list(inputs))]
        self._types = dict(zip(self.outputs, jaxpr.out_avals, strict=True))

    def serialize(
        self, outputs: list[str], names: tuple[str, ...] = (), facts: Mapping[str, str] | None = None
    ) -> bytes:
        """Returns a model of no more than what these outputs need, under other `names` if there are any.

        facts: Texts by name, which become the model's metadata.
        """
        pairs = list(zip(outputs, names or outputs, strict=True))
        renamed = [helper.make_node("Identity", [old], [new]) for old, new in pairs if old != new]
        needed, nodes = set(outputs), []
        for node in reversed(self._nodes):
            if needed & set(node.output):
                needed.update(node.input)
                nodes.append(node)
        constants = [numpy_helper.from_array(x, name) for name, x in self._constants.items() if name in needed]
        types = [_value_info(new, self._types[old]) for old, new in pairs]
        graph = helper.make_graph(nodes[::-1] + renamed, "net", self._inputs, types, constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        helper.set_model_props(model, dict(facts or {}))
        return model.SerializeToString()

    def add(self, kind: str, *inputs: Value, **attributes) -> str:
        """Adds a node with one output, whose name it returns."""
        return self.add_several(kind, 1, *inputs, **attributes)[0]

    def add_several(self, kind: str, count: int, *inputs: Value, **attributes) -> list[str]:
        outputs = [f"{kind}_{len(self._nodes)}_{i}" for i in range(count)]
        self._nodes.append(helper.make_node(kind, [self.name(x) for x in inputs], outputs, **attributes))
        return outputs

    def name(self, value: Value) -> str:
        if isinstance(value, str):
            return value
        name = f"constant_{len(self._constants)}"
        self._constants[name] = np.asarray(value, order="C")
        return name

    def _convert(self, jaxpr: core.Jaxpr, constants: list, inputs: list[Value]) -> list[Value]:
        values = dict(zip(jaxpr.constvars + jaxpr.invars, [*map(np.asarray, constants), *inputs], strict=True))

        def read(x) -> Value:
            return np.asarray(x.val, x.aval.dtype) if isinstance(x, core.Literal) else values[x]  # type: ignore[attr-defined]

        for equation in jaxpr.eqns:
            results = self._convert_equation(equation, [read(x) for x in equation.invars])
            values.update(zip(equation.outvars, results, strict=True))
        return [read(x) for x in jaxpr.outvars]

    def _convert_equation(self, equation: core.JaxprEqn, given: list[Value]) -> list[Value]:
        primitive, params = equation.primitive, equation.params
        inner = params.get("jaxpr", params.get("call_jaxpr"))
        if primitive.name == "scan":
            return self._unroll(equation, given)
        if inner is not None:
            closed = isinstance(inner, core.ClosedJaxpr)
            return self._convert(inner.jaxpr if closed else inner, inner.consts if closed else [], given)
        if all(isinstance(x, np.ndarray) for x in given):
            # A batch of a symbolic size becomes one row, which ONNX broadcasts.
            found = primitive.bind(*given, **{k: fixed(v) if isinstance(v, tuple) else v for k, v in params.items()})
            return [np.asarray(x) for x in (found if primitive.multiple_results else [found])]
        if primitive.name not in OPERATIONS:
            raise InputError(f"this net cannot be written as ONNX: it uses {primitive.name}, which is not translated")
        found = OPERATIONS[primitive.name](self, equation, *given)
        return found if isinstance(found, list) else [found]

    def _unroll(self, equation: core.JaxprEqn, given: list[Value]) -> list[Value]:
        """Unrolls `jax.lax.map`, which computes large attention part by part."""
        body = equation.params["jaxpr"]
        # Versions of JAX name these numbers differently; what a loop goes through has one axis less in its body.
        inputs, outputs = (
            [np.ndim(x.aval) == np.ndim(y.aval) for x, y in zip(outer, inner, strict=True)]
            for outer, inner in ((equation.invars, body.jaxpr.invars), (equation.outvars, body.jaxpr.outvars))
        )
        shared = sum(inputs)
        if any(outputs):
            raise InputError("this net cannot be written as ONNX: it has a loop that carries values along")
        rows = []
        for i in range(equation.params["length"]):
            parts = [self.add("Gather", x, np.asarray(i), axis=0) for x in given[shared:]]
            found = self._convert(body.jaxpr, body.consts, [*given[:shared], *parts])
            rows.append([self.add("Unsqueeze", x, np.asarray([0])) for x in found])
        return [self.add("Concat", *row, axis=0) for row in zip(*rows, strict=True)]


def _value_info(name: str, x) -> onnx.ValueInfoProto:
    shape = [str(side) if export.is_symbolic_dim(side) else side for side in x.shape]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(x.dtype)), shape)
