"""Between modules and plain nested dicts: `init`, `apply`, `shapes`. The only place that knows NNX's state plumbing."""

import contextlib
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.traverse_util import unflatten_dict

from openseg_jax.models.backbones.blocks import Block
from openseg_jax.models.layers import BatchNorm, FeatureMap, Folding
from openseg_jax.models.segmentor import Segmentor


class Modes(NamedTuple):
    """How modules compute in training: arguments of `apply`."""

    frozen_norm: str = ""
    recompute: bool = False


_COLLECTIONS = {"params": nnx.Param, "batch_stats": nnx.BatchStat}


def shapes(model: Segmentor) -> dict:
    """Returns the variables as jax.ShapeDtypeStruct: their shapes and dtypes, without making them."""
    return _leaves(model, lambda path, variable: variable.get_value())


def init(model: Segmentor, seed: int = 0) -> dict:
    """Draws random variables with torch's initial distributions.

    Each leaf is drawn by numpy from (seed, its own path): it is the same whatever else the net contains, and a large
    net takes a second, where jitted initialisation compiles for a minute.

    Args:
        model: What `create` returns.
        seed: The seed of every draw.

    Returns:
        {"params": ..., "batch_stats": ...}, nested dicts of float32 arrays.
    """

    def draw(path, variable):
        rng = np.random.default_rng([seed, zlib.crc32(".".join(path).encode())])
        shape, init = variable.get_value().shape, variable.get_metadata()["init"]
        values = np.full(shape, init) if isinstance(init, float) else getattr(rng, init[0])(*init[1:], shape)
        return jnp.asarray(values, jnp.float32)

    return _leaves(model, draw)


def apply(
    model: Segmentor,
    variables: dict,
    images: jax.Array,
    train: bool = False,
    sizes: jax.Array | None = None,
    rngs: jax.Array | dict | None = None,
    labels: jax.Array | None = None,
    *,
    upsample: bool | None = None,
    frozen_norm: str = "",
    recompute: bool = False,
    maps: bool = False,
):
    """Runs the net.

    Args:
        model: What `create` returns.
        variables: {"params": ..., "batch_stats": ...}, as `init` makes them; for evaluation also what `folded` makes.
        images: Float (N, H, W, 3), normalised.
        train: Whether batch norms use the statistics of the batch and fold them into the running ones.
        sizes: int (N, 2), the true (height, width) of each image of a padded batch. Each image then gets the logits
            it would get alone at its own size; logits beyond it are zero.
        rngs: A PRNG key (or {"dropout": key}) for dropout. Without one, training runs without dropout.
        labels: int (N, H, W), -1 for pixels to ignore, for the nets that need labels (the `ideal` ones).
        upsample: Whether logits are enlarged to the size of the images; None leaves those of SegFix as they are, as in
            the original. The losses can enlarge logits in less memory.
        frozen_norm: "backbone" or "all": the batch norms that use and keep their running statistics in training.
        recompute: Whether activations inside blocks of the backbone are computed again in the backward pass, not kept.
        maps: Whether outputs are feature maps, which know the true size of each image's logits, and not arrays.

    Returns:
        A dict of float32 (N, H, W, K) logits at the size of the images; if `train`, with the new batch statistics.

    Raises:
        ValueError: The variables or the inputs do not fit the model.
    """
    inputs, modes = (images, train, sizes, rngs, labels), Modes(frozen_norm, recompute)
    with _folding(None if train else Folding(variables.get("folded"))):
        outputs, module = _run(type(model).__call__, model, variables, *inputs, upsample, modes)
    outputs = outputs if maps else {name: x.values for name, x in outputs.items()}
    if not train:
        return outputs
    return outputs, _leaves(module, lambda path, variable: variable.get_value())["batch_stats"]


def folded(model: Segmentor, variables: dict) -> dict:
    """Returns the variables with the batch norms folded into the convolutions before them, for evaluation.

    `apply` does it itself where it is not given such variables; for many batches it needs to be done only once. To be
    compiled: it calls the net on an image of which nothing is computed.
    """
    image = jnp.zeros((1, 64, 64, 3), jnp.float32)
    labels = jnp.zeros((1, 64, 64), jnp.int32) if model.head is not None and model.head.needs_labels else None
    folding = Folding()
    with _folding(folding):
        _run(type(model).__call__, model, variables, image, False, None, None, labels)
    return {**variables, "folded": folding.found}


@contextlib.contextmanager
def _folding(folding: Folding | None) -> Iterator[None]:
    token = Folding.current.set(folding)
    try:
        yield
    finally:
        Folding.current.reset(token)


def activations(model: Segmentor, variables: dict, images: jax.Array, sizes=None, labels=None) -> dict[str, jax.Array]:
    """Returns what each module of the net gives in evaluation: {"backbone.conv1": (N, h, w, C), ...} by dotted path.

    This serves to find where two implementations part. A path ending in ".activate" is a norm's output behind its
    activation. Modules that return several maps are left out, and so are those that are called twice.
    """
    captured = nnx.capture(type(model).__call__, nnx.Intermediate, method_outputs=nnx.Intermediate)
    (_, state), _ = _run(captured, model, variables, images, False, sizes, None, labels)
    result = {}
    for path, variable in nnx.to_flat_state(state):
        found = variable.get_value()
        same = all(getattr(x, "values", None) is found[0].values for x in found[1:]) if found else False
        if path[-1] in ("__call__", "activate") and isinstance(found[0], FeatureMap) and same:
            result[".".join(str(key) for key in path).removesuffix(".__call__")] = found[0].values
    return result


def _run(call, model, variables, images, train, sizes, rngs, labels, upsample=None, modes=Modes()):  # noqa: B008
    """Returns call(module, images, ...) of the module with its variables, and the module afterwards."""
    images, sizes, labels = (None if x is None else jnp.asarray(x) for x in (images, sizes, labels))
    _check(model, variables, images, sizes, labels)
    if isinstance(rngs, dict):
        rngs = rngs["dropout"]
    graph, *states = nnx.split(model, *_COLLECTIONS.values())
    for name, state in zip(_COLLECTIONS, states, strict=True):
        nnx.replace_by_pure_dict(state, variables[name])
    module = nnx.merge(graph, *states)
    _set_modes(module, modes)

    is_float32 = model.spec.dtype == "float32"
    compute_dtype = jnp.promote_types(images.dtype, jnp.float32) if is_float32 else jnp.dtype(model.spec.dtype)
    # float32 means float32: GPUs would otherwise round the inputs of convolutions and products to 10 bits (TF32).
    exact = jax.default_matmul_precision("float32") if is_float32 else contextlib.nullcontext()
    with exact:
        x = FeatureMap(images.astype(compute_dtype), sizes).zero_outside()
        truth = None if labels is None else FeatureMap(labels[..., None].astype(jnp.float32), sizes)
        return call(module, x, labels=truth, train=train, rngs=rngs, upsample=upsample), module


def _set_modes(module: Segmentor, modes: Modes) -> None:
    parts: dict[str, list] = {"": [], "backbone": [module.backbone], "all": [module]}
    if modes.frozen_norm not in parts:
        raise ValueError(f'frozen_norm must be "", "backbone" or "all", found {modes.frozen_norm!r}')
    for part in parts[modes.frozen_norm]:
        for _, norm in nnx.iter_modules(part):
            if isinstance(norm, BatchNorm):
                norm.frozen = True
    if modes.recompute:
        for _, block in nnx.iter_modules(module.backbone):
            if isinstance(block, Block):
                block.recompute = True


def _check(model, variables, images, sizes, labels) -> None:
    if images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images must be (N, H, W, 3), found {images.shape}")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images must be floating point and normalised, found {images.dtype}")
    if sizes is not None and sizes.shape != (images.shape[0], 2):
        raise ValueError(f"sizes must be ({len(images)}, 2), the height and width of each image, found {sizes.shape}")
    needs_labels = model.head is not None and model.head.needs_labels
    if needs_labels != (labels is not None):
        raise ValueError(f"{model.spec.name} {'needs' if needs_labels else 'takes no'} labels")
    if needs_labels and (labels.shape != images.shape[:3] or not jnp.issubdtype(labels.dtype, jnp.integer)):
        raise ValueError(f"labels must be int {images.shape[:3]}, found {labels.dtype} {labels.shape}")
    wanted = shapes(model)
    given = {name: tree for name, tree in variables.items() if name != "folded"}
    if jax.tree.structure(wanted) != jax.tree.structure(given):  # type: ignore[operator]
        differing = _paths(wanted) ^ _paths(given)
        raise ValueError(
            f"variables do not fit {model.spec.name}: {len(differing)} leaves are missing or unknown, "
            f"such as {min(differing, default='an empty subtree')}"
        )


def _paths(tree) -> set[str]:
    return {
        jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    }


def _leaves(module: Segmentor, function) -> dict:
    """Returns the tree of variables with function(path, variable) at every leaf; keys are strings."""
    result = {}
    for name, kind in _COLLECTIONS.items():
        flat = {tuple(map(str, path)): leaf for path, leaf in nnx.to_flat_state(nnx.state(module, kind))}
        result[name] = unflatten_dict({path: function(path, leaf) for path, leaf in flat.items()})
    return result
