"""Small nets for tests, and running single modules."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from openseg_jax import models
from openseg_jax.models.layers import FeatureMap

BACKBONE = {"width": 4, "blocks": 1, "modules": (1, 1, 1), "layer1_blocks": 1, "layer1_width": 4}
HEADS = {
    "": {},
    "_ocr": {"channels": 16, "key_channels": 8, "aux_channels": 12},
    "_ocr_b": {"channels": 12, "key_channels": 6, "aux_channels": 16},
    "_asp_ocr": {"channels": 8, "out_channels": 12, "aux_channels": 16, "dilations": (2, 3, 4)},
}


def create(suffix: str = "_ocr", num_classes: int = 5, **options):
    return models.create(f"hrnet_w48{suffix}", num_classes, **BACKBONE | HEADS[suffix] | options)


def random_variables(model, seed: int = 0) -> dict:
    """Variables of which none is 0 or 1: as after some training."""
    rng = np.random.default_rng(seed)
    variables = models.init(model, seed)

    def perturb(path, x):
        leaf = path[-1].key
        if leaf in ("scale", "var"):
            return jnp.asarray(rng.uniform(0.5, 1.5, x.shape), x.dtype)
        if leaf in ("mean", "bias"):
            return jnp.asarray(rng.normal(0, 0.2, x.shape), x.dtype)
        return x * 1.5

    return jax.tree_util.tree_map_with_path(perturb, variables)


def run_module(module: nnx.Module, values: dict, *inputs, **keywords):
    """Calls a module whose leaves are values["dotted.path"]. Returns its outputs, and the leaves afterwards."""
    graph, state = nnx.split(module)
    leaves = [(path, leaf.replace(jnp.asarray(values[_dotted(path)]))) for path, leaf in nnx.to_flat_state(state)]
    filled = nnx.merge(graph, nnx.from_flat_state(leaves))
    outputs = filled(*inputs, **keywords)
    after = {_dotted(path): leaf.get_value() for path, leaf in nnx.to_flat_state(nnx.state(filled))}
    return outputs, after


def _dotted(path) -> str:
    return ".".join(map(str, path))


def paths(module: nnx.Module) -> dict[str, tuple[int, ...]]:
    """Dotted path and shape of every leaf of a module."""
    return {_dotted(path): leaf.get_value().shape for path, leaf in nnx.to_flat_state(nnx.state(module))}


def feature_map(array) -> FeatureMap:
    return FeatureMap(jnp.asarray(array))
