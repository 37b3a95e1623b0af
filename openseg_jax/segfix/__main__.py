"""SegFix: offsets from boundaries to the interior, refinement of anyone's label maps by them, and what it learns.

    python -m openseg_jax.segfix predict --checkpoint runs/segfix --images photos/ --out offsets/
    python -m openseg_jax.segfix refine --labels predictions/ --offsets offsets/ --images photos/ --out refined/
    python -m openseg_jax.segfix refine --labels predictions/ --checkpoint runs/segfix --images photos/ --out refined/
    python -m openseg_jax.segfix refine --instances results/ --offsets offsets/ --out refined/
    python -m openseg_jax.segfix truth --root cityscapes/ --split train --classes cityscapes --workers 8

docs/segfix.md tells more; `COMMAND --help` lists the options of each.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from rich.progress import track

from openseg_jax.cli.arguments import parse_size
from openseg_jax.data.images import read_size
from openseg_jax.data.offset_files import OFFSET_SUFFIXES, find_offsets, read_offsets, write_offsets
from openseg_jax.data.pictures import PictureSource
from openseg_jax.errors import InputError, run_command
from openseg_jax.labels.classes import load_classes
from openseg_jax.segfix import instances
from openseg_jax.segfix.label_files import by_name, default_void, find_labels, read_header, void_of
from openseg_jax.segfix.predict import OffsetStream, load_predictor
from openseg_jax.segfix.refine_files import refine_labels
from openseg_jax.segfix.report import write_page
from openseg_jax.segfix.tally import Refined
from openseg_jax.segfix.truth_files import write_truth


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m openseg_jax.segfix", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--verbose", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(dest="command", required=True)

    command = _command(commands, "predict", "pictures -> files of offsets",
                       "predict --checkpoint runs/segfix --images photos/ --out offsets/")  # fmt: skip
    command.add_argument("--checkpoint", required=True, metavar="DIR", help="of a SegFix net")
    command.add_argument("--images", required=True, nargs="+", type=Path, metavar="PATH", help="folders or files")
    command.add_argument("--out", required=True, type=Path, metavar="DIR", help="for NAME.npz or NAME.mat")
    command.add_argument("--format", choices=("npz", "mat"), default="npz", help="mat is the original's (%(default)s)")
    command.add_argument("--overwrite", action="store_true", help="also predict what is there already")
    _add_windows(command)
    command.set_defaults(run=predict)

    command = _command(commands, "refine", "label maps or instances, by offsets",
                       "refine --labels predictions/ --offsets offsets/ --out refined/")  # fmt: skip
    given = command.add_mutually_exclusive_group(required=True)
    given.add_argument("--labels", type=Path, metavar="DIR", help="label maps: PNG, BMP or TIFF of any encoding")
    given.add_argument("--instances", type=Path, metavar="DIR", help="or Cityscapes' lists NAME_pred.txt of masks")
    given.add_argument("--coco", type=Path, metavar="FILE", help="or a JSON list of predictions as COCO's")
    command.add_argument("--annotations", type=Path, metavar="FILE", help="of --coco: names its images, else their ids")
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--offsets", type=Path, metavar="DIR", help="what `predict` wrote")
    source.add_argument("--checkpoint", metavar="DIR", help="or a SegFix net, which predicts offsets of --images")
    command.add_argument("--images", type=Path, metavar="DIR", help="pictures; with them, OUT/report.html is written")
    command.add_argument("--out", required=True, type=Path, metavar="DIR", help="for files of the same names")
    command.add_argument("--scale", type=float, help="times as far as the offsets (2; 1 for instances)")
    command.add_argument("--iterations", type=float, default=1, help="times in a row (1)")
    command.add_argument("--classes", metavar="TABLE", help="of --labels: ids of none of its classes become void first")
    command.add_argument(
        "--void", metavar="ID|moves",
        help="of --labels: the id, or #RRGGBB, that keeps its place (255 in maps of 8 bits); or moves like any other",
    )  # fmt: skip
    command.add_argument(
        "--missing", choices=("error", "copy"), default="error",
        help="of --labels: copies maps without offsets rather than stop (%(default)s)",
    )  # fmt: skip
    _add_windows(command)
    command.set_defaults(run=refine)

    command = _command(commands, "truth", "labels -> what SegFix learns, as the original's files",
                       "truth --root cityscapes/ --split train --classes cityscapes --workers 8")  # fmt: skip
    command.add_argument("--root", required=True, type=Path, metavar="DIR", help="of SPLIT/label")
    command.add_argument("--split", required=True, help="such as train")
    command.add_argument("--classes", required=True, metavar="TABLE", help="a name such as cityscapes, or a file")
    command.add_argument("--instances", action="store_true", help="of the instances in SPLIT/instance/NAME.png")
    command.add_argument("--overwrite", action="store_true", help="also write what is there already")
    command.add_argument("--workers", type=int, default=1, help="processes (%(default)s)")
    command.set_defaults(run=truth)

    arguments = parser.parse_args()
    run_command(lambda: arguments.run(arguments), arguments.verbose)


def _command(commands, name: str, about: str, example: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=about,
        description=f"{about}\n\n    python -m openseg_jax.segfix {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_windows(command: argparse.ArgumentParser) -> None:
    command.add_argument("--window", metavar="HxW", help="predict in windows of this size (the whole picture at once)")
    command.add_argument("--stride", metavar="HxW", help="between windows (a third of their size)")
    command.add_argument("--batch-size", type=int, default=0, help="pictures at a time; 0 is one per device")


def _track(what: str) -> Callable[[Iterable, int], Iterable]:
    return lambda items, count: track(items, what, count)


# ---------------------------------------------------------------------------------------------------------------------
# predict


def predict(arguments) -> None:
    files = (PictureSource.of_folder(path).paths if path.is_dir() else [path] for path in arguments.images)
    pictures = by_name([*itertools.chain.from_iterable(files)])
    places = {name: [arguments.out / f"{name}{suffix}" for suffix in OFFSET_SUFFIXES] for name in pictures}
    there = set() if arguments.overwrite else {name for name in places if any(path.exists() for path in places[name])}
    wanted = [picture for name, picture in pictures.items() if name not in there]
    if wanted:
        _predict(arguments, wanted, arguments.out, f".{arguments.format}")
    left_out = f"; {len(there)} were there already: --overwrite predicts them again" if there else ""
    print(f"offsets of {len(wanted)} pictures were written into {arguments.out}{left_out}")


def _predict(arguments, pictures: list[Path], out: Path, suffix: str) -> None:
    """Writes the offsets of pictures, by the net that the arguments name."""

    def write(index: int, offsets: np.ndarray) -> None:
        name = pictures[index].stem
        write_offsets(out / f"{name}{suffix}", offsets)
        for other in OFFSET_SUFFIXES:
            if other != suffix:
                (out / f"{name}{other}").unlink(missing_ok=True)  # of an earlier run: there may be one only

    predictor, variables = _predictor(arguments, pictures)
    predictor.run(variables, on_prediction=write, progress=_track("predicting offsets"))


def _predictor(arguments, pictures: list[Path]):
    given = {name: getattr(arguments, name) for name in ("window", "stride")}
    options = {name: parse_size(f"--{name}", text) for name, text in given.items() if text is not None}
    options["batch_size"] = arguments.batch_size
    return load_predictor(arguments.checkpoint, PictureSource(pictures), **options)


# ---------------------------------------------------------------------------------------------------------------------
# refine


def refine(arguments) -> None:
    if arguments.checkpoint and not arguments.images:
        raise InputError("--checkpoint predicts offsets of pictures: give their folder, --images")
    if arguments.annotations and not arguments.coco:
        raise InputError("--annotations names the images of --coco, which is missing")
    if not arguments.labels and (arguments.classes or arguments.void or arguments.missing == "copy"):
        raise InputError("--classes, --void and --missing are for label maps: give --labels")
    if not arguments.checkpoint and (arguments.window or arguments.stride or arguments.batch_size):
        raise InputError("--window, --stride and --batch-size are for a net: give --checkpoint")
    started = time.perf_counter()
    refined = _refine_label_maps(arguments) if arguments.labels else _refine_instances(arguments)
    seconds = time.perf_counter() - started
    what = "maps" if arguments.labels else "masks"
    print(
        f"{refined.maps} {what} in {seconds:.1f} s, {60 * refined.maps / seconds:.0f} {what} per minute; "
        f"{_share(refined)} of the pixels changed; the results are in {arguments.out}"
    )


def _scale(arguments, default: int) -> float:
    return default if arguments.scale is None else arguments.scale


def _share(refined: Refined) -> str:
    return f"{100 * refined.changed / max(refined.pixels, 1):.3f} %"


def _refine_label_maps(arguments) -> Refined:
    labels, classes = find_labels(arguments.labels), arguments.classes and load_classes(arguments.classes)
    pictures = by_name(PictureSource.of_folder(arguments.images).paths) if arguments.images else {}
    sizes = {name: read_header(file)[0] for name, file in labels.items()}
    for name in labels.keys() & pictures.keys():
        if (size := read_size(pictures[name])) != sizes[name]:
            raise InputError(f"{labels[name]} is of size {sizes[name]}, its picture of {size} (height, width)")
    void = _void(arguments.void, labels, classes)
    missing = _missing(arguments, labels, pictures)
    options = {"scale": _scale(arguments, 2), "iterations": arguments.iterations, "void": void}
    with contextlib.ExitStack() as stack:
        if arguments.checkpoint:
            wanted = [pictures[name] for name in labels if name not in missing]
            stream = stack.enter_context(OffsetStream(*_predictor(arguments, wanted)))
            names = [wanted[index].stem for index in stream.order]
            take = lambda index: (pictures[names[index]], stream.take(index))  # noqa: E731
        else:
            names = [name for name in labels if name not in missing]
            paths = [find_offsets(arguments.offsets, name) for name in names]
            take = lambda index: (paths[index], read_offsets(paths[index]))  # noqa: E731
        files = [labels[name] for name in (*names, *missing)]
        refined, most = refine_labels(
            files,
            lambda index: take(index) if index < len(names) else None,
            arguments.out,
            classes=classes,
            shown={index for index, file in enumerate(files) if file.stem in pictures},
            progress=_track("refining"),
            **options,
        )
    if missing:
        print(f"{len(missing)} maps have no offsets and were copied")
    if pictures:
        facts = {"maps": refined.maps, "pixels": refined.pixels, "changed pixels": refined.changed}
        facts |= {"share of changed pixels": _share(refined), "maps without offsets": len(missing)} | options
        facts |= {"void": "moves, if there is any" if void is None else void}
        facts |= {"offsets": arguments.offsets} if arguments.offsets else {"checkpoint": arguments.checkpoint}
        write_page(arguments.out, facts, most, files, pictures, classes)
    return refined


def _void(text: str | None, labels: dict[str, Path], classes) -> int | None:
    """The id that keeps its place; None if it moves."""
    if text == "moves":
        return None
    if text is not None:
        try:
            return int(text[1:], 16) if text.startswith("#") else int(text)
        except ValueError as error:
            raise InputError(f'--void is an id, a colour such as "#000000", or moves, found {text!r}') from error
    if classes is not None:
        return void_of(classes)
    voids = {default_void(read_header(file)[1]): file for file in labels.values()}
    if len(voids) > 1:
        kinds = " and ".join(f"{file} ({read_header(file)[1]})" for file in voids.values())
        raise InputError(f"255 is void in maps of 8 bits only, but there are others, too, such as {kinds}: give --void")
    return next(iter(voids))


def _missing(arguments, labels: dict[str, Path], pictures: dict[str, Path]) -> list[str]:
    """The maps without offsets, or without pictures that these could be predicted of."""
    if arguments.checkpoint:
        missing, what = [name for name in labels if name not in pictures], f"picture in {arguments.images}"
    else:
        there = {path.stem for path in arguments.offsets.glob("*") if path.suffix in OFFSET_SUFFIXES}
        missing, what = [name for name in labels if name not in there], f"offsets in {arguments.offsets}"
    if missing and arguments.missing != "copy":
        _refuse(missing, len(labels), f"label maps have no {what}", "; --missing=copy leaves them as they are")
    return missing


def _refuse(missing: Sequence[str], count: int, what: str, end: str = "") -> None:
    examples = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
    raise InputError(f"{len(missing)} of {count} {what}: {examples}{end}")


def _refine_instances(arguments) -> Refined:
    options = {"scale": _scale(arguments, 1), "iterations": arguments.iterations, "progress": _track("refining")}
    with contextlib.ExitStack() as stack:
        offsets = arguments.offsets
        if arguments.coco:
            names = instances.read_image_names(arguments.annotations) if arguments.annotations else None
            predictions = instances.read_coco(arguments.coco)
            wanted = sorted(set(instances.images_of(arguments.coco, predictions, names).values()))
        else:
            wanted = [name for name, found in instances.read_cityscapes(arguments.instances).items() if found]
        if arguments.checkpoint:
            pictures = by_name(PictureSource.of_folder(arguments.images).paths)
            missing = [name for name in wanted if name not in pictures]
            if missing:
                _refuse(missing, len(wanted), f"images with instances have no picture in {arguments.images}")
            offsets = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            _predict(arguments, [pictures[name] for name in wanted], offsets, ".npz")
        if arguments.coco:
            return instances.refine_coco(
                arguments.coco, offsets, arguments.out / arguments.coco.name, names=names, **options
            )
        return instances.refine_cityscapes(arguments.instances, offsets, arguments.out, **options)


# ---------------------------------------------------------------------------------------------------------------------
# truth


def truth(arguments) -> None:
    written, there, out = write_truth(
        arguments.root / arguments.split,
        load_classes(arguments.classes),
        instances=arguments.instances,
        overwrite=arguments.overwrite,
        workers=arguments.workers,
        progress=_track("computing"),
    )
    left_out = f"; {there} were there already: --overwrite writes them again" if there else ""
    print(f"{written} maps were written into {out}{left_out}")


if __name__ == "__main__":
    main()
