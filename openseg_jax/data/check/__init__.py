"""The data check says, before a net is trained, what is wrong with a folder of images and masks, and what to do.

`scan_folder` reads every file once; each function of `files`, `images`, `ids` and `statistics` finds one kind of fault.
"""

import shlex
from collections.abc import Iterable
from pathlib import Path

from openseg_jax.console import Console
from openseg_jax.data.check import files, ids, images, statistics
from openseg_jax.data.check.faults import ERROR, Fault
from openseg_jax.data.check.ids import draft
from openseg_jax.data.check.report import Report
from openseg_jax.data.check.scan import FOLDERS, Scan, scan_folder
from openseg_jax.data.images import warn_once
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import ClassTable

__all__ = ["Fault", "Report", "check_folder", "draft", "quick_check", "scan_folder"]


def check_folder(
    root: Path,
    classes: ClassTable,
    splits: Iterable[str],
    *,
    quick: bool = False,
    console: Console | None = None,
    folders: tuple[str, str] = FOLDERS,
) -> Report:
    """Checks ROOT/SPLIT/image and ROOT/SPLIT/label of all splits.

    Args:
        root: The folder of the data set.
        classes: The class table.
        splits: The names of the splits, training first.
        quick: Read the headers of all files, but the pixels of only 32 samples per split.
        console: Where to show progress.
        folders: The folders of images and masks in each split.

    Raises:
        InputError: A split has no folder of images.
    """
    scan = scan_folder(root, classes, splits, quick=quick, console=console, folders=folders)
    faults = _find((*files.PARTNERS, *images.REDUCED), scan)
    meaning = _find((*files.KINDS[classes.masks], *ids.FAULTS[classes.masks]), scan)
    if all(fault.severity != ERROR for fault in meaning):  # statistics say something only if the masks do
        meaning += _find(statistics.FAULTS, scan)
    return Report(scan, tuple(sorted(faults + meaning, key=lambda fault: fault.severity != ERROR)))


def quick_check(
    root: Path, splits: Iterable[str], classes: ClassTable, folders: tuple[str, str] = FOLDERS, table: str = ""
) -> Report:
    """Checks a data set within seconds, before the first step of a training run.

    Args:
        root: The folder of the data set.
        splits: The names of the splits, training first.
        classes: The class table.
        folders: The folders of images and masks in each split.
        table: The name or the file of the class table, unless it lies beside the data.

    Raises:
        InputError: The check has found an error; the message is the first one.
    """
    root = Path(root).expanduser()
    report = check_folder(root, classes, splits, quick=True, folders=folders)
    for lost in _find(images.REDUCED, report.scan):  # workers read the images of training, and only this process warns
        warn_once(lost.kind, f"{lost.count} {lost.message}, such as {lost.examples[0]}: {lost.fix}")
    if not report.ok:
        fault = report.faults[0]
        command = ["openseg", "data", "check", str(root)]
        command += [f"--classes={table}"] if table else []
        options = zip(("image_folder", "label_folder"), folders, FOLDERS, strict=True)
        command += [f"--{option}={folder}" for option, folder, usual in options if folder != usual]
        raise InputError(
            f"{fault.count} {fault.message}, such as {fault.examples[0]}: {fault.fix}; all faults are listed by "
            f"`{shlex.join(command)}`"
        )
    return report


def _find(finders, scan: Scan) -> list[Fault]:
    return [fault for find in finders for fault in find(scan)]
