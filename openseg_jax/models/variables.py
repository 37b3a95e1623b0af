"""Between modules and plain nested dicts: `init`, `apply`, `shapes`. The only place that knows NNX's state plumbing."""

import contextlib
import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from openseg_jax.models.backbones.blocks import Block
from openseg_jax.models.layers import BatchNorm, FeatureMap
from openseg_jax.models.segmentor import Segmentor

_COLLECTIONS = {"params": nnx.Param, "batch_stats": nnx.BatchStat}


def shapes(model: Segmentor) -> dict:
    """Returns the variables as jax.ShapeDtypeStruct: their shapes and dtypes, without making them."""
    return _map_declarations(model, lambda path, variable: variable.get_value())


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
        declared = variable.get_value()
        return jnp.asarray(variable.get_metadata()["init"](rng, declared.shape), declared.dtype)

    return _map_declarations(model, draw)


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
        variables: {"params": ..., "batch_stats": ...}, as `init` makes them.
        images: Float (N, H, W, 3), normalised.
        train: Whether batch norms use the statistics of the batch and fold them into the running ones.
        sizes: int (N, 2), the true (height, width) of each image of a padded batch. Each image then gets the logits
            it would get alone at its own size; logits beyond it are zero.
        rngs: A PRNG key (or {"dropout": key}) for dropout. Without one, training runs without dropout.
        labels: int (N, H, W), -1 for pixels to ignore, for the nets that need labels (the `ideal` ones).
        upsample: Whether logits are enlarged to the size of the images. None does what the original does, which
            leaves those of SegFix as they are. The losses can enlarge logits in less memory.
        frozen_norm: "backbone" or "all": the batch norms that use and keep their running statistics in training.
        recompute: Whether blocks of the backbone are rematerialised: activations inside them are computed again in the
            backward pass, not kept.
        maps: Whether outputs are feature maps, which know the true size of each image's logits, and not arrays.

    Returns:
        A dict of float32 (N, H, W, K) logits at the size of the images. With train=True, the pair of that and the new
        batch statistics.

    Raises:
        ValueError: The variables or the inputs do not fit the model.
    """
    modes = _Modes(upsample, frozen_norm, recompute)
    outputs, module = _run(_call, model, variables, images, train, sizes, rngs, labels, modes)
    outputs = outputs if maps else {name: x.values for name, x in outputs.items()}
    if not train:
        return outputs
    return outputs, _with_string_keys(nnx.to_pure_dict(nnx.state(module, nnx.BatchStat)))


def activations(
    model: Segmentor,
    variables: dict,
    images: jax.Array,
    sizes: jax.Array | None = None,
    labels: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """Returns what each module of the net gives in evaluation: {"backbone.conv1": (N, h, w, C), ...} by dotted path.

    This serves to find where two implementations part. A path ending in ".activate" is a norm's output behind its
    activation. Modules that return several maps are left out, and so are those that are called twice.
    """

    def captured(module, *inputs, **options):
        _, state = nnx.capture(module, nnx.Intermediate, method_outputs=nnx.Intermediate)(*inputs, **options)
        return state

    state, _ = _run(captured, model, variables, images, False, sizes, None, labels)
    result = {}
    for path, variable in nnx.to_flat_state(state):
        value = variable.get_value()
        if len(value) == 1 and isinstance(value[0], FeatureMap):
            result[".".join(str(key) for key in path).removesuffix(".__call__")] = value[0].values
    return result


def _call(module, *inputs, **options):
    return module(*inputs, **options)


class _Modes(NamedTuple):
    upsample: bool | None = None
    frozen_norm: str = ""
    recompute: bool = False


def _run(call, model, variables, images, train, sizes, rngs, labels, modes=_Modes()):  # noqa: B008
    """Returns call(module, images, ...) of the module with its variables, and the module afterwards."""
    images, sizes, labels = (None if x is None else jnp.asarray(x) for x in (images, sizes, labels))
    _check(model, variables, images, sizes, labels)
    if isinstance(rngs, dict):
        rngs = rngs["dropout"]
    graph, *states = nnx.split(model, *_COLLECTIONS.values())
    filled = [_like(nnx.to_pure_dict(state), variables[name]) for name, state in zip(_COLLECTIONS, states, strict=True)]
    module = nnx.merge(graph, *filled)
    _set_modes(module, modes)

    is_float32 = model.spec.dtype == "float32"
    compute_dtype = jnp.promote_types(images.dtype, jnp.float32) if is_float32 else jnp.dtype(model.spec.dtype)
    # float32 means float32: GPUs would otherwise round the inputs of convolutions and products to 10 bits (TF32).
    exact = jax.default_matmul_precision("float32") if is_float32 else contextlib.nullcontext()
    with exact:
        x = FeatureMap(images.astype(compute_dtype), sizes).zero_outside()
        truth = None if labels is None else FeatureMap(labels[..., None].astype(jnp.float32), sizes)
        return call(module, x, labels=truth, train=train, rngs=rngs, upsample=modes.upsample), module


def _set_modes(module: Segmentor, modes: _Modes) -> None:
    if modes.frozen_norm not in ("", "backbone", "all"):
        raise ValueError(f'frozen_norm must be "", "backbone" or "all", found {modes.frozen_norm!r}')
    parts: dict[str, list] = {"": [], "backbone": [module.backbone], "all": [module]}
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
        raise ValueError(
            f"sizes must be ({images.shape[0]}, 2), the height and width of each image, found {sizes.shape}"
        )
    needs_labels = model.head is not None and model.head.needs_labels
    if needs_labels != (labels is not None):
        raise ValueError(f"{model.spec.name} {'needs' if needs_labels else 'takes no'} labels")
    if needs_labels and (labels.shape != images.shape[:3] or not jnp.issubdtype(labels.dtype, jnp.integer)):
        raise ValueError(f"labels must be int {images.shape[:3]}, found {labels.dtype} {labels.shape}")
    wanted = shapes(model)
    if jax.tree.structure(wanted) != jax.tree.structure(variables):  # type: ignore[operator]
        differing = _paths(wanted) ^ _paths(variables)
        raise ValueError(
            f"variables do not fit {model.spec.name}: {len(differing)} leaves are missing or unknown, "
            f"such as {min(differing, default='an empty subtree')}"
        )


def _paths(tree) -> set[str]:
    return {
        jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    }


def _map_declarations(model: Segmentor, function) -> dict:
    """Returns the tree of variables with function(path, declared variable) at every leaf; keys are strings."""
    result = {}
    for name, kind in _COLLECTIONS.items():
        result[name] = {}
        for path, variable in nnx.to_flat_state(nnx.state(model, kind)):
            path = tuple(str(key) for key in path)
            node = result[name]
            for key in path[:-1]:
                node = node.setdefault(key, {})
            node[path[-1]] = function(path, variable)
    return result


def _with_string_keys(tree):
    return {str(key): _with_string_keys(value) for key, value in tree.items()} if isinstance(tree, dict) else tree


def _like(template, tree):
    """Returns the leaves of `tree` under the keys of `template`, whose list indices are integers."""
    if not isinstance(template, dict):
        return tree
    return {key: _like(value, tree[str(key)]) for key, value in template.items()}
