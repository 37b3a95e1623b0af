"""Writes a net as one file that runs without this package, weights included: StableHLO, or ONNX by the suffix .onnx.

    python -m openseg_jax.export runs/camvid --out camvid.stablehlo --size 360x480
    python -m openseg_jax.export runs/camvid --out camvid.stablehlo --size 512x512 --batch any --platforms cpu,cuda
    python -m openseg_jax.export runs/camvid --out camvid.onnx --size 360x480 --batch any

The program takes uint8 images (N, H, W, 3) RGB of this size, and with StableHLO int32 sizes (N, 2): the true height and
width of each, for smaller images at the top left; their padding changes nothing. It gives uint8 (N, H, W) class ids, or
with --logits float32 (N, H, W, K); of a SegFix net the boundary mask, and the directions. It is compared with the net
on random pictures before it is written. docs/export.md loads one.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import jax

from openseg_jax import models
from openseg_jax.checkpoints import load
from openseg_jax.cli.arguments import parse_size
from openseg_jax.errors import InputError, RunError, run_command
from openseg_jax.export.onnx import to_onnx
from openseg_jax.export.program import make_logits, output_names
from openseg_jax.export.stablehlo import to_stablehlo

_TOLERANCE = 1e-3  # of each error


def export_checkpoint(
    checkpoint: str, out: Path, size: tuple[int, int], batch: str, platforms: str | None, logits: bool
) -> dict[str, float]:
    """Returns the errors of the file against the net: what they are, and how large.

    platforms: of StableHLO, with commas; None is the present one.
    """
    if out.exists():
        raise InputError(f"{out} exists; give another file to --out")
    is_onnx = out.suffix == ".onnx"
    if is_onnx and platforms:
        raise InputError("--platforms is for StableHLO: an ONNX file is for every platform of its runtime")
    model, variables, metadata = load(checkpoint)
    if is_onnx:  # runtimes know few operations in bfloat16
        model = models.create(**model.spec.to_dict() | {"dtype": "float32"})
    find_logits, names = make_logits(model, variables, metadata.normalization), output_names(model)
    try:
        if is_onnx:
            names = names if len(names) > 1 else ("logits" if logits else "labels",)
            data, errors = to_onnx(find_logits, names, size, batch, logits)
        else:
            platforms = platforms or jax.default_backend().replace("gpu", "cuda")
            data, errors = to_stablehlo(find_logits, size, batch, platforms.split(","), logits)
    except jax.errors.InconclusiveDimensionOperation as error:
        raise InputError(f"{model.spec.name} needs a number of images, not --batch any") from error
    for what, error in errors.items():
        if not error <= _TOLERANCE:
            raise RunError(f"the exported program differs from the net, {what} {error:.1e}; nothing was written")
    temporary = out.with_name(f".{out.name}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, out)
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m openseg_jax.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", metavar="DIR", help="of a training run, or imported")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="ONNX if it ends in .onnx")
    parser.add_argument("--size", required=True, metavar="HEIGHTxWIDTH", help="of the images, or the largest ones")
    parser.add_argument("--batch", default="1", help="images at a time, or any (1)")
    parser.add_argument("--platforms", help="of StableHLO: cpu, cuda, tpu (the present one)")
    parser.add_argument("--logits", action="store_true", help="logits in place of class ids")
    parser.add_argument("--verbose", action="store_true", help="show tracebacks")
    a = parser.parse_args()

    def run() -> None:
        size = parse_size("--size", a.size)
        if a.batch != "any" and not (a.batch.isdigit() and int(a.batch)):
            raise InputError(f"--batch is a number or any, found {a.batch!r}")
        errors = export_checkpoint(a.checkpoint, a.out, size, a.batch, a.platforms, a.logits)
        told = ", ".join(f"{what} {error:.1e}" for what, error in errors.items())
        print(f"{a.out}, {a.out.stat().st_size / 2**20:.1f} MB; on random pictures: {told}")

    run_command(run, a.verbose)


if __name__ == "__main__":
    main()
