"""Attention of all pixels to all pixels: time and peak memory, whole, in parts, and in PyTorch.

    python -m benchmarks.attention --height 64 --width 128

The sizes are those of OCNet at stride 8: 128x256 positions for an image of 1024x2048, with keys and values of 256
channels. "whole" holds all affinities at once; "in parts" is `openseg_jax.models.attention.attend` as the nets use it;
PyTorch is torch.nn.functional.scaled_dot_product_attention.
"""

import functools
import os

import numpy as np

from benchmarks import harness


def inputs(settings: dict) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shape = 1, settings["height"] * settings["width"], settings["channels"]
    return [rng.standard_normal(shape).astype(np.float32) for _ in range(3)]


def ours(settings: dict, *, whole: bool) -> dict:
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    import jax

    from openseg_jax.models.attention import MAX_AFFINITIES, attend

    limit = settings["height"] ** 2 * settings["width"] ** 2 if whole else MAX_AFFINITIES
    function = functools.partial(attend, max_affinities=limit)
    if settings["mode"] == "train":
        program = jax.jit(jax.grad(lambda q, k, v: (function(q, k, v) ** 2).sum(), argnums=(0, 1, 2)))
    else:
        program = jax.jit(function)
    arrays = [jax.device_put(x) for x in inputs(settings)]
    compiled = program.lower(*arrays).compile()
    facts = {"run": lambda: jax.block_until_ready(compiled(*arrays)), "device": str(jax.devices()[0])}
    if jax.default_backend() == "gpu":
        facts["device_peak_mb"] = lambda: jax.devices()[0].memory_stats()["peak_bytes_in_use"] / 2**20
    return facts


def pytorch(settings: dict) -> dict:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    arrays = [torch.from_numpy(x)[:, None].to(device) for x in inputs(settings)]
    training = settings["mode"] == "train"
    for array in arrays:
        array.requires_grad_(training)

    def run():
        for array in arrays:
            array.grad = None
        with torch.set_grad_enabled(training):
            result = torch.nn.functional.scaled_dot_product_attention(*arrays)
        if training:
            (result**2).sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()

    facts = {"run": run, "device": device}
    if device == "cuda":
        facts["device_peak_mb"] = lambda: torch.cuda.max_memory_allocated() / 2**20
    return facts


CONTESTANTS = {
    "whole": functools.partial(ours, whole=True),
    "in parts": functools.partial(ours, whole=False),
    "pytorch": pytorch,
}


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--height", type=int, default=128)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--skip-whole", action="store_true", help="leave out the contestant that needs the memory")
    settings = vars(parser.parse_args())
    out, repeats, skip = settings.pop("out"), settings.pop("repeats"), settings.pop("skip_whole")
    contestants = {name: run for name, run in CONTESTANTS.items() if not (skip and name == "whole")}
    rows = []
    for mode in ("forward", "train"):
        results = harness.compete(contestants, settings | {"mode": mode}, repeats=repeats)
        for name, r in results.items():
            row = {"what": mode, "who": name, "median ms": r["median_ms"], "peak MB": r["peak_mb"]}
            rows.append(row | {"time / pytorch": r["median_ms"] / results["pytorch"]["median_ms"]})
    positions = settings["height"] * settings["width"]
    title = f"{positions:,} positions of {settings['channels']} channels, float32, on {results['in parts']['device']}"
    harness.report(title, rows, out)


if __name__ == "__main__":
    main()
