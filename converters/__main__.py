"""PyTorch checkpoints in and out.

    python -m converters inspect CKPT.pth
    python -m converters import CKPT.pth --model hrnet_w48_ocr --num-classes 19 --out DIR
    python -m converters import hrnetv2_w48_imagenet_pretrained.pth --backbone-only --out DIR
    python -m converters export DIR --out CKPT.pth

What `import` writes is a checkpoint like those of training: eval.py and openseg_jax.predict run it, and
`train.py --config.pretrained.checkpoint=DIR` starts from it. Without --model it imports what it recognises.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from rich.console import Console
from rich.table import Table

from converters import export_state_dict, import_state_dict, read_state_dict, recognise, write_state_dict
from converters.convert import normalise_keys
from openseg_jax import models
from openseg_jax.checkpoints import Checkpoints, Metadata, load
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

    command = commands.add_parser("export", help="checkpoint folder -> PyTorch checkpoint of the original")
    command.add_argument("checkpoint", metavar="DIR")
    command.add_argument("--out", required=True, metavar="CKPT.pth")
    command.set_defaults(run=export_file)

    arguments = parser.parse_args()
    run_command(lambda: arguments.run(arguments), arguments.verbose)


def inspect_file(arguments) -> int:
    state_dict = normalise_keys(read_state_dict(arguments.checkpoint))
    found = recognise(state_dict)
    table = Table("", "found", show_header=False)
    rows = {
        "model": found.name,
        "backbone": found.backbone,
        "norm of the backbone": found.norm[0],
        "norm of the head": found.norm[1],
        "classes": found.num_classes,
        "options": ", ".join(f"{key}={value}" for key, value in found.options.items()) or None,
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


def import_file(arguments) -> None:
    out = Path(arguments.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty; give a new folder to --out")
    state_dict = normalise_keys(read_state_dict(arguments.checkpoint))
    model = models.create(**_wanted(arguments, recognise(state_dict)))
    classes = load_classes(arguments.classes) if arguments.classes else None
    if classes and model.spec.num_classes not in (None, len(classes)):
        raise InputError(f"{classes.title} has {len(classes)} classes, the checkpoint {model.spec.num_classes}")
    variables = import_state_dict(state_dict, model)
    normalization = Normalization(arguments.channels, arguments.divisor, arguments.mean, arguments.std)
    source = {"file": Path(arguments.checkpoint).name, "sha256": _sha256(arguments.checkpoint)}
    checkpoints = Checkpoints(out)
    checkpoints.save(variables, Metadata(model.spec.to_dict(), normalization, classes, extra={"source": source}))
    checkpoints.close()
    spec = model.spec
    details = f"{spec.num_classes} classes, " if spec.num_classes else ""
    print(f"imported {spec.name} ({details}norms {' and '.join(spec.norm)}) from {arguments.checkpoint} to {out}")


def _wanted(arguments, found) -> dict:
    """Arguments of models.create: what was asked for, and for the rest what was recognised."""
    if arguments.model is None and found.name is None:
        raise InputError(f"{arguments.checkpoint} is none of the models of openseg_jax; name one with --model")
    wanted = found.create_arguments()
    if arguments.model:
        models.default_options(arguments.model)  # an unknown name ends here
        if arguments.model != found.name:
            wanted = {key: wanted[key] for key in ("num_classes", "norm")}
        wanted["name"] = arguments.model
    if arguments.num_classes:
        wanted["num_classes"] = arguments.num_classes
    if arguments.backbone:
        wanted["backbone"] = arguments.backbone
    if arguments.norm:
        norms = arguments.norm.split(",")
        wanted["norm"] = norms[0] if len(norms) == 1 else tuple(norms)
    if arguments.backbone_only:
        backbone = arguments.backbone or (
            models.MODELS[arguments.model].backbone if arguments.model else found.backbone
        )
        wanted |= {"name": backbone, "num_classes": None}
        wanted.pop("backbone", None)
    elif found.name in models.BACKBONES and arguments.model is None:
        raise InputError(
            f"{arguments.checkpoint} holds a backbone alone ({found.name}); import it with --backbone-only"
        )
    return wanted


def export_file(arguments) -> None:
    model, variables, _ = load(arguments.checkpoint)
    write_state_dict(export_state_dict(variables, model), arguments.out)
    print(f"exported {model.spec.name} from {arguments.checkpoint} to {arguments.out}")


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
