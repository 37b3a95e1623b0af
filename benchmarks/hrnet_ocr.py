"""Training step and forward pass of an HRNet + OCR, compared with PyTorch.

    python -m benchmarks.hrnet_ocr --height 128 --width 256 --batch 1
    python -m benchmarks.hrnet_ocr --height 512 --width 1024 --batch 8 --dtype bfloat16 --opponent timm     # on a GPU

There are two opponents: `reference` is the same net written in PyTorch (benchmarks/torch_reference.py), and `timm` is
timm's HRNet features, which fuse their branches by nearest upsampling, under the same OCR head. Both run in
channels_last, and on a GPU with torch.compile and autocast. Ours is the step of `openseg train`, which also normalizes
the images.
"""

import time

import numpy as np

from benchmarks import harness


def inputs(settings) -> tuple[np.ndarray, np.ndarray]:
    rng, shape = np.random.default_rng(0), (settings.batch, settings.height, settings.width)
    return rng.integers(0, 256, (*shape, 3), np.uint8), rng.integers(0, 19, shape, np.uint8)


def ours(settings) -> dict:
    import jax

    from openseg_jax import models, sharding
    from openseg_jax.config import Config
    from openseg_jax.data.normalize import Normalization, normalize
    from openseg_jax.training.step import TrainStep

    model = models.create(f"hrnet_w{settings.hrnet}_ocr", 19, dtype=settings.dtype)
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    images, labels = inputs(settings)
    boxes = np.tile(np.array([0, 0, settings.height, settings.width], np.int32), (settings.batch, 1))
    batch = sharding.put_batch(mesh, {"image": images, "label": labels, "box": boxes})

    def forward(variables, batch):
        images = normalize(batch["image"], batch["box"], Normalization())
        return models.apply(model, variables, images)["out"].argmax(-1)

    if settings.mode == "train":
        step = TrainStep(Config(), model, Normalization(), mesh)
        program, state = step.compiled, step.pack(sharding.put(step.shardings, step.init(models.init(model))))
    else:
        program, state = jax.jit(forward), sharding.put_replicated(mesh, models.init(model))
    start = time.perf_counter()
    lowered = program.lower(state, batch)
    traced = time.perf_counter()
    program = lowered.compile()
    compiled = time.perf_counter()

    def run():
        nonlocal state
        result = program(state, batch)
        if settings.mode == "train":
            state = result[0]
        return result

    return harness.on_jax(run, trace_s=traced - start, compile_s=compiled - traced)


def pytorch(settings) -> dict:
    import torch
    import torch.nn.functional as F

    from benchmarks.torch_reference import HRNetOCR

    device, net = harness.torch_device(), HRNetOCR(19, width=settings.hrnet)
    if settings.opponent == "timm":
        import timm

        options = {"features_only": True, "feature_location": "", "out_indices": (1, 2, 3, 4), "pretrained": False}
        net.backbone = timm.create_model(f"hrnet_w{settings.hrnet}", **options)
    net = net.to(device, memory_format=torch.channels_last).train(settings.mode == "train")
    images, labels = (torch.from_numpy(x).to(device) for x in inputs(settings))
    images = images.permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=torch.channels_last)
    labels = labels.long()
    narrow = torch.autocast(device, dtype=torch.bfloat16, enabled=settings.dtype == "bfloat16")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    compiled = torch.compile(net) if device == "cuda" else net

    def run():
        if settings.mode == "train":
            optimizer.zero_grad(set_to_none=True)
            with narrow:
                aux, out = compiled(images)
            loss = F.cross_entropy(out.float(), labels) + 0.4 * F.cross_entropy(aux.float(), labels)
            loss.backward()
            optimizer.step()
        else:
            with torch.no_grad(), narrow:
                compiled(images)[1].argmax(1)

    return harness.on_torch(run, trace_s=0.0)


if __name__ == "__main__":
    parser = harness.parser(__doc__, height=128, width=256, batch=1)
    parser.add_argument("--hrnet", type=int, default=48, choices=(18, 32, 48, 64), help="width")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--opponent", default="reference", choices=("reference", "timm"))
    a = parser.parse_args()
    contestants, results = {"openseg_jax": ours, "pytorch": pytorch}, []
    for mode in ("train", "forward"):
        results += harness.compete(contestants, a, work=a.batch, mode=mode)
    results = [{"compile_s": result["first_s"]} | result for result in results]  # PyTorch compiles in its first run
    size, device = f"{a.batch}x{a.height}x{a.width}", results[0]["device"]
    title = f"hrnet_w{a.hrnet}_ocr, {size}, {a.dtype}, against {a.opponent}, on {device}"
    headings = {"mode": "what", "name": "who", "ms": "median ms", "per_s": "images/s", "speed": "speed / pytorch"}
    headings |= {"peak_mb": "peak MB", "memory": "memory / pytorch", "trace_s": "trace s", "compile_s": "compile s"}
    harness.report(title, results, a.out, **headings)
