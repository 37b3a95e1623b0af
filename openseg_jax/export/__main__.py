"""Writes a net as one file that runs without this package: StableHLO, weights included.

    python -m openseg_jax.export runs/camvid --out camvid.stablehlo --size 360x480
    python -m openseg_jax.export runs/camvid --out camvid.stablehlo --size 512x512 --batch any --platforms cpu,cuda

The program takes uint8 images (N, H, W, 3) RGB of this size, and int32 sizes (N, 2): the true height and width of each,
for smaller images at the top left; their padding changes nothing. It gives uint8 (N, H, W) class ids, or with --logits
float32 (N, H, W, K). It is compared with the net on random input before it is written. docs/export.md loads one.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from openseg_jax import models
from openseg_jax.checkpoints import load
from openseg_jax.data.normalize import Normalization, normalize
from openseg_jax.errors import InputError, RunError, run_command

_TOLERANCE = 1e-3  # of the largest logit, or the share of pixels with another class


def make_program(model: models.Segmentor, variables: dict, normalization: Normalization, logits: bool = False):
    """(uint8 images (N, H, W, 3) RGB, int32 sizes (N, 2)) -> class ids uint8 (N, H, W), or logits float32."""
    if model.head is None or model.head.needs_labels:
        raise InputError(f"{model.spec.name} cannot predict pictures alone, so there is nothing to export")

    def program(images: jax.Array, sizes: jax.Array) -> jax.Array:
        boxes = jnp.concatenate([jnp.zeros_like(sizes), sizes], axis=1)
        normalized = normalize(images, boxes, normalization)
        found = models.apply(model, variables, normalized, sizes=sizes, upsample=True)[model.main_output]
        return found if logits else jnp.argmax(found, axis=-1).astype(jnp.uint8)

    return program


def export_checkpoint(
    checkpoint: str, out: Path, size: tuple[int, int], batch: str, platforms: list[str], logits: bool
) -> float:
    """Returns the largest error of the file's logits (or the share of other class ids) against the net's."""
    if out.exists():
        raise InputError(f"{out} exists; give another file to --out")
    model, variables, metadata = load(checkpoint)
    program = jax.jit(make_program(model, variables, metadata.normalization, logits))
    rows = export.symbolic_shape("n")[0] if batch == "any" else int(batch)
    images = jax.ShapeDtypeStruct((rows, *size, 3), jnp.uint8)
    exported = export.export(program, platforms=platforms)(images, jax.ShapeDtypeStruct((rows, 2), jnp.int32))
    data = exported.serialize()
    error = _difference(export.deserialize(data), program, size, 2 if batch == "any" else int(batch), logits)
    if error > _TOLERANCE:
        raise RunError(f"the exported program differs from the net by {error:.1e}; nothing was written")
    temporary = out.with_name(f".{out.name}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, out)
    return error


def _difference(loaded, program, size: tuple[int, int], rows: int, logits: bool) -> float:
    """On random pictures, of which the second is smaller than the canvas."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (rows, *size, 3)), jnp.uint8)
    sizes = jnp.asarray([size if row % 2 == 0 else [side // 2 + 1 for side in size] for row in range(rows)], jnp.int32)
    ours, theirs = program(images, sizes), loaded.call(images, sizes)
    if logits:
        return float(jnp.max(jnp.abs(ours - theirs)) / jnp.max(jnp.abs(ours)))
    return float(jnp.mean(ours != theirs))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m openseg_jax.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", metavar="DIR", help="of a training run, or imported")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE")
    parser.add_argument("--size", required=True, metavar="HEIGHTxWIDTH", help="of the largest images")
    parser.add_argument("--batch", default="1", help="images at a time, or any (1)")
    parser.add_argument("--platforms", default=jax.default_backend().replace("gpu", "cuda"), help="cpu, cuda, tpu")
    parser.add_argument("--logits", action="store_true", help="logits in place of class ids")
    parser.add_argument("--verbose", action="store_true", help="show tracebacks")
    a = parser.parse_args()

    def run() -> None:
        parts = a.size.split("x")
        if len(parts) != 2 or not all(part.isdigit() and int(part) for part in parts):
            raise InputError(f"--size is HEIGHTxWIDTH, such as 512x1024, found {a.size!r}")
        if a.batch != "any" and not (a.batch.isdigit() and int(a.batch)):
            raise InputError(f"--batch is a number or any, found {a.batch!r}")
        size = int(parts[0]), int(parts[1])
        error = export_checkpoint(a.checkpoint, a.out, size, a.batch, a.platforms.split(","), a.logits)
        what = "largest error relative to the largest logit" if a.logits else "share of other class ids"
        print(f"{a.out}, {a.out.stat().st_size / 2**20:.1f} MB; {what}, on random pictures: {error:.1e}")

    run_command(run, a.verbose)


if __name__ == "__main__":
    main()
