"""A net as an ONNX model, for runtimes that know nothing of JAX."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from openseg_jax.errors import InputError
from openseg_jax.export.program import ID_ERROR, LOGIT_ERROR, class_ids, id_error, logit_error, random_images


def to_onnx(
    find_logits,
    names: tuple[str, ...],
    size: tuple[int, int],
    batch: str,
    logits: bool,
    facts: Mapping[str, str] | None = None,
) -> tuple[bytes, dict[str, float]]:
    """Exports a net as an ONNX model, and compares it in ONNX Runtime on random images.

    The model maps "images", uint8 (N, H, W, 3) RGB that fill the whole size, to train ids uint8 (N, H, W) or logits
    float32 (N, H, W, K) for each of `names`. `facts` become its metadata. Other arguments are those of `to_stablehlo`.

    Returns:
        The contents of the file, and its errors by name.

    Raises:
        InputError: The packages for ONNX are missing, or the net uses an operation that is not translated.
    """
    try:
        import onnxruntime

        from openseg_jax.export.onnx_graph import Graph
    except ImportError as error:
        raise InputError("ONNX files need two more packages: pip install openseg_jax[onnx]") from error

    def both(images: jax.Array):
        found = find_logits(images)
        return *found, *class_ids(found)

    rows = export.symbolic_shape("n")[0] if batch == "any" else int(batch)
    graph = Graph(both, {"images": jax.ShapeDtypeStruct((rows, *size, 3), jnp.uint8)})
    onnxruntime.set_default_logger_severity(3)  # its warnings are about its own choices of speed
    session = onnxruntime.InferenceSession(graph.serialize(graph.outputs), providers=["CPUExecutionProvider"])
    images = random_images(3 if batch == "any" else int(batch), size)
    theirs, ours = session.run(None, {"images": images}), [np.asarray(x) for x in jax.jit(both)(images)]
    count = len(names)
    errors = {LOGIT_ERROR: logit_error(ours[:count], theirs[:count]), ID_ERROR: id_error(ours[count:], theirs[count:])}
    wanted = graph.outputs[:count] if logits else graph.outputs[count:]
    return graph.serialize(wanted, names, facts), errors
