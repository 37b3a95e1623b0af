"""Reads the text of an optimised HLO module: its instructions, how often each runs, and what it reads and writes."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_BITS = {"pred": 8, "bf16": 16, "c64": 64, "c128": 128}
_BITS |= {f"{kind}{bits}": bits for kind in "suf" for bits in (4, 8, 16, 32, 64)}
_ARRAY = re.compile(r"\b(pred|bf16|[sufc]\d+)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\(([^)]*)\)(.*)$")
_RUN_COMPUTATIONS = ("while", "call", "conditional", "async-start")
# Within a kernel they compute of each element only what is read of the result.
_ELEMENTWISE = ("bitcast", "convert", "copy", "reshape", "add", "subtract", "multiply", "divide", "maximum", "minimum")
_ELEMENTWISE += ("select", "compare", "negate", "exponential")
_SLICES = ("dynamic-slice", "slice", "gather")  # they read a part of their first operand


def arrays(shape: str) -> list[tuple[str, tuple[int, ...]]]:
    """Returns (dtype, dimensions) of the arrays of a shape, which may be a tuple."""
    return [(dtype, tuple(map(int, filter(None, dims.split(","))))) for dtype, dims in _ARRAY.findall(shape)]


class Instruction(NamedTuple):
    """A line of a computation: [ROOT] name = shape opcode(operands)attributes."""

    is_root: bool
    name: str
    shape: str
    opcode: str
    operands: str
    attributes: str

    @property
    def bytes(self) -> int:
        """The size of the result."""
        return sum(math.prod(dims) * _BITS.get(dtype, 8) // 8 for dtype, dims in arrays(self.shape))

    @property
    def elements(self) -> int:
        """The number of elements of the result."""
        return sum(math.prod(dims) for _, dims in arrays(self.shape))

    @property
    def operand_names(self) -> list[str]:
        return re.findall(r"%([\w.\-]+)", self.operands)

    @property
    def called(self) -> list[str]:
        """The computations that it names."""
        names = re.findall(r"(?:calls|to_apply|body|condition|\w+_computation)=%?([\w.\-]+)", self.attributes)
        return names + re.findall(r"[\w.\-]+", self.attribute(r"branch_computations=\{([^}]*)\}"))

    @property
    def trips(self) -> int:
        """How often a loop runs its body, 1 where XLA does not know."""
        return int(self.attribute(r'"known_trip_count":\{"n":"(\d+)"') or 1)

    def attribute(self, pattern: str) -> str:
        """Returns the first group of a pattern in the attributes, or nothing."""
        match = re.search(pattern, self.attributes)
        return match[1] if match else ""


Computation = dict[str, Instruction]


class Module:
    """A module, as `jax.stages.Compiled.as_text` gives it.

    Attributes:
        computations: Their instructions by name, by the name of the computation.
        runs: How often each computation runs when the program runs once: the bodies of loops as often as they loop, if
            XLA knows. Those of fusions and reductions, which are parts of kernels, are not here.
    """

    def __init__(self, text: str):
        self.computations: dict[str, Computation] = {}
        self.runs: dict[str, int] = {}
        entry, current = "", {}
        for line in text.splitlines():
            if match := _COMPUTATION.match(line):
                current = self.computations.setdefault(match[2], {})
                entry = match[2] if match[1] else entry
            elif match := _INSTRUCTION.match(line):
                current[match[2]] = Instruction(bool(match[1]), *match.groups()[1:])
        self._count(entry, 1)

    def _count(self, name: str, times: int) -> None:
        self.runs[name] = self.runs.get(name, 0) + times
        for instruction in self.computations[name].values():
            if instruction.opcode in _RUN_COMPUTATIONS:
                for called in instruction.called:
                    self._count(called, times * instruction.trips)

    def executed(self) -> Iterator[tuple[Instruction, Computation, int]]:
        """Yields every instruction outside of kernels, with its computation and how often it runs."""
        for name, times in self.runs.items():
            for instruction in self.computations[name].values():
                yield instruction, self.computations[name], times

    def fused(self, instruction: Instruction) -> Computation:
        """Returns the computation of a fusion, and of other instructions nothing."""
        return self.computations[instruction.called[0]] if instruction.opcode == "fusion" else {}

    def read(self, instruction: Instruction, computation: Computation) -> int:
        """Returns the bytes that a kernel reads: each operand once, and of what it slices only the slice."""
        fused, total = self.fused(instruction), 0
        for place, name in enumerate(instruction.operand_names):
            if name not in computation:
                continue
            operand = computation[name]
            if instruction.opcode == "fusion":
                own = next(i for i in fused.values() if i.opcode == "parameter" and i.operands == str(place))
                share = _share(own, fused)
            else:
                share = _share_of(instruction, place, operand, {})
            total += round(operand.bytes * share)
        return total

    def written(self, instruction: Instruction, computation: Computation) -> int:
        """Returns the bytes that a kernel writes, and of an array that it updates in place those of the update."""
        root, scope = instruction, computation
        for inner in self.fused(instruction).values():
            if inner.is_root:
                root, scope = inner, self.fused(instruction)
        return scope[root.operand_names[1]].bytes if root.opcode == "dynamic-update-slice" else instruction.bytes


def _share(array: Instruction, scope: Computation) -> float:
    """Returns the share of an array within a kernel that its users read."""
    users = [
        (user, user.operand_names.index(array.name)) for user in scope.values() if array.name in user.operand_names
    ]
    return min(1.0, sum(_share_of(user, position, array, scope) for user, position in users))


def _share_of(user: Instruction, position: int, array: Instruction, scope: Computation) -> float:
    if position == 0 and user.opcode in _SLICES:
        return min(1.0, user.elements / max(array.elements, 1))
    if position == 0 and user.opcode == "dynamic-update-slice":
        return 0.0
    if user.opcode in _ELEMENTWISE and not user.is_root:
        return _share(user, scope)
    return 1.0
