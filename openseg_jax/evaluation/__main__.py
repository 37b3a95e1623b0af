"""Says what changed between two evaluations of the same images, and whether that is more than chance.

    python -m openseg_jax.evaluation compare REPORT_A REPORT_B

Each is the --out folder of an eval.py. The difference in mIoU comes with the interval in which it lies for 95 % of sets
of as many images, and with how often one as large comes about by giving the results of each image to either run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from openseg_jax.errors import InputError, run_command
from openseg_jax.metrics.statistics import compare, ious


def compare_reports(first: Path, second: Path, most: int = 10) -> None:
    (names, a), (others, b) = map(_read, (first, second))
    if names != others or a.shape != b.shape:
        raise InputError(f"{first} and {second} are not of the same images and classes")
    found, console = compare(a, b), Console(soft_wrap=True)
    console.print(
        f"mIoU {100 * found.difference:+.2f} % ({100 * found.interval[0]:+.2f} to {100 * found.interval[1]:+.2f}), "
        f"by chance in {100 * found.chance:.1f} % of exchanges: "
        + ("a difference" if found.chance < 0.05 else "no difference that could not be chance")
    )
    table = Table("class", "IoU %", "change", title="classes, by change")
    before = ious(a.sum(0))
    for k in np.argsort(-np.abs(np.nan_to_num(found.classes)))[:most]:
        table.add_row(str(k), f"{100 * before[k]:.2f}", f"{100 * found.classes[k]:+.2f}")
    console.print(table)
    table = Table("image", "change in accuracy", title="images, by change")
    for index in np.argsort(-np.abs(np.nan_to_num(found.images)))[:most]:
        table.add_row(names[index], f"{100 * found.images[index]:+.2f}")
    console.print(table)


def _read(folder: Path) -> tuple[list[str], np.ndarray]:
    path = folder / "images.npz"
    if not path.exists():
        raise InputError(f"there is no {path}: give the --out folder of an eval.py")
    with np.load(path) as content:
        return list(content["names"]), content["counts"]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m openseg_jax.evaluation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("compare", help="two evaluations of the same images")
    command.add_argument("first", type=Path, metavar="REPORT_A")
    command.add_argument("second", type=Path, metavar="REPORT_B")
    parser.add_argument("--verbose", action="store_true", help="show tracebacks")
    a = parser.parse_args()
    run_command(lambda: compare_reports(a.first, a.second), a.verbose)


if __name__ == "__main__":
    main()
