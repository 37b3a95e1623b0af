"""Small nets for tests, and running single modules."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from openseg_jax import models
from openseg_jax.models.layers import BatchNorm, ConvNormAct, FeatureMap
from openseg_jax.models.segmentor import Tap, Taps, TapSpec

BACKBONE = {"width": 4, "blocks": 1, "modules": (1, 1, 1), "layer1_blocks": 1, "layer1_width": 4}  # of HRNet
RESNET = {"blocks": (1, 1, 2, 2), "width": 8, "stem_width": 8}
BACKBONES = {
    "hrnet48": BACKBONE,
    "hrnet2x20": {"width": 4, "blocks": 1, "modules": (1, 1, 1, 1), "stage1_width": 4},
    "deepbase_resnet101_dilated8": RESNET,
    "deepbase_resnet101_dilated16": RESNET | {"multi_grid": (1, 2)},
    "resnet18": RESNET,
    "resnext101_32x8d_dilated8": RESNET | {"groups": 4, "group_width": 16},
    "wide_resnet38_dilated8": {"blocks": (1, 2, 1, 1, 1, 1), "width": 8},
    "deepbase_resnest50_dilated8": {"blocks": (1, 1, 2, 1), "width": 8, "stem_width": 8},
}
_OCR = {"channels": 16, "key_channels": 8, "aux_channels": 12}
_CE2P = {"channels": 16, "key_channels": 8, "edge_channels": 8, "aux_channels": 12, "detail_channels": 6}
HEADS = {
    "hrnet_w48": {},
    "hrnet_w48_ocr": _OCR,
    "hrnet_w48_ocr_b": {"channels": 12, "key_channels": 6, "aux_channels": 16},
    "hrnet_w48_asp_ocr": {"channels": 8, "out_channels": 12, "aux_channels": 16, "dilations": (2, 3, 4)},
    "fcnet": {"channels": 16, "aux_channels": 12},
    "base_ocnet": _OCR,
    "pyramid_ocnet": _OCR,
    "asp_ocnet": {"channels": 16, "width": 8, "key_channels": 4, "aux_channels": 12, "dilations": (2, 3, 4)},
    "isanet": _OCR | {"factors": ((3, 4), (2, 2))},
    "spatial_ocrnet": _OCR,
    "spatial_asp_ocrnet": {"channels": 8, "out_channels": 12, "aux_channels": 16, "dilations": (2, 3, 4)},
    "ideal_spatial_ocrnet": _OCR,
    "ideal_spatial_ocrnet_b": _OCR,
    "ideal_spatial_ocrnet_c": _OCR,
    "ideal_gather_ocrnet": _OCR,
    "ideal_distribute_ocrnet": _OCR,
    "ce2p_asp_ocrnet": _CE2P | {"dilations": (2, 3, 4)},
    "ce2p_ocrnet": _CE2P,
    "ce2p_ideal_ocrnet": _CE2P,
    "segfix_hrnet": {"channels": 8},
}


class SmallBackbone(nnx.Module):
    """Four maps at strides 2, 4, 8 and 8, each from one convolution and norm."""

    def __init__(self, channels=(8, 16, 16, 16)):
        self.layers = nnx.List(
            ConvNormAct(c_in, c_out, 3, BatchNorm, stride=stride)
            for c_in, c_out, stride in zip((3, *channels), channels, (2, 2, 2, 1), strict=False)
        )
        maps = tuple(Tap(c, s) for c, s in zip(channels, (2, 4, 8, 8), strict=True))
        self.taps = TapSpec(maps, low=maps[-2], high=maps[-1])

    def __call__(self, images, *, train):
        maps = [images]
        for layer in self.layers:
            maps.append(layer(maps[-1], train=train))
        return Taps(tuple(maps[1:]), low=maps[-2], high=maps[-1])


def create(name: str = "hrnet_w48_ocr", num_classes: int = 5, *, backbone: str | None = None, **options):
    """A named model, or a backbone, with few channels and blocks."""
    if name in BACKBONES:
        return models.create(name, **BACKBONES[name] | options)
    backbone = backbone or models.MODELS[name].backbone
    return models.create(name, num_classes, backbone=backbone, **BACKBONES[backbone] | HEADS[name] | options)


def labels_for(model, shape: tuple[int, int, int]) -> np.ndarray | None:
    """Labels (N, H, W) for the nets that are told them, with some pixels to ignore."""
    if model.head is None or not model.head.needs_labels:
        return None
    return np.random.default_rng(1).integers(-1, model.spec.num_classes, shape).astype(np.int32)


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
