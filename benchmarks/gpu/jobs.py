"""What is measured on a GPU, the most wanted first."""

from typing import NamedTuple

_STEP = "--height 512 --width 1024 --batch 8 --dtype bfloat16"
_SMALL = "--hrnet 18_small_v1 --height 64 --width 64"


class Job(NamedTuple):
    """A command of this folder: `python -m benchmarks.COMMAND --out FILE`."""

    name: str
    seconds: int  # about what it takes on an H200 with 16 cores; with less time left it is not begun
    command: str  # {out} is the folder of the results, {camvid} that of CamVid
    tiny: str  # the same at a size for a CPU

    @property
    def needs_camvid(self) -> bool:
        return "{camvid}" in self.command


JOBS = (
    Job("device", 20, "device", "device --size 256 --megabytes 16 --repeats 2"),
    Job("goldens", 120, "goldens", "goldens --nets segfix_hrnet__hrnet18__torchbn"),
    Job(
        "train",
        240,
        f"hrnet_ocr --modes train {_STEP} --together --repeats 15",
        f"hrnet_ocr --modes train {_SMALL} --dtype bfloat16 --together --repeats 2",
    ),
    Job(
        "kernels",
        45,
        f"kernels {_STEP} --trace {{out}}/train.xplane.pb.gz",
        f"kernels {_SMALL} --dtype bfloat16 --trace {{out}}/train.xplane.pb.gz",
    ),
    Job(
        "forward",
        90,
        "hrnet_ocr --modes forward --height 1024 --width 2048 --batch 4 --dtype bfloat16 --together --repeats 15",
        f"hrnet_ocr --modes forward {_SMALL} --dtype bfloat16 --together --repeats 2",
    ),
    Job(
        "sizes",
        150,
        "evaluation --images 200 --hrnet 48 --dtype bfloat16 --skip-exact --repeats 2",
        "evaluation --images 4 --scale 0.1 --batch 2 --skip-exact --repeats 1",
    ),
    Job("refinement", 40, "refinement --maps 100 --repeats 3", "refinement --maps 1 --repeats 1"),
    Job("attention", 40, "attention --dtype bfloat16", "attention --height 8 --width 8 --channels 16 --repeats 1"),
    Job("loss", 40, "loss_memory", "loss_memory --batch 1 --size 64 --classes 5 --repeats 1"),
    Job("augmentation", 60, "augmentation --batch_size 8", "augmentation --batch_size 1 --repeats 1"),
    Job("overhead", 40, "step_overhead --repeats 200", "step_overhead --model hrnet_w18_small_v1_ocr"),
    Job(
        "camvid",
        240,
        "camvid --root {camvid} --minutes 3",
        "camvid --root {camvid} --minutes 1 --recipe hrnet_w18_small_v1_ocr,small --dtype float32 --steps 2 --workers 1",
    ),
    Job(
        "autotune",
        150,
        f"kernels {_STEP} --autotune {{out}}/autotune.pbtxt",
        f"kernels {_SMALL} --dtype bfloat16 --autotune {{out}}/autotune.pbtxt",
    ),
)
