"""What is measured on a GPU, the most wanted first."""

from typing import NamedTuple

_STEP = "--height 512 --width 1024 --batch 8 --dtype bfloat16"
_WHOLE = "--height 1024 --width 2048 --batch 4 --dtype bfloat16"
_SMALL = "--hrnet 18_small_v1 --height 64 --width 64 --dtype bfloat16"


class Job(NamedTuple):
    """`python -m COMMAND --out FILE`, which writes the JSON of `harness.save` whenever it knows more."""

    name: str
    seconds: int  # about what it takes on an H200 with 16 cores; with less time left it is not begun
    command: str  # {out} is the folder of the results, {camvid} that of CamVid
    tiny: str  # the same at a size for a CPU

    @property
    def needs_camvid(self) -> bool:
        return "{camvid}" in self.command


JOBS = (
    Job("device", 20, "benchmarks.device", "benchmarks.device --size 256 --megabytes 16 --repeats 2"),
    Job("goldens", 120, "benchmarks.goldens", "benchmarks.goldens --nets segfix_hrnet__hrnet18__torchbn"),
    Job(
        "train",
        240,
        f"benchmarks.hrnet_ocr --modes train {_STEP} --together --repeats 15",
        f"benchmarks.hrnet_ocr --modes train {_SMALL} --together --repeats 2",
    ),
    Job(
        "kernels",
        45,
        f"benchmarks.kernels {_STEP} --trace {{out}}/train.xplane.pb.gz",
        f"benchmarks.kernels {_SMALL} --trace {{out}}/train.xplane.pb.gz",
    ),
    Job(
        "forward",
        90,
        f"benchmarks.hrnet_ocr --modes forward {_WHOLE} --together --repeats 15",
        f"benchmarks.hrnet_ocr --modes forward {_SMALL} --together --repeats 2",
    ),
    Job(
        "sizes",
        150,
        "benchmarks.evaluation --images 200 --hrnet 48 --dtype bfloat16 --skip-exact --repeats 2",
        "benchmarks.evaluation --images 3 --scale 0.1 --batch 2 --skip-exact --repeats 1",
    ),
    Job("refinement", 40, "benchmarks.refinement --maps 100 --repeats 3", "benchmarks.refinement --maps 1 --repeats 1"),
    Job(
        "attention",
        40,
        "benchmarks.attention --dtype bfloat16",
        "benchmarks.attention --height 8 --width 8 --channels 16 --repeats 1",
    ),
    Job("loss", 40, "benchmarks.loss_memory", "benchmarks.loss_memory --batch 1 --size 64 --classes 5 --repeats 1"),
    Job(
        "augmentation",
        60,
        "benchmarks.augmentation --batch_size 8",
        "benchmarks.augmentation --batch_size 1 --repeats 1",
    ),
    Job(
        "overhead",
        40,
        "benchmarks.step_overhead --repeats 200",
        "benchmarks.step_overhead --model hrnet_w18_small_v1_ocr",
    ),
    Job(
        "camvid",
        240,
        "benchmarks.camvid --root {camvid} --minutes 3",
        "benchmarks.camvid --root {camvid} --minutes 2 --recipe hrnet_w18_small_v1_ocr,small --steps 2 --workers 1",
    ),
    Job(
        "autotune",
        150,
        f"benchmarks.kernels {_STEP} --steps 1 --top 0 --autotune {{out}}/autotune.pbtxt",
        f"benchmarks.kernels {_SMALL} --steps 1 --top 0 --autotune {{out}}/autotune.pbtxt",
    ),
)
