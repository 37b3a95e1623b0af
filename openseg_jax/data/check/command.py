"""`python -m openseg_jax.data check`."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from openseg_jax.cli.commands import load_config
from openseg_jax.data.check import check_folder
from openseg_jax.data.check.scan import scan_folder
from openseg_jax.data.check.tables import draft
from openseg_jax.data.records import is_record_root
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import ClassTable, classes_beside, load_classes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        metavar="CONFIG|FOLDER",
        help="folder of SPLIT/image and SPLIT/label; or configs/FILE.py[:ARGUMENT], --config.FIELD=VALUE changes it",
    )
    parser.add_argument("--classes", metavar="NAME|FILE", help="class table; ROOT/classes.yaml or .json if not given")
    parser.add_argument("--out", metavar="DIR", help="folder for check.json and check.html")
    parser.add_argument("--quick", action="store_true", help="all headers, but the pixels of 32 samples per split only")


def run(arguments: argparse.Namespace) -> int:
    """0 if there are no errors, 1 if there are. Raises InputError if there is nothing to check or no class table.

    arguments: also `changes`, a list of --config.FIELD=VALUE.
    """
    console = Console()
    root, splits, classes, folders = _what(arguments)
    if classes is None:
        found, table = draft(scan_folder(root, None, splits, console=Console(stderr=True), folders=folders))
        print(table, end="")
        raise InputError(
            f"there is no class table for {root}, whose masks have {found}: save what stands above as "
            f"{root / 'classes.yaml'}, with the names of the classes, or give --classes"
        )
    report = check_folder(root, classes, splits, quick=arguments.quick, console=console, folders=folders)
    report.print(console)
    if arguments.out:
        report.write(Path(arguments.out).expanduser())
        console.print(f"written: {arguments.out}/check.html and check.json")
    return 0 if report.ok else 1


def _what(arguments) -> tuple[Path, list[str], ClassTable | None, tuple[str, str]]:
    """Folder, splits with training first, class table, and the names of the folders of images and masks."""
    name, splits, folders = arguments.classes, None, ("image", "label")
    if arguments.data.partition(":")[0].endswith(".py"):
        config = load_config(arguments.data, arguments.changes).data
        if config.source != "folder":
            raise InputError(f"{arguments.data} does not read a folder, but data.source={config.source!r}")
        if not config.root:
            raise InputError("a config needs a folder here: give --config.data.root=ROOT, or check the folder itself")
        root = Path(config.root).expanduser()
        splits, name = [config.train_split, config.val_split], name or config.classes
        folders = config.image_folder, config.label_folder
    elif arguments.changes:
        raise InputError(f"{arguments.changes[0]} changes a config, but {arguments.data} is none")
    else:
        root = Path(arguments.data).expanduser()
    if not root.is_dir():
        raise InputError(f"there is no folder {root}")
    if is_record_root(root):
        raise InputError(f"{root} holds records, which `python -m openseg_jax.data build` has checked")
    splits = splits or sorted((f.parent.name for f in root.glob("*/image")), key=lambda s: (s != "train", s))
    if not splits:
        raise InputError(f"{root} holds no SPLIT/image, such as train/image and val/image")
    name = name or classes_beside(root)
    return root, splits, load_classes(str(name)) if name else None, folders
