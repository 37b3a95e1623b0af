"""PyTorch checkpoints in and out.

    python -m converters inspect CKPT.pth
    python -m converters import CKPT.pth --model hrnet_w48_ocr --num-classes 19 --out DIR
    python -m converters import hrnetv2_w48_imagenet_pretrained.pth --backbone-only --out DIR
    python -m converters verify CKPT.pth DIR --reference taps.npz
    python -m converters export DIR --out CKPT.pth

What `import` writes is a checkpoint like those of training: eval.py and openseg_jax.predict run it, and
`train.py --config.pretrained.checkpoint=DIR` starts from it. Without --model it imports what it recognises.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
from pathlib import Path

import jax
from rich.console import Console
from rich.table import Table

from openseg_jax import models
from openseg_jax.checkpoints import Checkpoints, Metadata, load
from openseg_jax.converters import (
    export_state_dict,
    import_state_dict,
    read_checkpoint,
    recognise,
    verify,
    write_state_dict,
)
from openseg_jax.converters.convert import normalise_keys
from openseg_jax.converters.recognise import UNKNOWN_FACTORS, Recognised, same_keys
from openseg_jax.data import load_classes
from openseg_jax.data.normalize import Normalization
from openseg_jax.errors import InputError, run_command


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m converters", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--verbose", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("inspect", help="what a PyTorch checkpoint is")
    command.add_argument("checkpoint", metavar="CKPT.pth")
    command.set_defaults(run=inspect_file)

    command = commands.add_parser("import", help="PyTorch checkpoint -> checkpoint folder")
    command.add_argument("checkpoint", metavar="CKPT.pth")
    command.add_argument("--out", required=True, metavar="DIR", help="new folder for the result")
    command.add_argument("--model", help="named model, such as hrnet_w48_ocr; recognised if not given")
    command.add_argument("--num-classes", type=int, help="recognised if not given")
    command.add_argument("--backbone", help="another backbone than the model's own")
    command.add_argument("--norm", help="batch_norm or inplace_abn, or BACKBONE,HEAD; recognised if not given")
    command.add_argument("--backbone-only", action="store_true", help="take the backbone alone: ImageNet files")
    command.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE",
        help="what the keys do not tell, such as factors=[[8,8],[4,4]] or multi_grid=[1,2,4]; may be repeated",
    )  # fmt: skip
    command.add_argument("--classes", metavar="TABLE", help="cityscapes, camvid or a JSON file: names and colours")
    command.add_argument(
        "--channels", choices=("bgr", "rgb"), default="bgr",
        help="order of the pixels that the mean below is taken from; bgr for HRNets of the original",
    )  # fmt: skip
    default = Normalization()
    command.add_argument("--divisor", type=float, default=default.divisor, help="%(default)s")
    command.add_argument("--mean", type=float, nargs=3, default=default.mean, help="%(default)s")
    command.add_argument("--std", type=float, nargs=3, default=default.std, help="%(default)s")
    command.set_defaults(run=import_file)

    command = commands.add_parser("verify", help="proof that a checkpoint folder is the PyTorch checkpoint")
    command.add_argument("checkpoint", metavar="CKPT.pth")
    command.add_argument("folder", metavar="DIR", help="what `import` made of it; verify.json is written there")
    command.add_argument("--reference", metavar="TAPS.npz", help="activations saved from PyTorch: docs/converting.md")
    command.add_argument(
        "--tolerance", type=float, default=1e-4, help="of a layer, relative to its largest value (%(default)s)"
    )
    command.set_defaults(run=verify_file)

    command = commands.add_parser("export", help="checkpoint folder -> PyTorch checkpoint of the original")
    command.add_argument("checkpoint", metavar="DIR")
    command.add_argument("--out", required=True, metavar="CKPT.pth")
    command.set_defaults(run=export_file)

    arguments = parser.parse_args()
    run_command(lambda: arguments.run(arguments), arguments.verbose)


def _read(path: str) -> tuple[dict, Recognised]:
    state_dict, config = read_checkpoint(path)
    state_dict = normalise_keys(state_dict)
    return state_dict, recognise(state_dict, config)


def inspect_file(arguments) -> int:
    state_dict, found = _read(arguments.checkpoint)
    table = Table("", "found", show_header=False)
    rows = {
        "model": found.name,
        "backbone": found.backbone,
        "norm of the backbone": found.norm[0],
        "norm of the head": found.norm[1],
        "classes": found.num_classes,
        "options": _options_text(found.options),
        "assumed": _options_text(found.assumed),
        "keys": len(state_dict),
        "numbers": f"{sum(tensor.numel() for tensor in state_dict.values()):,}",
        "sha256": _sha256(arguments.checkpoint),
    }
    for name, value in rows.items():
        table.add_row(name, "-" if value is None else str(value))
    Console(width=100).print(table)
    if found.name is None:
        print("This is none of the models of openseg_jax.")
        return 1
    return 0


def _options_text(options: dict) -> str | None:
    return ", ".join(f"{key}={value}" for key, value in options.items()) or None


def import_file(arguments) -> None:
    out = Path(arguments.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty; give a new folder to --out")
    state_dict, found = _read(arguments.checkpoint)
    model = models.create(**_wanted(arguments, found))
    classes = load_classes(arguments.classes) if arguments.classes else None
    if classes and model.spec.num_classes not in (None, len(classes)):
        raise InputError(f"{classes.title} has {len(classes)} classes, the checkpoint {model.spec.num_classes}")
    variables = import_state_dict(state_dict, model, found)
    normalization = Normalization(arguments.channels, arguments.divisor, arguments.mean, arguments.std)
    source = {"file": Path(arguments.checkpoint).name, "sha256": _sha256(arguments.checkpoint)}
    checkpoints = Checkpoints(out)
    checkpoints.save(variables, Metadata(model.spec.to_dict(), normalization, classes, extra={"source": source}))
    checkpoints.close()
    spec = model.spec
    details = f"{spec.num_classes} classes, " if spec.num_classes else ""
    body = "" if spec.name == spec.backbone else f"on {spec.backbone}, "
    print(f"imported {spec.name} ({body}{details}norms {' and '.join(spec.norm)}) from {arguments.checkpoint} to {out}")
    used = models.default_options(spec.name, spec.backbone) | dict(spec.options)
    given = {option.partition("=")[0] for option in arguments.option}
    assumed = {option: used[option] for option in found.assumed if option in used and option not in given}
    if assumed and not arguments.backbone:
        print(f"assumed, because no key tells: {_options_text(assumed)}; --option and --backbone change that")


def _wanted(arguments, found: Recognised) -> dict:
    """Arguments of models.create: what was asked for, and for the rest what was recognised."""
    if arguments.model is None and found.name is None:
        raise InputError(f"{arguments.checkpoint} is none of the models of openseg_jax; name one with --model")
    wanted = found.create_arguments()
    if arguments.model:
        models.default_options(arguments.model)  # an unknown name ends here
        if arguments.model != found.name:
            kept = {"num_classes", "norm"}
            if found.name and same_keys(arguments.model, found.name) and not arguments.model.startswith("hrnet_w"):
                kept |= {"backbone", *models.default_options(arguments.model, found.backbone)}
            wanted = {key: value for key, value in wanted.items() if key in kept}
        wanted["name"] = arguments.model
    if arguments.num_classes:
        wanted["num_classes"] = arguments.num_classes
    if arguments.backbone:
        wanted["backbone"] = arguments.backbone
    if arguments.norm:
        norms = arguments.norm.split(",")
        wanted["norm"] = norms[0] if len(norms) == 1 else tuple(norms)
    wanted |= dict(_option(text) for text in arguments.option)
    if arguments.backbone_only:
        backbone = arguments.backbone or (
            models.MODELS[arguments.model].backbone if arguments.model in models.MODELS else found.backbone
        )
        known = {*models.default_options(backbone), "norm"}
        wanted = {key: value for key, value in wanted.items() if key in known}
        wanted |= {"name": backbone, "num_classes": None}
    elif found.name in models.BACKBONES and arguments.model is None:
        raise InputError(
            f"{arguments.checkpoint} holds a backbone alone ({found.name}); import it with --backbone-only"
        )
    if UNKNOWN_FACTORS[0] in wanted.get("factors", ()):
        pairs = [[8, 8], [4, 4], [2, 2], [16, 16]][: len(wanted["factors"])]
        raise InputError(
            f"{arguments.checkpoint} is {found.name} with {len(pairs)} factor pairs, whose numbers no key tells: "
            f"give them, such as --option factors={str(pairs).replace(' ', '')}"
        )
    return wanted


def _option(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--option takes NAME=VALUE, found {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def verify_file(arguments) -> int:
    state_dict, found = _read(arguments.checkpoint)
    model, variables, _ = load(arguments.folder)
    expected = import_state_dict(state_dict, model, found)
    same = jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), variables, expected))
    source = {"file": Path(arguments.checkpoint).name, "sha256": _sha256(arguments.checkpoint)}
    outputs, activations = verify.run(model, variables, verify.fixed_input())
    report = verify.make_report(model, variables, outputs, activations, source) | {"variables_equal": same}
    rows = []
    if arguments.reference:
        reference = verify.read_reference(arguments.reference)
        _, activations = verify.run(model, variables, reference.pop("input").transpose(0, 2, 3, 1))
        rows = verify.compare(model, activations, reference)
        report["layers"] = [row._asdict() | {"diverges": row.diverges(arguments.tolerance)} for row in rows]
    verify.write_report(Path(arguments.folder) / "verify.json", report)
    _print_report(report, rows, arguments.tolerance)
    print(f"verify.json is in {arguments.folder}")
    return 0 if same and not any(row.diverges(arguments.tolerance) for row in rows) else 1


def _print_report(report: dict, rows: list, tolerance: float) -> None:
    console = Console(width=110)
    spec = report["model"]
    console.print(
        f"{spec['name']} on {spec['backbone']}, norms {' and '.join(spec['norm'])}, "
        f"{report['parameters']:,} parameters, SHA-256 {report['source']['sha256'][:16]}…: variables "
        + ("equal to those of the file, bit for bit" if report["variables_equal"] else "DIFFER from those of the file")
    )
    table = Table("map", "mean", "std", "min", "max", title="activations on the fixed input")
    for kind in ("taps", "outputs"):
        for name, values in report[kind].items():
            table.add_row(name, *(f"{value:.5f}" for value in values.values()))
    console.print(table)
    if not rows:
        return
    table = Table("layer", "shape", "largest", "difference", "", title="against the reference")
    for row in rows:
        mark = "diverges" if row.diverges(tolerance) else ""
        table.add_row(row.name, "x".join(map(str, row.shape)), f"{row.largest:.4g}", f"{row.difference:.2e}", mark)
    console.print(table)
    first = next((row.name for row in rows if row.diverges(tolerance)), None)
    console.print(f"the first layer that diverges is {first}" if first else f"all {len(rows)} layers agree")


def export_file(arguments) -> None:
    model, variables, _ = load(arguments.checkpoint)
    write_state_dict(export_state_dict(variables, model), arguments.out)
    print(f"exported {model.spec.name} from {arguments.checkpoint} to {arguments.out}")


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
