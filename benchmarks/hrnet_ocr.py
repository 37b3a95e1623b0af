"""Training step and forward pass of an HRNet + OCR, compared with PyTorch.

    python -m benchmarks.hrnet_ocr --height 128 --width 256 --batch 1
    python -m benchmarks.hrnet_ocr --height 512 --width 1024 --batch 8 --dtype bfloat16 --together     # on a GPU

There are two opponents: `reference` is the same net written in PyTorch (benchmarks/torch_reference.py), and `timm` is
timm's HRNet features, which fuse their branches by nearest upsampling, under the same OCR head. Both run in
channels_last, and on a GPU with torch.compile and autocast. Ours is the step of `openseg train`, which also normalizes
the images. The forward pass ends with the class of each pixel.

"planned MB" is what XLA plans for the program; its peak also has what it tried out while compiling. "MFU" is the share
of the tensor cores' 990 TFLOP/s in bfloat16 (NVIDIA's data sheets of H100 SXM and H200 SXM, without sparsity), for two
operations per multiply-add of convolutions and matrix products, and three times as many in a training step.
"""

import contextlib
import time

import numpy as np

from benchmarks import harness

PEAK_TFLOPS = {"H100": 990, "H200": 990}  # https://www.nvidia.com/en-us/data-center/h200/, half of those with sparsity


def inputs(settings) -> tuple[np.ndarray, np.ndarray]:
    rng, shape = np.random.default_rng(0), (settings.batch, settings.height, settings.width)
    return rng.integers(0, 256, (*shape, 3), np.uint8), rng.integers(0, 19, shape, np.uint8)


def ours(settings) -> dict:
    import jax

    from openseg_jax import models, sharding
    from openseg_jax.config import Config
    from openseg_jax.data.normalize import Normalization, normalize
    from openseg_jax.inference import fold
    from openseg_jax.models.counting import multiply_adds
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
        program, state = jax.jit(forward), fold(model, sharding.put_replicated(mesh, models.init(model)), mesh)
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

    plan = program.memory_analysis()
    planned = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    facts = {"trace_s": traced - start, "compile_s": compiled - traced}
    facts["planned_mb"] = (planned + plan.temp_size_in_bytes) / 2**20
    passes = 3 if settings.mode == "train" else 1
    facts["tflop"] = 2e-12 * passes * settings.batch * multiply_adds(model, settings.height, settings.width)
    return harness.on_jax(run, **facts)


def pytorch(settings) -> dict:
    import torch
    import torch.nn.functional as F

    from benchmarks.torch_reference import HRNetOCR, options_of

    device, net = harness.torch_device(), HRNetOCR(19, **options_of(settings.hrnet))
    if settings.opponent == "timm":
        import timm

        options = {"features_only": True, "feature_location": "", "out_indices": (1, 2, 3, 4), "pretrained": False}
        net.backbone = timm.create_model(f"hrnet_w{settings.hrnet}", **options)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32, as in ours
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

    facts = harness.on_torch(run)
    start = time.perf_counter()
    facts["run"]()  # which compiles
    seconds, trace_s = time.perf_counter() - start, 0.0
    with contextlib.suppress(Exception):  # what Dynamo tells of itself is not a public interface
        spent = torch._dynamo.utils.calculate_time_spent()
        trace_s = spent["entire_frame_compile"] - spent["backend_compile"]
    return facts | {"trace_s": trace_s, "compile_s": seconds - trace_s}


def with_mfu(found: list[dict]) -> list[dict]:
    """Adds "mfu", in per cent, to the results of one mode in bfloat16 on a GPU whose peak is known."""
    tflop = next((result["tflop"] for result in found if "tflop" in result), None)
    for result in found:
        peak = next((peak for name, peak in PEAK_TFLOPS.items() if name in result.get("device", "")), None)
        if tflop and peak and result["dtype"] == "bfloat16" and "ms" in result:
            result["mfu"] = 100 * tflop / result["s"] / peak
    return found


def add_arguments(parser) -> None:
    """Adds the options that say which net is run in which precision."""
    parser.add_argument("--hrnet", default="48", choices=("18_small_v1", "18", "32", "48", "64"), help="width")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))


def main() -> None:
    parser = harness.parser(__doc__, height=128, width=256, batch=1)
    add_arguments(parser)
    parser.add_argument("--opponent", default="reference", choices=("reference", "timm"))
    parser.add_argument("--modes", nargs="+", default=["train", "forward"], choices=("train", "forward"))
    parser.add_argument("--together", action="store_true", help="compile both at the same time")
    a = parser.parse_args()
    title = f"hrnet_w{a.hrnet}_ocr, {a.batch}x{a.height}x{a.width}, {a.dtype}, against {a.opponent}"
    headings = {"mode": "what", "name": "who", "device": "device", "ms": "median ms", "per_s": "images/s"}
    headings |= {"speed": "speed / pytorch", "mfu": "MFU, %", "peak_mb": "peak MB", "planned_mb": "planned MB"}
    headings |= {"memory": "memory / pytorch", "trace_s": "trace s", "compile_s": "compile s"}
    contestants, results = {"openseg_jax": ours, "pytorch": pytorch}, []
    for mode in a.modes:

        def keep(found: list[dict], before=tuple(results)) -> None:
            harness.save(title, [*before, *with_mfu(found)], a.out, **headings)

        found = harness.compete(contestants, a, work=a.batch, together=a.together, keep=keep, mode=mode)
        results += with_mfu(found)
    harness.report(title, results, a.out, **headings)


if __name__ == "__main__":
    main()
