"""What the device can do: its matrix products and its memory, beside which other numbers are to be read.

    python -m benchmarks.device

A product of two square matrices in bfloat16, of random numbers, and a pass that reads a large array and writes another.
"""

import statistics
import time

from benchmarks import harness


def measure(size: int, megabytes: int, repeats: int) -> list[dict]:
    import jax
    import jax.numpy as jnp

    a, b = (jax.random.normal(jax.random.key(seed), (size, size), jnp.bfloat16) for seed in (0, 1))
    array = jax.random.normal(jax.random.key(2), (megabytes * 2**18,))
    product = jax.jit(lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.bfloat16))
    negative = jax.jit(lambda x: -x)
    rows = []
    for what, program, inputs, work, unit in (
        (f"product of {size}x{size}, bfloat16", product, (a, b), 2e-12 * size**3, "TFLOP/s"),
        (f"pass over {megabytes} MB", negative, (array,), 2e-9 * array.nbytes, "GB/s"),
    ):
        times = []
        for _ in range(repeats + 2):
            start = time.perf_counter()
            jax.block_until_ready([program(*inputs) for _ in range(10)][-1])
            times.append((time.perf_counter() - start) / 10)
        rate = work / statistics.median(times[2:])
        rows.append({"what": what, "device": jax.devices()[0].device_kind, "rate": rate, "unit": unit})
    return rows


def main() -> None:
    a = harness.parser(__doc__, size=8192, megabytes=2048).parse_args()
    harness.report("The device", measure(a.size, a.megabytes, a.repeats), a.out)


if __name__ == "__main__":
    main()
