"""Measures on a GPU what docs/benchmarks.md tells of one: one command for a bare machine.

    python -m benchmarks.gpu --minutes 12 --out results --camvid PATH
    python -m benchmarks.gpu --report results        # writes the section "On a GPU" of docs/benchmarks.md

The jobs run one after the other, the most wanted first, each in processes of its own, as long as there is time. Every
number is in OUT/results.json as soon as it is known, whatever happens then; a job that fails does not stop the others.
Started again with the same --out, the command goes on with what is not done yet. --tiny runs all of it on a CPU.

In OUT are then results.json, log.txt (what the jobs have printed), train.xplane.pb.gz (a trace of five training steps)
and autotune.pbtxt (for XLA's --xla_gpu_load_autotune_results_from where there is no GPU).

What is needed: a clone of this project, as the working directory (the goldens in tests/goldens, too); Python 3.11 or
newer with jax and its CUDA plugin, flax, optax, orbax-checkpoint, grain, array_record, ml_collections, tensorboardX,
torch, numpy, scipy, opencv-python-headless, pillow, matplotlib, rich, absl-py, pyyaml, pytest; and for the job camvid
that data set (docs/datasets.md). Where there is no network but most of this, the rest travels as wheels, and what is
older there than in constraints/oldest.txt:

    python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \\
        --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \\
        -c constraints/newest.txt -d wheels grain array_record ml_collections tensorboardX
    python3 -m pip install --no-index --no-deps --target site wheels/*.whl; export PYTHONPATH=site:$PWD      # there
"""

import argparse
from pathlib import Path

from benchmarks.gpu import report
from benchmarks.gpu.jobs import JOBS
from benchmarks.gpu.running import ROOT, records, run
from openseg_jax.errors import InputError, run_command


def parse(words: list[str] | None = None) -> argparse.Namespace:
    names = [job.name for job in JOBS]
    jobs = "\n".join(f"  {job.name:13}{job.seconds:4} s  python -m {job.command}" for job in JOBS)
    epilog, form = f"jobs, and about how long they take on an H200:\n{jobs}", argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", None, __doc__, epilog, formatter_class=form)
    parser.add_argument("--minutes", type=float, default=12, help="after which everything ends (12)")
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--camvid", help="folder of CamVid, for the job camvid")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="JOB", help="run these jobs only")
    parser.add_argument("--tiny", action="store_true", help="small sizes, for trying the command on a CPU")
    parser.add_argument("--report", nargs="+", type=Path, metavar="DIR", help="write the section from these results")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/benchmarks.md", help="the page that has the section")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int | None:
    a = parse(words)
    if a.report:
        report.write(a.page, records(a.report))
        return None
    if not a.out:
        raise InputError("--out is missing: give a folder for the results, or --report and the folder of a run")
    camvid = str(Path(a.camvid).resolve()) if a.camvid else None
    a.out.mkdir(parents=True, exist_ok=True)
    jobs = [job for job in JOBS if job.name in a.only]
    results = run(jobs, a.out.resolve(), a.minutes, tiny=a.tiny, camvid=camvid)
    return int(any(results.jobs[job.name]["status"] == "failed" for job in jobs))


if __name__ == "__main__":
    run_command(main)
