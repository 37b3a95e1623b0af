"""Training step and forward pass of an HRNet + OCR, against PyTorch.

    python -m benchmarks.hrnet_ocr --height 128 --width 256 --batch 1
    python -m benchmarks.hrnet_ocr --height 512 --width 1024 --batch 8 --dtype bfloat16 --opponent timm     # on a GPU

The opponents: `reference` is the same net written in PyTorch (benchmarks/torch_reference.py); `timm` is timm's HRNet
features, which fuse their branches by nearest upsampling, under the same OCR head. Both run channels_last, on a GPU
with torch.compile and autocast. The contestants take turns, each in its own process.
"""

import os
import time

import numpy as np

from benchmarks import harness


def inputs(settings: dict) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    shape = settings["batch"], settings["height"], settings["width"]
    return rng.standard_normal((*shape, 3)).astype(np.float32), rng.integers(0, 19, shape).astype(np.int32)


def ours(settings: dict) -> dict:
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    import jax
    import optax

    from openseg_jax import models
    from openseg_jax.losses import cross_entropy

    model = models.create(f"hrnet_w{settings['hrnet']}_ocr", 19, dtype=settings["dtype"])
    images, labels = map(jax.device_put, inputs(settings))
    variables = jax.device_put(models.init(model))
    optimizer = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(0.01, momentum=0.9))
    state = {**variables, "opt_state": optimizer.init(variables["params"])}

    def step(state, images, labels):
        def loss(params):
            net = {"params": params, "batch_stats": state["batch_stats"]}
            outputs, stats = models.apply(model, net, images, train=True, rngs=jax.random.key(0))
            return cross_entropy(outputs["out"], labels) + 0.4 * cross_entropy(outputs["aux"], labels), stats

        (value, stats), gradients = jax.value_and_grad(loss, has_aux=True)(state["params"])
        updates, opt_state = optimizer.update(gradients, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        return {"params": params, "batch_stats": stats, "opt_state": opt_state}, value

    def forward(variables, images):
        return models.apply(model, variables, images)["out"].argmax(-1)

    start = time.perf_counter()
    if settings["mode"] == "train":
        lowered = jax.jit(step, donate_argnums=0).lower(state, images, labels)
    else:
        lowered = jax.jit(forward).lower(variables, images)
    traced = time.perf_counter()
    program = lowered.compile()
    compiled = time.perf_counter()

    def run():
        nonlocal state
        if settings["mode"] == "train":
            state, value = program(state, images, labels)
            jax.block_until_ready((state, value))
        else:
            jax.block_until_ready(program(variables, images))

    facts = {"run": run, "trace_s": traced - start, "compile_s": compiled - traced, "device": str(jax.devices()[0])}
    if jax.default_backend() == "gpu":
        facts["device_peak_mb"] = lambda: jax.devices()[0].memory_stats()["peak_bytes_in_use"] / 2**20
    return facts


def pytorch(settings: dict) -> dict:
    import torch
    import torch.nn.functional as F

    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = torch_net(settings).to(device, memory_format=torch.channels_last)
    images, labels = inputs(settings)
    images = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(device, memory_format=torch.channels_last)
    labels = torch.from_numpy(labels).long().to(device)
    narrow = torch.autocast(device, dtype=torch.bfloat16, enabled=settings["dtype"] == "bfloat16")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    net.train(settings["mode"] == "train")
    start = time.perf_counter()
    compiled = torch.compile(net) if device == "cuda" else net

    def run():
        if settings["mode"] == "train":
            optimizer.zero_grad(set_to_none=True)
            with narrow:
                aux, out = compiled(images)
            loss = F.cross_entropy(out.float(), labels) + 0.4 * F.cross_entropy(aux.float(), labels)
            loss.backward()
            optimizer.step()
        else:
            with torch.no_grad(), narrow:
                compiled(images)[1].argmax(1)
        if device == "cuda":
            torch.cuda.synchronize()

    run()
    facts = {"run": run, "trace_s": 0.0, "compile_s": time.perf_counter() - start, "device": device}
    if device == "cuda":
        facts["device_peak_mb"] = lambda: torch.cuda.max_memory_allocated() / 2**20
    return facts


def torch_net(settings: dict):
    from torch import nn

    from benchmarks.torch_reference import HRNetOCR, OCRHead, resize

    width = settings["hrnet"]
    if settings["opponent"] == "reference":
        return HRNetOCR(19, width=width)

    import timm
    import torch

    class TimmHRNetOCR(nn.Module):
        def __init__(self):
            super().__init__()
            options = {"features_only": True, "feature_location": "", "out_indices": (1, 2, 3, 4), "pretrained": False}
            self.backbone = timm.create_model(f"hrnet_w{width}", **options)
            self.head = OCRHead(15 * width, 19)

        def forward(self, images):
            xs = self.backbone(images)
            joined = torch.cat([resize(x, xs[0]) for x in xs], dim=1)
            return tuple(resize(logits, images) for logits in self.head(joined))

    return TimmHRNetOCR()


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--hrnet", type=int, default=48, choices=(18, 32, 48, 64), help="width")
    parser.add_argument("--height", type=int, default=128)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--opponent", default="reference", choices=("reference", "timm"))
    settings = vars(parser.parse_args())
    out, repeats = settings.pop("out"), settings.pop("repeats")

    rows = []
    for mode in ("train", "forward"):
        results = harness.compete(
            {"openseg_jax": ours, "pytorch": pytorch}, settings | {"mode": mode}, repeats=repeats
        )  # fmt: skip
        for name, r in results.items():
            rows.append(
                {
                    "what": mode,
                    "who": name,
                    "median ms": r["median_ms"],
                    "images/s": 1000 * settings["batch"] / r["median_ms"],
                    "speed / pytorch": results["pytorch"]["median_ms"] / r["median_ms"],
                    "peak MB": r["peak_mb"],
                    "memory / pytorch": r["peak_mb"] / results["pytorch"]["peak_mb"],
                    "trace s": r["trace_s"],
                    "compile s": r["compile_s"],
                }
            )
    size = f"{settings['batch']}x{settings['height']}x{settings['width']}"
    device = results["openseg_jax"]["device"]
    title = f"hrnet_w{settings['hrnet']}_ocr, {size}, {settings['dtype']}, against {settings['opponent']}, on {device}"
    harness.report(title, rows, out)


if __name__ == "__main__":
    main()
