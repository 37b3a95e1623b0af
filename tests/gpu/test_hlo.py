# ruff: noqa: E501
"""What is read off the text of an optimised program."""

import types

from openseg_jax.compiled.facts import facts
from openseg_jax.compiled.hlo import Module
from openseg_jax.compiled.targets import TARGETS

TEXT = """
HloModule jit_step, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}

%sliced (stack: f32[5,1000,1000], index: s32[]) -> f32[1,1000,1000] {
  %stack = f32[5,1000,1000]{2,1,0} parameter(0)
  %index = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %slice = f32[1,1000,1000]{2,1,0} dynamic-slice(%stack, %index, %zero, %zero), dynamic_slice_sizes={1,1000,1000}
}

%body (state: (s32[], f32[5,1000,1000], f32[1000,1000])) -> (s32[], f32[5,1000,1000], f32[1000,1000]) {
  %state = (s32[], f32[5,1000,1000]{2,1,0}, f32[1000,1000]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %all = f32[5,1000,1000]{2,1,0} get-tuple-element(%state), index=1
  %x = f32[1000,1000]{1,0} get-tuple-element(%state), index=2
  %one = f32[1,1000,1000]{2,1,0} fusion(%all, %i), kind=kLoop, calls=%sliced
  %weights = f32[1000,1000]{1,0} bitcast(%one)
  %product = f32[1000,1000]{1,0} custom-call(%x, %weights), custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}
  ROOT %next = (s32[], f32[5,1000,1000]{2,1,0}, f32[1000,1000]{1,0}) tuple(%i, %all, %product)
}

%condition (state: (s32[], f32[5,1000,1000], f32[1000,1000])) -> pred[] {
  %state = (s32[], f32[5,1000,1000]{2,1,0}, f32[1000,1000]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %end = s32[] constant(5)
  ROOT %less = pred[] compare(%i, %end), direction=LT
}

ENTRY %main (start: (s32[], f32[5,1000,1000], f32[1000,1000]), image: bf16[2,8,8,16], kernel: bf16[32,3,3,16]) -> bf16[2,8,8,32] {
  %start = (s32[], f32[5,1000,1000]{2,1,0}, f32[1000,1000]{1,0}) parameter(0)
  %image = bf16[2,8,8,16]{3,2,1,0} parameter(1)
  %kernel = bf16[32,3,3,16]{3,2,1,0} parameter(2)
  %loop = (s32[], f32[5,1000,1000]{2,1,0}, f32[1000,1000]{1,0}) while(%start), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %copy.1 = bf16[32,3,3,16]{0,3,2,1} copy(%kernel)
  %conv = (bf16[2,8,8,32]{3,2,1,0}, u8[0]{0}) custom-call(%image, %copy.1), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward"
  %result = bf16[2,8,8,32]{3,2,1,0} get-tuple-element(%conv), index=0
  %reduced = bf16[2,8,8,32]{3,2,1,0} all-reduce-start(%result), replica_groups={{0,1}}, to_apply=%sum
  ROOT %done = bf16[2,8,8,32]{3,2,1,0} all-reduce-done(%reduced)
}
"""
IMAGE, KERNEL, RESULT = (2 * size for size in (2 * 8 * 8 * 16, 32 * 9 * 16, 2 * 8 * 8 * 32))


class Compiled:
    """Stands for what JAX compiled."""

    def as_text(self):
        return TEXT

    def memory_analysis(self):
        sizes = {"argument_size_in_bytes": 100, "temp_size_in_bytes": 30, "output_size_in_bytes": 20}
        return types.SimpleNamespace(**sizes, alias_size_in_bytes=10)


def test_facts_of_a_program_with_a_loop():
    found = facts(Compiled(), TARGETS["h200"])
    assert found["peak_memory"] == 140
    # five times (slice, product, compare in the condition), copy, convolution, all-reduce
    assert found["kernels"] == 18
    assert found["kernels_in_text"] == 6
    assert found["copies"] == 1
    assert found["copied"] == KERNEL
    assert (found["cudnn_convolutions"], found["other_convolutions"]) == (1, 0)
    assert (found["all-reduce"], found["all-reduce_bytes"]) == (1, RESULT)
    product, convolution = 5 * 2 * 1000**3, 2 * (32 * 9 * 16) * (2 * 8 * 8)
    assert found["flops"] == product + convolution
    peak = TARGETS["h200"].peak
    assert found["peak_s"] == product / peak["f32"] + convolution / peak["bf16"]
    rows = {name: (count, moved) for name, count, moved in found["by_kernel"]}
    assert rows["__cublas$gemm"] == (5, 5 * 3 * 4_000_000)
    assert rows["one"] == (5, 5 * (2 * 4_000_000 + 4))  # of the stack of weights one at a time
    assert rows["__cudnn$convForward"] == (1, IMAGE + KERNEL + RESULT)


def test_an_update_in_place():
    text = TEXT.replace("dynamic-slice(%stack, %index, %zero, %zero)", "dynamic-update-slice(%stack, %index, %zero)")
    module = Module(text)
    fusion = module.computations["body"]["one"]
    assert module.written(fusion, module.computations["body"]) == 4
    assert module.read(fusion, module.computations["body"]) == 4


def test_of_what_is_sliced_behind_elementwise_operations_only_the_slice_is_read():
    module = Module("""
%part (x: bf16[100,100], y: f32[100,100]) -> f32[10,100] {
  %x = bf16[100,100]{1,0} parameter(0)
  %y = f32[100,100]{1,0} parameter(1)
  %wide = f32[100,100]{1,0} convert(%x)
  %both = f32[100,100]{1,0} add(%wide, %y)
  ROOT %slice = f32[10,100]{1,0} slice(%both), slice={[0:10], [0:100]}
}

ENTRY %main (x: bf16[100,100], y: f32[100,100]) -> f32[10,100] {
  %x = bf16[100,100]{1,0} parameter(0)
  %y = f32[100,100]{1,0} parameter(1)
  ROOT %fusion = f32[10,100]{1,0} fusion(%x, %y), kind=kLoop, calls=%part
}
""")
    (kernel,) = (own for own, _, _ in module.executed() if own.opcode == "fusion")
    assert module.read(kernel, module.computations["main"]) == 10 * 100 * (2 + 4)
    assert module.written(kernel, module.computations["main"]) == 10 * 100 * 4
