"""The programs that jobs compile, lowered from shapes alone: nothing is read or computed."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from openseg_jax import data, sharding
from openseg_jax.config import Config
from openseg_jax.data.collate import make_collate
from openseg_jax.data.normalize import Normalization
from openseg_jax.errors import InputError
from openseg_jax.inference import Runner
from openseg_jax.inference.batches import eval_batches, input_size, net_size
from openseg_jax.inference.buckets import Size
from openseg_jax.inference.tasks import task_of
from openseg_jax.labels.refinement import refine
from openseg_jax.training.setup import make_model
from openseg_jax.training.step import TrainStep

PROGRAMS = ("train", "eval", "refine")
# What each of `data.maps` adds to a batch.
_MAPS = {
    "edge": {"edge": jnp.uint8},
    "offset": {"distance": jnp.int32, "angle": jnp.float32},
    "stereo": {"depth": jnp.float32},
}


def lower(config: Config, program: str, mesh: Mesh, size: Size | None = None) -> jax.stages.Lowered:
    """Lowers a program of a config for the devices of a mesh, which need not exist.

    Args:
        config: The config.
        program: "train", a training step on `train.batch_size` crops; "eval", the labels and counts of
            `eval.batch_size` images; or "refine", SegFix's refinement of as many label maps.
        mesh: The devices.
        size: (height, width) of the images of "eval" and "refine", by default 1024x2048.

    Raises:
        InputError: If the config does not fit the devices.
    """
    height, width = size or (1024, 2048)
    batch_size = config.eval.batch_size
    if program == "train":
        return _train(config, mesh)
    if program == "eval":
        return _evaluate(config, mesh, (height, width))
    if program != "refine":
        raise InputError(f"the program is one of {', '.join(PROGRAMS)}, found {program}")
    sharding.check_batch(mesh, "eval.batch_size", batch_size)
    shapes = [((batch_size, height, width), jnp.uint8), ((batch_size, height, width, 2), jnp.int8)]
    labels, offsets = (jax.ShapeDtypeStruct(*shape, sharding=sharding.per_image(mesh)) for shape in shapes)
    return jax.jit(refine, out_shardings=sharding.per_image(mesh)).lower(labels, offsets)


def _train(config: Config, mesh: Mesh) -> jax.stages.Lowered:
    collate = make_collate(config.augment)
    sizes = collate.sizes if collate.mode == "multi_size" else (collate.size,)
    height, width = (-(-side // collate.stride) * collate.stride for side in max(sizes, key=math.prod))
    sharding.check_batch(mesh, "train.batch_size", config.train.batch_size, height=height)
    model = make_model(config.model, len(data.class_table(config.data)))
    step = TrainStep(config, model, Normalization(**vars(config.normalization)), mesh)
    shape = config.train.batch_size, height, width
    batch = {"image": ((*shape, 3), jnp.uint8), "label": (shape, jnp.uint8), "box": ((shape[0], 4), jnp.int32)}
    for name in config.data.maps:
        batch |= {key: (shape, dtype) for key, dtype in _MAPS[name].items()}
    arrays = {key: jax.ShapeDtypeStruct(*x) for key, x in batch.items()}
    return step.compiled.lower(step.arguments, _placed(mesh, arrays))


def _placed(mesh: Mesh, batch: dict) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of the arrays of a batch, where `sharding.put_batch` puts them."""
    return {
        key: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding.of_batch(mesh, x.shape))
        for key, x in batch.items()
    }


class _Source:
    """As many black images of a size as a batch has."""

    def __init__(self, count: int, size: Size, classes):
        self.classes, self.names, self._size = classes, [str(i) for i in range(count)], size

    def __len__(self) -> int:
        return len(self.names)

    def size(self, index: int) -> Size:
        return self._size

    def __getitem__(self, index: int) -> dict:
        names = ("label", *(key for keys in _MAPS.values() for key in keys))
        return {name: np.zeros(self._size, np.uint8) for name in names} | {
            "image": np.zeros((*self._size, 3), np.uint8)
        }


def _evaluate(config: Config, mesh: Mesh, size: Size) -> jax.stages.Lowered:
    classes, settings = data.class_table(config.data), config.eval
    model = make_model(config.model, len(classes))
    readers = task_of(model, classes, config.loss.segfix).readers
    source = _Source(settings.batch_size, size, classes)
    runner = Runner(model, source, settings, readers, Normalization(**vars(config.normalization)), mesh)
    options = {"input_size": input_size(settings), "net_size": net_size(settings), "maps": runner._maps}
    (batch,) = eval_batches(source, runner.buckets, batch_size=settings.batch_size, **options)
    return runner.lower(batch.exact, _placed(mesh, batch.arrays))
