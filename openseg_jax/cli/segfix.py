"""SegFix: predicts offsets from boundaries to the interior, refines any net's label maps by them, writes ground truth.

    openseg segfix predict --checkpoint runs/segfix --images photos/ --out offsets/
    openseg segfix refine --labels predictions/ --offsets offsets/ --images photos/ --out refined/
    openseg segfix refine --labels predictions/ --checkpoint runs/segfix --images photos/ --out refined/
    openseg segfix refine --instances results/ --offsets offsets/ --out refined/
    openseg segfix truth --root cityscapes/ --split train --classes cityscapes --workers 8

docs/segfix.md explains more; `COMMAND --help` lists the options of each.
"""

import argparse
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from openseg_jax.cli.arguments import add_command, add_subcommands, size
from openseg_jax.errors import InputError

_PREDICT = """Predicts the offsets of images, and writes them to files.

    openseg segfix predict --checkpoint runs/segfix --images photos/ --out offsets/
"""
_REFINE = """Refines label maps or instances by offsets.

    openseg segfix refine --labels predictions/ --offsets offsets/ --out refined/
"""
_TRUTH = """Writes the ground truth that SegFix learns, in the original's files.

    openseg segfix truth --root cityscapes/ --split train --classes cityscapes --workers 8
"""


def add(commands) -> None:
    commands = add_subcommands(add_command(commands, "segfix", __doc__))

    command = add_command(commands, "predict", _PREDICT, predict)
    command.add_argument("--checkpoint", required=True, metavar="DIR", help="a SegFix net")
    command.add_argument("--images", required=True, nargs="+", type=Path, metavar="PATH", help="folders or files")
    command.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for NAME.npz or NAME.mat")
    command.add_argument("--format", choices=("npz", "mat"), default="npz", help="mat is the original's (%(default)s)")
    command.add_argument("--overwrite", action="store_true", help="also predict offsets that are there already")
    _add_windows(command)

    command = add_command(commands, "refine", _REFINE, refine)
    given = command.add_mutually_exclusive_group(required=True)
    given.add_argument("--labels", type=Path, metavar="DIR", help="label maps: PNG, BMP or TIFF of any encoding")
    given.add_argument("--instances", type=Path, metavar="DIR", help="or Cityscapes' lists NAME_pred.txt of masks")
    given.add_argument("--coco", type=Path, metavar="FILE", help="or a JSON list of predictions in COCO's form")
    command.add_argument("--annotations", type=Path, metavar="FILE", help="names the images of --coco (their ids)")
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--offsets", type=Path, metavar="DIR", help="what `predict` wrote")
    source.add_argument("--checkpoint", metavar="DIR", help="or a SegFix net, which predicts the offsets of --images")
    command.add_argument("--images", type=Path, metavar="DIR", help="images; with them, OUT/report.html is written")
    command.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for files of the same names")
    command.add_argument("--scale", type=float, help="multiplies the offsets (2; 1 for instances)")
    command.add_argument("--iterations", type=float, default=1, help="how often to refine in a row (1)")
    command.add_argument("--classes", metavar="TABLE", help="of --labels: ids of none of its classes become void first")
    void = "of --labels: the id, or #RRGGBB, that keeps its place (255 in maps of 8 bits); or moves like any other"
    command.add_argument("--void", type=_void, metavar="ID|moves", help=void)
    missing = "of --labels: copy takes over maps without offsets as they are (%(default)s)"
    command.add_argument("--missing", choices=("error", "copy"), default="error", help=missing)
    _add_windows(command)

    command = add_command(commands, "truth", _TRUTH, truth)
    command.add_argument("--root", required=True, type=Path, metavar="DIR", help="folder of SPLIT/label")
    command.add_argument("--split", required=True, help="such as train")
    command.add_argument("--classes", required=True, metavar="TABLE", help="a name such as cityscapes, or a file")
    command.add_argument("--instances", action="store_true", help="of the instances in SPLIT/instance/NAME.png")
    command.add_argument("--overwrite", action="store_true", help="also write files that exist already")
    command.add_argument("--workers", type=int, default=1, help="processes (%(default)s)")


def _add_windows(command: argparse.ArgumentParser) -> None:
    sides = {"type": size, "metavar": "HxW"}
    command.add_argument("--window", **sides, help="predict in windows of this size (the whole image at once)")
    command.add_argument("--stride", **sides, help="between windows (a third of their size)")
    command.add_argument("--batch_size", type=int, default=0, metavar="N", help="images at a time (one per device)")


def _void(text: str) -> int | str:
    try:
        return text if text == "moves" else int(text[1:], 16) if text.startswith("#") else int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'is an id, a colour such as "#000000", or moves, found {text!r}') from error


def predict(arguments) -> None:
    from openseg_jax import __version__
    from openseg_jax.converters import fingerprint
    from openseg_jax.data.offset_files import OFFSET_SUFFIXES, write_offsets
    from openseg_jax.data.workers import in_threads
    from openseg_jax.results import child, is_done, results
    from openseg_jax.segfix.label_files import by_name, find_images
    from openseg_jax.segfix.offsets import ImageOffsets

    out, suffix = arguments.out, f".{arguments.format}"
    files = (find_images(path).values() if path.is_dir() else [path] for path in arguments.images)
    images = by_name(itertools.chain.from_iterable(files))

    def write(found: ImageOffsets) -> None:
        write_offsets(child(out, found.name, suffix), found.offsets)
        for other in {*OFFSET_SUFFIXES} - {suffix}:  # an earlier run's: only one may exist
            child(out, found.name, other).unlink(missing_ok=True)

    windows = {name: getattr(arguments, name) for name in ("window", "stride")}
    key = {"version": __version__, "checkpoint": fingerprint(arguments.checkpoint), **windows}
    names = [f"{name}{other}" for name in images for other in OFFSET_SUFFIXES]
    with results(out, "segfix predict", names, images.values(), key) as since:
        wanted = [
            name
            for name, image in images.items()
            if arguments.overwrite
            or not any(is_done([child(out, name, other)], [image], since) for other in OFFSET_SUFFIXES)
        ]
        if wanted:
            found = in_threads(write, _offsets(arguments, wanted, images))
            for _ in _track(found, "predicting offsets", len(wanted)):
                pass
    there = len(images) - len(wanted)
    left_out = f"; {there} were there already: --overwrite predicts them again" if there else ""
    print(f"offsets of {len(wanted)} images were written into {out}{left_out}")


def refine(arguments) -> None:
    if arguments.checkpoint and not arguments.images:
        raise InputError("--checkpoint predicts offsets of images: give their folder, --images")
    if arguments.annotations and not arguments.coco:
        raise InputError("--annotations names the images of --coco, which is missing")
    if not arguments.labels and (arguments.classes or arguments.void is not None or arguments.missing == "copy"):
        raise InputError("--classes, --void and --missing are for label maps: give --labels")
    if not arguments.checkpoint and (arguments.window or arguments.stride or arguments.batch_size):
        raise InputError("--window, --stride and --batch_size are for a net: give --checkpoint")
    if arguments.scale is None:
        arguments.scale = 2 if arguments.labels else 1
    started = time.perf_counter()
    tally = _refine_labels(arguments) if arguments.labels else _refine_instances(arguments)
    seconds = time.perf_counter() - started
    what = "maps" if arguments.labels else "masks"
    speed = f"{tally.maps} {what} in {seconds:.1f} s, {60 * tally.maps / seconds:.0f} {what} per minute"
    print(f"{speed}; {tally.share} of the pixels changed; the results are in {arguments.out}")


def _refine_labels(arguments):
    import numpy as np

    from openseg_jax.labels.classes import load_classes
    from openseg_jax.results import results
    from openseg_jax.segfix import label_files, offsets, refinement, report

    labels, classes = label_files.find_images(arguments.labels), arguments.classes and load_classes(arguments.classes)
    images = label_files.find_images(arguments.images) if arguments.images else {}
    sizes = label_files.check_sizes(labels, images)
    missing = _missing(arguments, labels, images)
    void = None if arguments.void == "moves" else arguments.void
    if arguments.void is None:
        void = label_files.void_of(classes) if classes else label_files.common_void(labels.values())
    moved = _offsets(arguments, [name for name in labels if name not in missing], images)
    unmoved = (offsets.ImageOffsets(name, np.zeros((*sizes[name], 2), np.int8), labels[name]) for name in missing)
    options = {"scale": arguments.scale, "iterations": arguments.iterations, "void": void}
    names, read = [*(file.name for file in labels.values()), "report.html"], [*labels.values(), *images.values()]
    tally = refinement.Tally(shown=images.keys())
    with results(arguments.out, "segfix refine", names, read):
        found = refinement.refine_labels(labels, itertools.chain(moved, unmoved), arguments.out, classes, **options)
        for refined in _track(found, "refining", len(labels)):
            tally.update(refined)
        if missing:
            print(f"{len(missing)} maps have no offsets and were copied")
        if images:
            facts = {"maps": tally.maps, "pixels": tally.pixels, "changed pixels": tally.changed}
            facts |= {"share of changed pixels": tally.share, "maps without offsets": len(missing)} | options
            facts |= {"void": "moves, if there is any" if void is None else void}
            facts |= {"offsets": arguments.offsets} if arguments.offsets else {"checkpoint": arguments.checkpoint}
            report.write_page(arguments.out, facts, tally.most, images, classes)
    return tally


def _refine_instances(arguments):
    from openseg_jax.results import results
    from openseg_jax.segfix import instances, label_files, refinement

    if arguments.coco:
        given, out = instances.CocoInstances(arguments.coco, arguments.annotations), arguments.out / arguments.coco.name
    else:
        given, out = instances.CityscapesInstances(arguments.instances), arguments.out
    images = label_files.find_images(arguments.images) if arguments.checkpoint else {}
    if arguments.checkpoint and (missing := [name for name in given.images if name not in images]):
        _refuse(missing, len(given.images), f"images with instances have no image in {arguments.images}")
    offsets, tally = _offsets(arguments, list(given.images), images), refinement.Tally()
    options = {"scale": arguments.scale, "iterations": arguments.iterations}
    with results(arguments.out, "segfix refine", given.results, [given.path]):
        found = refinement.refine_instances(given, offsets, out, **options)
        for refined in _track(found, "refining", len(given.sizes)):
            tally.update(refined)
    return tally


def truth(arguments) -> None:
    from openseg_jax.labels.classes import load_classes
    from openseg_jax.results import child, is_done, results
    from openseg_jax.segfix.ground_truth_files import FOLDER, INSTANCE_FOLDER, write_ground_truth
    from openseg_jax.segfix.label_files import find_images

    split, classes = arguments.root / arguments.split, load_classes(arguments.classes)
    out = split / (INSTANCE_FOLDER if arguments.instances else FOLDER)
    labels = {child(out, name, ".mat"): label for name, label in find_images(split / "label").items()}
    options = {"instances": arguments.instances, "workers": arguments.workers}
    with results(out, "segfix truth", [file.name for file in labels], labels.values(), classes.to_dict()) as since:
        wanted = {f: label for f, label in labels.items() if arguments.overwrite or not is_done([f], [label], since)}
        for _ in _track(write_ground_truth(wanted, split, classes, **options), "computing", len(wanted)):
            pass
    there = len(labels) - len(wanted)
    left_out = f"; {there} were there already: --overwrite writes them again" if there else ""
    print(f"{len(wanted)} maps were written into {out}{left_out}")


def _offsets(arguments, names: Sequence[str], images: Mapping[str, Path]) -> Iterator:
    """Yields the offsets of images from files, or from the net that the arguments name."""
    from openseg_jax.segfix.offsets import predicted_offsets, stored_offsets

    if not arguments.checkpoint:
        return stored_offsets(arguments.offsets, names)
    options = {name: getattr(arguments, name) for name in ("window", "stride", "batch_size")}
    return predicted_offsets(arguments.checkpoint, [images[name] for name in names], **options)


def _missing(arguments, labels: Mapping[str, Path], images: Mapping[str, Path]) -> list[str]:
    """Lists the maps without offsets, or without images that these could be predicted of."""
    from openseg_jax.data.offset_files import OFFSET_SUFFIXES

    there, what = set(images), f"image in {arguments.images}"
    if not arguments.checkpoint:
        there = {path.stem for path in arguments.offsets.glob("*") if path.suffix in OFFSET_SUFFIXES}
        what = f"offsets in {arguments.offsets}"
    missing = [name for name in labels if name not in there]
    if missing and arguments.missing != "copy":
        _refuse(missing, len(labels), f"label maps have no {what}", "; --missing=copy leaves them as they are")
    return missing


def _refuse(missing: Sequence[str], count: int, what: str, end: str = "") -> None:
    examples = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
    raise InputError(f"{len(missing)} of {count} {what}: {examples}{end}")


def _track(items: Iterable, what: str, count: int) -> Iterable:
    from openseg_jax.console import track

    return track(items, what, count)
