"""A net as a StableHLO program, which JAX runs on any of the platforms it is made for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import export

from openseg_jax.export.program import ID_ERROR, LOGIT_ERROR, class_ids, id_error, logit_error, random_images


def to_stablehlo(
    find_logits, size: tuple[int, int], batch: str, platforms: list[str], logits: bool
) -> tuple[bytes, dict[str, float]]:
    """The contents of a file, and its errors on random pictures, of which the second is smaller than the canvas.

    The program: (uint8 images (N, H, W, 3) RGB, int32 sizes (N, 2)) -> class ids uint8 (N, H, W), or logits float32
    (N, H, W, K); for SegFix a pair of these.
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
