"""Data sets: what there is, building them, checking them, and looking at what training sees.

    python -m openseg_jax.data list
    python -m openseg_jax.data build cityscapes --archives DIR --out DIR --workers 8
    python -m openseg_jax.data check FOLDER --classes camvid --out report
    python -m openseg_jax.data replay configs/camvid.py --config.data.root=FOLDER --step 120 --out pictures

`build` reads the archives that a benchmark publishes and writes ArrayRecord files, which training reads like a folder:
--config.data.root=OUT/NAME. `replay` makes the batch of one training step again, as pictures and as the list of what
was done to each sample. docs/datasets.md and docs/your-data.md tell more.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from openseg_jax import data, visualize
from openseg_jax.cli import commands
from openseg_jax.data.check import command as check
from openseg_jax.data.images import write_image
from openseg_jax.data.pipeline import TrainSamples
from openseg_jax.data.transforms.chain import make_chain, make_collate
from openseg_jax.errors import InputError, run_command
from openseg_jax.labels.classes import known_tables, load_about, load_classes


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m openseg_jax.data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--verbose", action="store_true", help="show tracebacks")
    actions = parser.add_subparsers(dest="command", required=True)

    action = actions.add_parser("list", help="the benchmarks: classes, samples, licence, where to get them")
    action.add_argument("names", nargs="*", metavar="NAME", help="show all there is to know of these")
    action.set_defaults(run=show)

    action = actions.add_parser("build", help="official archives -> ArrayRecord files")
    action.add_argument("name", metavar="NAME", help="a benchmark, such as cityscapes")
    source = action.add_mutually_exclusive_group(required=True)
    source.add_argument("--archives", metavar="DIR", help="folder with the downloads, packed or unpacked")
    source.add_argument("--from-prepared", metavar="DIR", help="instead: a folder of SPLIT/image and SPLIT/label")
    action.add_argument("--out", required=True, metavar="DIR", help="the result is DIR/NAME/1.0.0")
    action.add_argument("--workers", type=int, default=1, help="processes; the result does not depend on them")
    action.add_argument("--allow-partial", action="store_true", help="build what is there, though samples are missing")
    action.set_defaults(run=build)

    action = actions.add_parser("check", help="what is wrong with a folder of images and masks")
    check.add_arguments(action)
    action.set_defaults(run=check.run)

    action = actions.add_parser("replay", help="the batch of one training step, again")
    action.add_argument("config", metavar="CONFIG", help="configs/FILE.py[:ARGUMENT]; --config.FIELD=VALUE changes it")
    action.add_argument("--step", type=int, required=True, help="the first step of a run is 1")
    action.add_argument("--out", required=True, metavar="DIR", help="folder for pictures and replay.json")
    action.set_defaults(run=replay)

    arguments, changes = parser.parse_known_args()
    if changes and arguments.command not in ("replay", "check"):
        parser.error(f"unknown arguments: {' '.join(changes)}")
    arguments.changes = changes
    run_command(lambda: arguments.run(arguments), arguments.verbose)


def show(arguments) -> None:
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
        console.print(f"[bold]{classes.title}[/bold]\n{about.home}\n\nDownload: {about.download}")
        console.print(f"Licence: {about.licence}\n\n{about.citation}\n")
        console.print(", ".join(f"{i} {name}" for i, name in enumerate(classes.names)))


def build(arguments) -> None:
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


def replay(arguments) -> None:
    config = commands.load_config(arguments.config, arguments.changes)
    source, classes = data.make_train_source(config.data), data.class_table(config.data)
    chain, collate = make_chain(config.augment, classes), make_collate(config.augment)
    samples = TrainSamples(source, chain, collate, config.seed, config.train.batch_size)
    if arguments.step < 1:
        raise InputError(f"--step counts from 1, found {arguments.step}")
    out, rows = Path(arguments.out).expanduser(), []
    for row in range(config.train.batch_size):
        position = (arguments.step - 1) * config.train.batch_size + row
        index = samples.index(position)
        steps = [step.to_dict() for step in samples.steps(position, source.size(index))]
        rows.append({"sample": source.names[index], "index": index, "steps": steps})
        sample = samples[position]
        pictures = sample["image"], visualize.overlay(sample["image"], sample["label"], classes)
        write_image(out / f"{row}.jpg", visualize.side_by_side(*pictures))
    (out / "replay.json").write_text(json.dumps(rows, indent=2) + "\n")
    print(f"{len(rows)} samples of step {arguments.step} are in {out}", file=sys.stderr)


if __name__ == "__main__":
    main()
