"""A net as a StableHLO program, which JAX runs on any of the platforms it is made for."""

from pathlib import Path

import jax
import jax.numpy as jnp
from jax import export

from openseg_jax.errors import InputError
from openseg_jax.export.program import ID_ERROR, LOGIT_ERROR, class_ids, id_error, logit_error, random_images


def to_stablehlo(
    find_logits, size: tuple[int, int], batch: str, platforms: list[str], logits: bool
) -> tuple[bytes, dict[str, float]]:
    """Exports a net as a serialized program, and compares the two on random images.

    The program maps uint8 images (N, H, W, 3) RGB and int32 sizes (N, 2) to train ids uint8 (N, H, W), or to logits
    float32 (N, H, W, K). A SegFix net gives a pair of these.

    Args:
        find_logits: What `make_logits` returns.
        size: (height, width) of the images, or of the largest ones.
        batch: The number of images, or "any".
        platforms: The platforms to compile for: "cpu", "cuda", "tpu".
        logits: Whether the program gives logits in place of train ids.

    Returns:
        The contents of the file, and its errors by name. Every second image is smaller than the canvas.
    """

    @jax.jit
    def program(images: jax.Array, sizes: jax.Array):
        found = find_logits(images, sizes)
        found = found if logits else class_ids(found)
        return found if len(found) > 1 else found[0]

    rows = export.symbolic_shape("n")[0] if batch == "any" else int(batch)
    images = jax.ShapeDtypeStruct((rows, *size, 3), jnp.uint8)
    exported = export.export(program, platforms=platforms)(images, jax.ShapeDtypeStruct((rows, 2), jnp.int32))
    data = exported.serialize()

    rows = 2 if batch == "any" else int(batch)
    sizes = jnp.asarray([size if row % 2 == 0 else [side // 2 + 1 for side in size] for row in range(rows)], jnp.int32)
    images = jnp.asarray(random_images(rows, size))
    pair = (jax.tree.leaves(call(images, sizes)) for call in (program, export.deserialize(data).call))
    return data, {LOGIT_ERROR: logit_error(*pair)} if logits else {ID_ERROR: id_error(*pair)}


def load(file: Path) -> export.Exported:
    """Reads an exported program.

    Raises:
        InputError: This JAX cannot read it. JAX promises to read what a version of the last six months wrote.
    """
    try:
        return export.deserialize(bytearray(file.read_bytes()))
    except Exception as error:
        raise InputError(
            f"{file} cannot be read by jax {jax.__version__}: export the checkpoint again, "
            "or use a version of JAX at most six months newer than the one that wrote it"
        ) from error
