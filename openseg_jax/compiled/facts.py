"""What there is to know of a program that was compiled for a GPU before it runs."""

import collections
import math
import re

import jax

from openseg_jax.compiled.hlo import Computation, Instruction, Module, arrays
from openseg_jax.compiled.targets import Target

SMALL = 1_000_000  # bytes; a kernel that moves less takes about as long as its launch
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
# These launch no kernel: they name memory, or run other computations.
_FREE = "parameter bitcast get-tuple-element tuple constant while call conditional after-all partition-id replica-id"
_COPIES = re.compile(r"^(?:wrapped_|input_|loop_)?(?:transpose|copy)")


def facts(compiled: jax.stages.Compiled, target: Target) -> dict:
    """Returns the numbers of a program on one device, for one run of it.

    Times are floors: seconds that the memory takes if every kernel reads its operands and writes its results once, and
    those that convolutions and matrix products take at the peak of their type. Sizes are in bytes; those of collectives
    are what goes into them. `kernels` counts the bodies of loops as often as they run, `kernels_in_text` once.
    `by_kernel` has (name, count, bytes) of the kinds of kernel that move most.
    """
    module, memory = Module(compiled.as_text()), compiled.memory_analysis()
    used = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
    found = collections.Counter(
        peak_memory=used - memory.alias_size_in_bytes,
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        **dict.fromkeys(["kernels", "kernels_in_text", "small_kernels", "read", "written"], 0),
        **dict.fromkeys(["cudnn_convolutions", "other_convolutions", "copies", "copied"], 0),
        **{f"{name}{unit}": 0 for name in COLLECTIVES for unit in ("", "_bytes")},
    )
    flops: collections.Counter = collections.Counter()
    kinds: dict[str, list] = {}
    for instruction, computation, times in module.executed():
        if instruction.opcode in _FREE.split() or instruction.opcode.endswith(("-done", "-update")):
            continue
        read, written = module.read(instruction, computation), module.written(instruction, computation)
        _add(found, module, instruction, times, read, written)
        found.update(read=times * read, written=times * written)
        for dtype, count in _flops(module, instruction, computation):
            flops[dtype] += times * count
        row = kinds.setdefault(_kind(instruction), [0, 0])
        row[0], row[1] = row[0] + times, row[1] + times * (read + written)
    fastest = max(target.peak.values())
    return dict(found) | {
        "bandwidth_s": (found["read"] + found["written"]) / target.bandwidth,
        "flops": sum(flops.values()),
        "peak_s": sum(count / target.peak.get(dtype, fastest) for dtype, count in flops.items()),
        "by_kernel": sorted(([name, *row] for name, row in kinds.items()), key=lambda row: -row[2])[:15],
    }


def _add(found: collections.Counter, module: Module, instruction: Instruction, times: int, read: int, written: int):
    """Counts a kernel as what it is."""
    found.update(kernels=times, kernels_in_text=1, small_kernels=times * (read + written < SMALL))
    collective = instruction.opcode.removesuffix("-start")
    if collective in COLLECTIVES:
        found.update({collective: times, f"{collective}_bytes": times * read})
    if instruction.opcode in ("copy", "transpose", "copy-start") or (
        instruction.opcode == "fusion" and _COPIES.match(instruction.name)
    ):
        found.update(copies=times, copied=times * instruction.bytes)
    if instruction.attribute(r'custom_call_target="(__cudnn\$conv)'):
        found.update(cudnn_convolutions=times)
    inner = [instruction, *module.fused(instruction).values()]
    convolutions = times * sum(i.opcode == "convolution" for i in inner)
    in_cudnn = instruction.attribute(r'"kind":"(__cudnn\$\w+)"')
    found.update({"cudnn_convolutions" if in_cudnn else "other_convolutions": convolutions})


def _kind(instruction: Instruction) -> str:
    """Returns what kernels of its kind are called."""
    return instruction.attribute(r'custom_call_target="([^"]+)"') or re.sub(r"[.\d]+$", "", instruction.name)


def _flops(module: Module, instruction: Instruction, computation: Computation):
    """Yields (type of the factors, floating-point operations) of the convolutions and matrix products of a kernel."""
    scopes = [({instruction.name: instruction}, computation), (module.fused(instruction),) * 2]
    for inner, scope in scopes:
        for i in inner.values():
            labels = i.attribute(r"dim_labels=\w+_(\w+)->")
            if labels:
                yield _of_convolution(i, scope, labels)
            elif i.opcode == "dot" or "gemm" in _kind(i) or "matmul" in _kind(i):
                yield from _of_product(i, scope)


def _of_convolution(instruction: Instruction, scope: Computation, labels: str) -> tuple[str, int]:
    """2 x elements of the kernel x positions of the output, which hold for both gradients, too."""
    operands = [arrays(scope[name].shape)[0] for name in instruction.operand_names[:2]]
    result = arrays(instruction.shape)[0]
    backward = instruction.attribute(r'custom_call_target="__cudnn\$convBackward(\w+)"')
    kernel, output = operands[1][1], result[1]
    if backward == "Input":
        output = operands[0][1]
    elif backward == "Filter":
        kernel, output = result[1], operands[1][1]
    positions = math.prod(output) // kernel[labels.index("o")]
    return operands[0][0], 2 * math.prod(kernel) * positions


def _of_product(instruction: Instruction, scope: Computation):
    """2 x elements of the result x the sum's length."""
    contracting = instruction.attribute(r'lhs_contracting_dim(?:ension)?s"?[=:][\[{]([^\]}]*)')
    if instruction.operand_names and contracting:
        dtype, left = arrays(scope[instruction.operand_names[0]].shape)[0]
        length = math.prod(left[int(axis.strip('" '))] for axis in contracting.split(","))
        yield dtype, 2 * math.prod(arrays(instruction.shape)[0][1]) * length
