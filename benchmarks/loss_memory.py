"""Upsampling, softmax and cross-entropy of many classes, with gradients: time and peak memory, against PyTorch.

    python -m benchmarks.loss_memory --repeats 3
    python -m benchmarks.loss_memory --batch 4 --size 260

"whole" enlarges the logits of the head before the loss; "bands" enlarges some columns at a time, and again in the
backward pass, as training does. The logits have a quarter of the size of the labels, like those of an HRNet.
"""

from functools import partial

import numpy as np

from benchmarks import harness


def inputs(settings) -> tuple[np.ndarray, np.ndarray]:
    rng, size = np.random.default_rng(0), settings.size
    logits = rng.standard_normal((settings.batch, size // 4, size // 4, settings.classes), np.float32)
    return logits, rng.integers(0, settings.classes, (settings.batch, size, size), np.int32)


def ours(settings, *, whole: bool) -> dict:
    import jax

    from openseg_jax.losses import Upsampled, cross_entropy

    low, labels = jax.device_put(inputs(settings))

    def loss(low, labels):
        logits = Upsampled(low, labels.shape[1:])
        return cross_entropy(logits.full() if whole else logits, labels)

    program = jax.jit(jax.value_and_grad(loss)).lower(low, labels).compile()
    planned = program.memory_analysis().temp_size_in_bytes / 2**20
    return harness.on_jax(lambda: program(low, labels), planned_mb=planned)


def pytorch(settings) -> dict:
    import torch
    import torch.nn.functional as F

    low, labels = (torch.from_numpy(x).to(harness.torch_device()) for x in inputs(settings))
    low, labels = low.permute(0, 3, 1, 2).contiguous().requires_grad_(), labels.long()

    def run():
        logits = F.interpolate(low, size=labels.shape[1:], mode="bilinear", align_corners=True)
        torch.autograd.grad(F.cross_entropy(logits, labels), low)

    return harness.on_torch(run)


if __name__ == "__main__":
    a = harness.parser(__doc__, batch=16, size=520, classes=150).parse_args()
    contestants = {"whole": partial(ours, whole=True), "bands": partial(ours, whole=False), "pytorch": pytorch}
    title = f"cross-entropy of {a.batch}x{a.size}x{a.size}, {a.classes} classes, with gradients"
    headings = {"name": "who", "device": "device", "ms": "ms", "peak_mb": "peak MB"}
    headings |= {"planned_mb": "XLA's temporaries, MB", "time": "time / PyTorch"}
    harness.report(title, harness.compete(contestants, a), a.out, **headings)
