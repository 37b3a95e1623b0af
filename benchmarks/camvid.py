"""Training on CamVid from scratch for a few minutes: how good the net gets, and how fast it trains.

    python -m benchmarks.camvid --root PATH --minutes 3

Runs `openseg train` and, if it was not done when the time was up, `openseg eval`. PATH is as in `openseg train
--config=camvid`. The learning rate falls to 0 at the last step, so a run that is cut is worse than one of fewer steps.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import harness
from openseg_jax.errors import RunError


def openseg(*words: str, seconds: float | None = None) -> float:
    """Runs a command of openseg, asks it to end after some seconds, and returns how long it took."""
    start = time.monotonic()
    with subprocess.Popen([sys.executable, "-m", "openseg_jax", *words], preexec_fn=harness.die_with_parent) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
    if process.returncode:
        raise RunError(f"openseg {words[0]} ended with status {process.returncode}")
    return time.monotonic() - start


def measure(a, folder: Path) -> dict:
    config = [f"--config=camvid:{a.recipe}", f"--config.data.root={a.root}", f"--config.data.workers={a.workers}"]
    changes = {"model.dtype": a.dtype, "augment.on_device": True, "train.steps": a.steps, "train.eval_every": a.steps}
    changes |= {"train.save_every": a.steps, "train.log_every": max(a.steps // 60, 1)}
    changed = [f"--config.{name}={value}" for name, value in changes.items()]
    seconds = openseg("train", *config, f"--workdir={folder}/run", *changed, seconds=60 * a.minutes)
    lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    rates = [line["images_per_second"] for line in lines if "images_per_second" in line]
    scores = [line["val/miou"] for line in lines if "val/miou" in line]
    if not scores:  # it was cut
        openseg("eval", *config, f"--checkpoint={folder}/run", f"--out={folder}/report")
        scores = [json.loads((folder / "report/report.json").read_text())["miou"]]
    return {
        "steps": max(line["step"] for line in lines),
        "of": a.steps,
        "minutes": seconds / 60,
        "first step, s": next(line["first_step_seconds"] for line in lines if "first_step_seconds" in line),
        "images/s": sorted(rates)[len(rates) // 2] if rates else "",
        "mIoU, %": 100 * scores[-1],
    }


def main() -> None:
    parser = harness.parser(__doc__, steps=3000, workers=8)
    parser.add_argument("--root", required=True, help="the folder of CamVid")
    parser.add_argument("--minutes", type=float, default=3, help="after which training ends, compilation included")
    parser.add_argument("--recipe", default="hrnet_w18_ocr", help="what comes behind camvid:")
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16"))
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        row = measure(a, Path(folder))
    harness.report(f"CamVid, camvid:{a.recipe}, {a.dtype}", [row], a.out)


if __name__ == "__main__":
    main()
