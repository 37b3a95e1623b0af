"""Says what changed between two evaluations of the same images, and whether that is more than chance.

    openseg compare REPORT_A REPORT_B

Each is the --out folder of an `openseg eval`. The difference in mIoU comes with the interval in which it lies for 95 %
of sets of as many images, and with how often one as large comes about by giving the results of each image to either
run.
"""

from pathlib import Path

from openseg_jax.cli.arguments import add_command
from openseg_jax.errors import InputError

SHOWN = 10  # classes and images that changed most


def add(commands) -> None:
    command = add_command(commands, "compare", __doc__, run)
    command.add_argument("first", type=Path, metavar="REPORT_A", help="the evaluation before")
    command.add_argument("second", type=Path, metavar="REPORT_B", help="the evaluation after")


def run(arguments) -> None:
    import numpy as np
    from rich.table import Table

    from openseg_jax.console import Console
    from openseg_jax.metrics.statistics import compare, ious

    (names, a), (others, b) = map(_read, (arguments.first, arguments.second))
    if names != others or a.shape != b.shape:
        raise InputError(f"{arguments.first} and {arguments.second} are not of the same images and classes")
    found, console = compare(a, b), Console(soft_wrap=True)
    console.print(
        f"mIoU {100 * found.difference:+.2f} % ({100 * found.interval[0]:+.2f} to {100 * found.interval[1]:+.2f}), "
        f"by chance in {100 * found.chance:.1f} % of exchanges: "
        + ("a difference" if found.chance < 0.05 else "no difference that could not be chance")
    )
    table = Table("class", "IoU %", "change", title="classes, by change")
    before = ious(a.sum(0))
    for k in np.argsort(-np.abs(np.nan_to_num(found.classes)))[:SHOWN]:
        table.add_row(str(k), f"{100 * before[k]:.2f}", f"{100 * found.classes[k]:+.2f}")
    console.print(table)
    table = Table("image", "change in accuracy", title="images, by change")
    for index in np.argsort(-np.abs(np.nan_to_num(found.images)))[:SHOWN]:
        table.add_row(names[index], f"{100 * found.images[index]:+.2f}")
    console.print(table)


def _read(folder: Path):
    """Returns the names of the images and their counts."""
    from openseg_jax.files import read_npz

    path = folder / "images.npz"
    if not path.exists():
        raise InputError(f"there is no {path}: give the --out folder of an `openseg eval`")
    content = read_npz(path)
    if {"names", "counts"} - content.keys() or content["counts"].shape[:2] != (len(content["names"]), 3):
        raise InputError(f"{path} is not what `openseg eval` writes")
    return list(content["names"]), content["counts"]
