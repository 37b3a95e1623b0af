"""Data sets: what there is, building them, checking them, and looking at what training sees.

    openseg data list
    openseg data build cityscapes --archives DIR --out DIR --workers 8
    openseg data check FOLDER --classes camvid --out report
    openseg data replay --config=camvid --config.data.root=FOLDER --step 120 --out images

docs/datasets.md and docs/your-data.md tell more.
"""

import sys
from pathlib import Path

from openseg_jax.cli.arguments import add_command, add_subcommands
from openseg_jax.errors import InputError

LIST = """Lists the benchmarks: classes, samples, licence, where to get them.

    openseg data list
    openseg data list cityscapes
"""
BUILD = """Builds ArrayRecord files from the archives that a benchmark publishes.

    openseg data build cityscapes --archives downloads/ --out data/ --workers 8

Training reads them like a folder: --config.data.root=OUT/NAME.
"""
CHECK = """Checks a folder of images and masks, and says what is wrong with it.

    openseg data check FOLDER --classes camvid --out report
    openseg data check --config=folder --config.data.root=FOLDER

The exit code is 0 if there are no errors, and 1 if there are.
"""
REPLAY = """Makes the batch of one training step again, as images and as the list of what was done to each sample.

    openseg data replay --config=camvid --config.data.root=FOLDER --step 120 --out images
"""


def add(commands) -> None:
    actions = add_subcommands(add_command(commands, "data", __doc__))

    command = add_command(actions, "list", LIST, show)
    command.add_argument("names", nargs="*", metavar="NAME", help="show all there is to know of these")

    command = add_command(actions, "build", BUILD, build)
    command.add_argument("name", metavar="NAME", help="a benchmark, such as cityscapes")
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--archives", metavar="DIR", help="folder with the downloads, packed or unpacked")
    source.add_argument("--from_prepared", metavar="DIR", help="instead: a folder of SPLIT/image and SPLIT/label")
    command.add_argument("--out", required=True, metavar="DIR", help="the result is DIR/NAME/1.0.0")
    command.add_argument("--workers", type=int, default=1, help="processes; the result does not depend on them")
    command.add_argument("--allow_partial", action="store_true", help="build what is there, though samples are missing")

    command = add_command(actions, "check", CHECK, check)
    command.add_config(required=False)
    command.add_argument(
        "data", nargs="?", metavar="FOLDER", help="folder of SPLIT/image and SPLIT/label; or a config as of --config"
    )
    command.add_argument("--classes", metavar="NAME|FILE", help="class table; ROOT/classes.yaml or .json if not given")
    command.add_argument("--image_folder", metavar="NAME", help="the folder of the images in SPLIT, otherwise image")
    command.add_argument("--label_folder", metavar="NAME", help="the folder of the masks in SPLIT, otherwise label")
    command.add_argument("--out", metavar="DIR", help="folder for check.json and check.html")
    command.add_argument("--quick", action="store_true", help="all headers, but the pixels of 32 samples a split only")

    command = add_command(actions, "replay", REPLAY, replay)
    command.add_config(required=False)
    command.add_argument("spec", nargs="?", metavar="CONFIG", help="instead of --config")
    command.add_argument("--step", type=int, required=True, help="the first step of a run is 1")
    command.add_argument("--out", required=True, metavar="DIR", help="folder for images and replay.json")


def show(arguments) -> None:
    from rich.table import Table

    from openseg_jax.console import Console
    from openseg_jax.labels.classes import known_tables, load_about, load_classes

    console = Console()
    if not arguments.names:
        table = Table("name", "title", "classes", "samples", "home", title="class tables")
        for name in known_tables():
            about, classes = load_about(name), load_classes(name)
            splits = ", ".join(f"{split} {count}" for split, count in about.splits.items())
            table.add_row(name, classes.title, str(len(classes)), splits, about.home)
        console.print(table)
    for name in arguments.names:
        about, classes = load_about(name), load_classes(name)
        console.print(classes.title, style="bold")
        console.print(f"{about.home}\n\nDownload: {about.download}")
        console.print(f"Licence: {about.licence}\n\n{about.citation}\n")
        console.print(", ".join(f"{i} {name}" for i, name in enumerate(classes.names)))


def build(arguments) -> None:
    from openseg_jax.console import Console
    from openseg_jax.data.building import build as build_records

    folder = build_records(
        arguments.name,
        Path(arguments.archives or arguments.from_prepared).expanduser(),
        Path(arguments.out).expanduser(),
        workers=arguments.workers,
        from_prepared=bool(arguments.from_prepared),
        allow_partial=arguments.allow_partial,
        console=Console(),
    )
    print(f"train on it with --config.data.root={folder.parent}")


def check(arguments) -> int:
    from openseg_jax.console import Console
    from openseg_jax.data.check import check_folder, draft, scan_folder
    from openseg_jax.results import results

    console = Console()
    root, splits, classes, folders = _what_to_check(arguments)
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
        out = Path(arguments.out).expanduser()
        with results(out, "data check", ["check.html", "check.json"]):
            report.write(out)
        console.print(f"written: {arguments.out}/check.html and check.json")
    return 0 if report.ok else 1


def _what_to_check(arguments):
    """Returns folder, splits with training first, class table or None, and the folders of images and masks."""
    from openseg_jax.config import load
    from openseg_jax.data.records import is_record_root
    from openseg_jax.labels.classes import classes_beside, load_classes

    name, splits, folders = arguments.classes, None, ("image", "label")
    spec = arguments.config
    if arguments.data and arguments.data.partition(":")[0].endswith(".py"):
        spec = arguments.data
    elif arguments.data and spec:
        raise InputError(f"give either the folder {arguments.data} or --config={spec}")
    if spec:
        config = load(spec, arguments.changes).data
        if config.source != "folder":
            raise InputError(f"{spec} does not read a folder, but data.source={config.source!r}")
        if not config.root:
            raise InputError("a config needs a folder here: give --config.data.root=ROOT, or check the folder itself")
        root = Path(config.root).expanduser()
        splits, name = [config.train_split, config.val_split], name or config.classes
        folders = config.image_folder, config.label_folder
    elif not arguments.data:
        raise InputError("there is nothing to check: give a folder, or --config")
    elif arguments.changes:
        raise InputError(f"{arguments.changes[0]} changes a config, but {arguments.data} is none")
    else:
        root = Path(arguments.data).expanduser()
    if not root.is_dir():
        raise InputError(f"there is no folder {root}")
    if is_record_root(root):
        raise InputError(f"{root} holds records, which `openseg data build` has checked")
    folders = arguments.image_folder or folders[0], arguments.label_folder or folders[1]
    found = (split.name for split in root.iterdir() if (split / folders[0]).is_dir())
    splits = splits or sorted(found, key=lambda split: (split != "train", split))
    if not splits:
        raise InputError(f"{root} holds no SPLIT/{folders[0]}, such as train/{folders[0]} and val/{folders[0]}")
    name = name or classes_beside(root)
    return root, splits, load_classes(str(name)) if name else None, folders


def replay(arguments) -> None:
    from openseg_jax.config import load
    from openseg_jax.data.replay import replay as write_batch

    if not (arguments.config or arguments.spec):
        raise InputError("--config is missing, such as --config=camvid")
    config = load(arguments.config or arguments.spec, arguments.changes)
    count = write_batch(config, arguments.step, Path(arguments.out).expanduser())
    print(f"{count} samples of step {arguments.step} are in {arguments.out}", file=sys.stderr)
