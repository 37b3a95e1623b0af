"""The kernels in which an HRNet + OCR spends its time, from a trace of a few steps.

    python -m benchmarks.kernels --height 512 --width 1024 --batch 8 --dtype bfloat16 --trace step.xplane.pb.gz
    python -m benchmarks.kernels --height 512 --width 1024 --batch 8 --dtype bfloat16 --autotune autotune.pbtxt

--trace keeps the trace, which xprof shows (gunzip it into DIR/plugins/profile/step/, then `xprof DIR`). --autotune
writes what XLA found best on this GPU, for `--xla_gpu_load_autotune_results_from` where there is none; for this, the
program is compiled anew, whatever a compilation cache holds. Kernels whose names differ in a number at the end, as
XLA's fusions do, count as one. "share" is that of all kernels, on all streams.
"""

import gzip
import os
import re
import tempfile
from collections import defaultdict
from pathlib import Path

from benchmarks import harness, hrnet_ocr
from openseg_jax.files import write_bytes


def traced(run, steps: int, folder: str) -> Path:
    """Runs some steps and returns the file of their trace."""
    import jax

    options = jax.profiler.ProfileOptions()
    options.python_tracer_level, options.host_tracer_level = 0, 1 if jax.default_backend() == "gpu" else 2
    with jax.profiler.trace(folder, profiler_options=options):
        for _ in range(steps):
            run()
    return next(Path(folder).glob("plugins/profile/*/*.xplane.pb"))


def kernels(trace: Path) -> list[tuple[str, float, int]]:
    """Returns (name, nanoseconds, calls) of the kernels of a trace by name, longest first.

    These are the events on the streams of GPUs: other lines of theirs say the same again, by other names. A CPU has no
    device in traces; there they are the operations in XLA's threads, without the runtime's own work.
    """
    import jax

    planes = list(jax.profiler.ProfileData.from_file(str(trace)).planes)
    lines = [line for plane in planes if plane.name.startswith("/device:GPU") for line in plane.lines]
    events = [event for line in lines if "Stream" in line.name for event in line.events]
    if not events:
        lines = [line for plane in planes for line in plane.lines if line.name.startswith("tf_XLA")]
        events = [event for line in lines for event in line.events if "::" not in event.name]
    total: dict[str, list] = defaultdict(lambda: [0.0, 0])
    for event in events:
        name = re.sub(r"([._]\d+)+$", "", event.name)
        total[name][0] += event.duration_ns
        total[name][1] += 1
    return sorted(((name, *sums) for name, sums in total.items()), key=lambda row: -row[1])


def main() -> None:
    parser = harness.parser(__doc__, height=128, width=256, batch=1, steps=5, top=20)
    hrnet_ocr.add_arguments(parser)
    parser.add_argument("--mode", default="train", choices=("train", "forward"))
    parser.add_argument("--trace", metavar="FILE", help="keep the trace, compressed")
    parser.add_argument("--autotune", metavar="FILE", help="write XLA's autotuning results, as .pbtxt")
    a = parser.parse_args()
    if a.autotune:
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_dump_autotune_results_to={Path(a.autotune).absolute()}"
    facts = hrnet_ocr.ours(a)
    for _ in range(3):
        facts["run"]()
    with tempfile.TemporaryDirectory() as folder:
        trace = traced(facts["run"], a.steps, folder)
        found = kernels(trace)
        if a.trace:
            write_bytes(a.trace, gzip.compress(trace.read_bytes()))
    total, count = sum(ns for _, ns, _ in found), sum(calls for *_, calls in found)
    rows = []
    for name, ns, calls in [("all kernels", total, count), *found[: a.top]]:
        row = {"kernel": name, "ms per step": ns / 1e6 / a.steps, "calls per step": calls / a.steps}
        rows.append(row | {"share, %": 100 * ns / total})
    title = f"kernels of a {a.mode} step, hrnet_w{a.hrnet}_ocr, {a.batch}x{a.height}x{a.width}, {a.dtype}"
    harness.report(title, rows, a.out)


if __name__ == "__main__":
    main()
