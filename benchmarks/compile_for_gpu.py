"""Compiles a program of a config for GPUs that need not be there, and says what it takes of them.

    python -m benchmarks.compile_for_gpu train --config=cityscapes:hrnet_w48_ocr --config.model.dtype=bfloat16
    python -m benchmarks.compile_for_gpu train --config=cityscapes:hrnet_w48_ocr --devices=8 --spatial=2 --batch=16
    python -m benchmarks.compile_for_gpu eval --config=cityscapes:hrnet_w48_ocr --height=1024 --width=2048 --batch=4
    python -m benchmarks.compile_for_gpu refine --config=cityscapes:hrnet_w48_ocr --batch=8

`train` is the training step, `eval` the labels and counts of a batch of images, `refine` SegFix's refinement of label
maps. --out=FILE.json keeps the numbers, and --against=FILE.json shows what has changed since. All numbers are those of
one device and one run. docs/performance.md says what they mean.
"""

import argparse
import sys

from rich.table import Table

from benchmarks import harness
from openseg_jax.cli.arguments import Parser
from openseg_jax.compiled import TARGETS, compile_program
from openseg_jax.config import Config, load
from openseg_jax.console import Console
from openseg_jax.errors import InputError, run_command
from openseg_jax.files import read_json

GIB, GB, MS = 2**30, 1e9, 1e-3
# key of the facts: (what it is called, unit)
ROWS = {
    "peak_memory": ("peak memory, GiB", GIB),
    "arguments": ("of which arguments, GiB", GIB),
    "temporaries": ("of which temporaries, GiB", GIB),
    "kernels": ("kernels", 1),
    "kernels_in_text": ("kernels in the program text", 1),
    "small_kernels": ("kernels that move less than 1 MB", 1),
    "read": ("read, GB", GB),
    "written": ("written, GB", GB),
    "bandwidth_s": ("at full bandwidth, ms", MS),
    "flops": ("convolutions and products, TFLOP", 1e12),
    "peak_s": ("at peak, ms", MS),
    "cudnn_convolutions": ("convolutions in cuDNN", 1),
    "other_convolutions": ("convolutions outside cuDNN", 1),
    "copies": ("copies and transposes", 1),
    "copied": ("copied, GB", GB),
    "trace_s": ("traced in, s", 1),
    "compile_s": ("compiled in, s", 1),
}


def parser() -> Parser:
    """Returns the parser of the options, which takes a config as the commands of `openseg` do."""
    result = Parser(prog="python -m benchmarks.compile_for_gpu", description=__doc__)
    result.add_argument("program", choices=("train", "eval", "refine"))
    result.add_config()
    result.add_argument("--target", default="h200", choices=TARGETS)
    result.add_argument("--devices", type=int, default=1)
    result.add_argument("--spatial", type=int, help="devices that share the rows of an image; as mesh.spatial")
    result.add_argument("--height", type=int, help="of the images; by default that of the crop, or 1024")
    result.add_argument("--width", type=int, help="of the images; by default that of the crop, or 2048")
    result.add_argument("--batch", type=int, help="images of all devices together; as the batch_size of the config")
    result.add_argument("--hlo", help="write the optimised program as text")
    result.add_argument("--out", help="write the result as JSON")
    result.add_argument("--against", help="a result that --out wrote, with which this one is compared")
    return result


def configured(a: argparse.Namespace) -> Config:
    """Returns the config with the changes of the command line."""
    changes, default = list(a.changes), load(a.config, a.changes)
    crop = a.height or default.augment.crop[0], a.width or default.augment.crop[1]
    if a.program == "train" and (a.height or a.width):
        changes.append(f"--config.augment.crop={crop}")
    if a.batch:
        changes.append(f"--config.{'train' if a.program == 'train' else 'eval'}.batch_size={a.batch}")
    if a.spatial:
        changes.append(f"--config.mesh.spatial={a.spatial}")
    return load(a.config, changes)


def rows_of(facts: dict) -> dict[str, float]:
    """Returns the numbers of a program by what they are called."""
    found = {title: facts[key] if unit == 1 else facts[key] / unit for key, (title, unit) in ROWS.items()}
    for key, value in facts.items():
        if f"{key}_bytes" in facts and value:
            found |= {f"{key}s": value, f"{key}s, MB": facts[f"{key}_bytes"] / 1e6}
    return found


def compared(found: dict[str, float], path: str) -> list[dict]:
    """Returns rows with what was found before, and the change. Raises InputError if there is no earlier result."""
    try:
        before = {row["what"]: row["now"] for row in read_json(path)["rows"] if row["now"] != ""}
    except (KeyError, TypeError):
        raise InputError(f"{path} is no result of this command: give what --out wrote") from None
    rows = []
    for what in dict.fromkeys([*found, *before]):
        now, then = found.get(what, ""), before.get(what, "")
        change = f"{100 * (now / then - 1):+.1f} %" if isinstance(now, int | float) and then else ""
        rows.append({"what": what, "before": then, "now": now, "change": change})
    return rows


def main() -> None:
    a = parser().parse_args(sys.argv[1:])
    config = configured(a)
    size = (a.height or 1024, a.width or 2048) if a.program != "train" else config.augment.crop
    batch = config.train.batch_size if a.program == "train" else config.eval.batch_size
    title = f"{a.program} of {a.config}, {batch}x{size[0]}x{size[1]}, {config.model.dtype}, {a.devices} x {a.target}"
    print(f"compiling {title}; that takes minutes for a large net", file=sys.stderr)
    facts = compile_program(config, a.program, target=a.target, devices=a.devices, size=size, hlo=a.hlo)
    found = rows_of(facts) | {"matrix products in": facts["products"]}
    rows = compared(found, a.against) if a.against else [{"what": what, "now": now} for what, now in found.items()]
    table = Table("what moves most", "kernels", "GB")
    for name, count, moved in facts["by_kernel"]:
        table.add_row(name, f"{count:,}", f"{moved / GB:.2f}")
    Console(width=120).print(table)
    harness.report(title, rows, a.out)


if __name__ == "__main__":
    run_command(main)
