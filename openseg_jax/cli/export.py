"""Writes a net as one file that runs without this package, weights included: StableHLO, or ONNX by the suffix .onnx.

    openseg export runs/camvid --out camvid.stablehlo --size 360x480
    openseg export runs/camvid --out camvid.stablehlo --size 512x512 --batch any --platforms cpu,cuda
    openseg export runs/camvid --out camvid.onnx --size 360x480 --batch any

The program takes uint8 images (N, H, W, 3) RGB of this size, and with StableHLO int32 sizes (N, 2): the true height and
width of each, for smaller images at the top left; their padding changes nothing. It gives uint8 (N, H, W) train
ids, which are places in the list of classes, or with --logits float32 (N, H, W, K); of a SegFix net the boundary mask,
and the directions. The classes, with their ids in masks, are in the metadata of an ONNX file, and in FILE.json beside a
StableHLO file. The program is compared with the net on random images before it is written. docs/export.md loads one.
"""

import json
from pathlib import Path

from openseg_jax.cli.arguments import CHECKPOINT, add_command, size
from openseg_jax.errors import InputError, RunError

TOLERANCE = 1e-3  # of each error of the file against the net


def add(commands) -> None:
    command = add_command(commands, "export", __doc__, run)
    command.add_argument("checkpoint", **CHECKPOINT)
    command.add_argument("--out", required=True, type=Path, metavar="FILE", help="a new file, .onnx or .stablehlo")
    command.add_argument(
        "--size", required=True, type=size, metavar="HEIGHTxWIDTH", help="size of the images, or the largest one"
    )
    command.add_argument("--batch", default="1", metavar="N|any", help="images at a time (%(default)s)")
    command.add_argument("--platforms", help="for StableHLO: cpu, cuda, tpu, with commas (the present one)")
    command.add_argument("--logits", action="store_true", help="logits in place of train ids")


def run(arguments) -> None:
    out, size, batch = arguments.out, arguments.size, arguments.batch
    if batch != "any" and not (batch.isdigit() and int(batch)):
        raise InputError(f"--batch is a number or any, found {batch!r}")
    is_onnx = out.suffix.lower() == ".onnx"
    if not is_onnx and out.suffix.lower() != ".stablehlo":
        raise InputError(f"--out ends in .onnx or .stablehlo, which says what is written, found {out.name!r}")
    if is_onnx and arguments.platforms:
        raise InputError("--platforms is for StableHLO: an ONNX file is for every platform of its runtime")

    import jax

    from openseg_jax import files, models
    from openseg_jax.agreement import settings_of_run
    from openseg_jax.config import EvalSettings
    from openseg_jax.converters import load
    from openseg_jax.export.onnx import to_onnx
    from openseg_jax.export.program import make_logits, output_names
    from openseg_jax.export.stablehlo import to_stablehlo
    from openseg_jax.results import refuse_existing

    about = out.with_name(f"{out.name}.json")  # a StableHLO file has no place for it
    refuse_existing(out)
    if not is_onnx:
        refuse_existing(about)
    model, variables, metadata = load(arguments.checkpoint)
    if is_onnx:  # runtimes know few operations in bfloat16
        model = models.create(**model.spec.to_dict() | {"dtype": "float32"})
    facts = {"classes": json.dumps(metadata.classes.to_dict())} if metadata.classes else {}
    find_logits, names = make_logits(model, variables, metadata.normalization), output_names(model)
    try:
        if is_onnx:
            names = names if len(names) > 1 else ("logits" if arguments.logits else "labels",)
            data, errors = to_onnx(find_logits, names, size, batch, arguments.logits, facts)
        else:
            platforms = arguments.platforms or jax.default_backend().replace("gpu", "cuda")
            data, errors = to_stablehlo(find_logits, size, batch, platforms.split(","), arguments.logits)
    except jax.errors.InconclusiveDimensionOperation as error:
        raise InputError(f"{model.spec.name} needs a number of images, not --batch any") from error
    for what, difference in errors.items():
        if not difference <= TOLERANCE:
            raise RunError(f"the exported program differs from the net, {what} {difference:.1e}; nothing was written")
    files.write_bytes(out, data)
    if facts and not is_onnx:
        files.write_text(about, facts["classes"] + "\n")
    found = ", ".join(f"{what} {difference:.1e}" for what, difference in errors.items())
    print(f"{out}, {len(data) / 2**20:.1f} MB; on random images: {found}")
    _, tested = settings_of_run(EvalSettings(), metadata)
    if tested:
        text = ", ".join(f"eval.{name}={value}" for name, value in tested.items())
        print(f"the program does not do what the run of the checkpoint was validated with, so do it before: {text}")
