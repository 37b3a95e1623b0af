"""Upsampling, softmax and cross-entropy of many classes, with gradients: time and peak memory, against PyTorch.

    python -m benchmarks.loss_memory --repeats 3
    python -m benchmarks.loss_memory --batch 4 --size 260

"whole" enlarges the logits of the head before the loss; "bands" enlarges some columns at a time, and again in the
backward pass, as training does. The logits have a quarter of the size of the labels, like those of an HRNet.
"""

import os

import numpy as np

from benchmarks import harness


def inputs(settings: dict) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    size, low = settings["size"], settings["size"] // 4
    logits = rng.standard_normal((settings["batch"], low, low, settings["classes"]), np.float32)
    return logits, rng.integers(0, settings["classes"], (settings["batch"], size, size)).astype(np.int32)


def _ours(settings: dict, materialized: bool) -> dict:
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    import jax

    from openseg_jax.losses import Upsampled, cross_entropy

    low, labels = map(jax.device_put, inputs(settings))

    def loss(low, labels):
        logits = Upsampled(low, labels.shape[1:])
        return cross_entropy(logits.full() if materialized else logits, labels)

    program = jax.jit(jax.value_and_grad(loss)).lower(low, labels).compile()
    facts = {
        "run": lambda: jax.block_until_ready(program(low, labels)),
        "planned_mb": program.memory_analysis().temp_size_in_bytes / 2**20,
    }
    if jax.default_backend() == "gpu":
        facts["device_peak_mb"] = lambda: jax.devices()[0].memory_stats()["peak_bytes_in_use"] / 2**20
    return facts


def whole(settings: dict) -> dict:
    return _ours(settings, materialized=True)


def bands(settings: dict) -> dict:
    return _ours(settings, materialized=False)


def pytorch(settings: dict) -> dict:
    import torch
    import torch.nn.functional as F

    device = "cuda" if torch.cuda.is_available() else "cpu"
    low, labels = (torch.from_numpy(x).to(device) for x in inputs(settings))
    low, labels = low.permute(0, 3, 1, 2).contiguous().requires_grad_(), labels.long()

    def run():
        low.grad = None
        logits = F.interpolate(low, size=labels.shape[1:], mode="bilinear", align_corners=True)
        F.cross_entropy(logits, labels).backward()
        if device == "cuda":
            torch.cuda.synchronize()

    facts = {"run": run, "planned_mb": 0.0}
    if device == "cuda":
        facts["device_peak_mb"] = lambda: torch.cuda.max_memory_allocated() / 2**20
    return facts


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=520)
    parser.add_argument("--classes", type=int, default=150)
    a = parser.parse_args()
    settings = {"batch": a.batch, "size": a.size, "classes": a.classes}
    results = harness.compete({"whole": whole, "bands": bands, "pytorch": pytorch}, settings, repeats=a.repeats)
    rows = [
        {
            "": name,
            "ms": r["median_ms"],
            "peak MB": r["peak_mb"],
            "XLA's temporaries, MB": r["planned_mb"],
            "time / PyTorch": r["median_ms"] / results["pytorch"]["median_ms"],
        }
        for name, r in results.items()
    ]
    harness.report(f"cross-entropy of {a.batch}x{a.size}x{a.size}, {a.classes} classes, with gradients", rows, a.out)


if __name__ == "__main__":
    main()
