"""Attention of all pixels to all pixels: time and peak memory, compared with PyTorch.

    python -m benchmarks.attention --height 64 --width 128
    python -m benchmarks.attention --dtype bfloat16     # on a GPU

The default sizes are those of OCNet at stride 8: an image of 1024x2048 has 128x256 positions, with queries, keys and
values of 256 channels. "whole" holds all affinities at once; "in parts" calls `openseg_jax.models.attention.attend` as
the nets do; "pytorch" calls torch.nn.functional.scaled_dot_product_attention.
"""

from functools import partial

import numpy as np

from benchmarks import harness


def inputs(settings) -> np.ndarray:
    shape = 3, 1, settings.height * settings.width, settings.channels
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def ours(settings, *, whole: bool) -> dict:
    import jax

    from openseg_jax.models.attention import MAX_AFFINITIES, attend

    # As nets in float32 do: GPUs would otherwise round the inputs of products to 10 bits, and PyTorch does not.
    jax.config.update("jax_default_matmul_precision", "float32" if settings.dtype == "float32" else None)
    limit = (settings.height * settings.width) ** 2 if whole else MAX_AFFINITIES
    function = partial(attend, max_affinities=limit)
    if settings.mode == "train":
        program = jax.jit(jax.grad(lambda q, k, v: (function(q, k, v) ** 2).sum(), argnums=(0, 1, 2)))
    else:
        program = jax.jit(function)
    arrays = [jax.numpy.asarray(x, settings.dtype) for x in inputs(settings)]
    return harness.on_jax(lambda: program(*arrays))


def pytorch(settings) -> dict:
    import torch

    training = settings.mode == "train"
    place = {"device": harness.torch_device(), "dtype": getattr(torch, settings.dtype)}
    arrays = [torch.from_numpy(x)[:, None].to(**place) for x in inputs(settings)]
    for array in arrays:
        array.requires_grad_(training)

    def run():
        result = torch.nn.functional.scaled_dot_product_attention(*arrays)
        if training:
            torch.autograd.grad((result**2).sum(), arrays)

    return harness.on_torch(run)


def main() -> None:
    parser = harness.parser(__doc__, height=128, width=256, channels=256)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--skip-whole", action="store_true", help="leave out the contestant that needs the memory")
    a = parser.parse_args()
    contestants = {"whole": partial(ours, whole=True), "in parts": partial(ours, whole=False), "pytorch": pytorch}
    if a.skip_whole:
        del contestants["whole"]
    results = [r for mode in ("forward", "train") for r in harness.compete(contestants, a, mode=mode)]
    title = f"{a.height * a.width:,} positions of {a.channels} channels, {a.dtype}"
    headings = {"mode": "what", "name": "who", "device": "device", "ms": "median ms", "peak_mb": "peak MB"}
    harness.report(title, results, a.out, **headings, time="time / pytorch")


if __name__ == "__main__":
    main()
